#!/bin/sh
# Gets MariaDB, so that syncgate can start a private database on this machine.
#
#   deploy/get-mariadb.sh          gets the database server
#   deploy/get-mariadb.sh --tests  also gets what `make test` can use: a C compiler for
#                                  the race detector, and optionally chromium, promtool
#                                  and two Python modules
#
# It does nothing when everything is installed. As root on Debian or Ubuntu it installs
# packages. For the server it installs only mariadb-server-core, which holds the program
# and no service, so no system database starts, neither now nor at the next boot. As an
# ordinary user it unpacks the same package into ${XDG_CACHE_HOME:-~/.cache}/syncgate/mariadb,
# where store/localdb looks for it. On other systems it prints what to do and exits with 1.
set -eu

export LC_ALL=C DEBIAN_FRONTEND=noninteractive
cache=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/syncgate
scratch=

say() { printf '%s\n' "get-mariadb: $*" >&2; }

fail() {
	say "$1"
	say "Install MariaDB 10.5 or newer (the program mariadbd), or give syncgate the DSN of a running server with --dsn."
	exit 1
}

# quietly WHAT COMMAND... prints one line with a dot every two seconds. show_log prints the command's output.
quietly() {
	what=$1
	shift
	printf '%s' "get-mariadb: $what " >&2
	"$@" >"$scratch/log" 2>&1 </dev/null &
	job=$!
	while kill -0 "$job" 2>/dev/null; do
		sleep 0.2
		tick=$(((${tick:-0} + 1) % 10))
		if [ "$tick" -eq 0 ]; then printf '.' >&2; fi
	done
	if wait "$job"; then
		printf ' done\n' >&2
		return 0
	fi
	printf ' failed\n' >&2
	return 1
}

# have_server searches the same folders as store/localdb.
have_server() {
	for dir in $(printf '%s' "$PATH" | tr ':' ' ') /usr/sbin /usr/local/sbin /usr/libexec /usr/bin /usr/local/bin \
		/usr/local/mariadb/bin; do
		if [ -x "$dir/mariadbd" ] && "$dir/mariadbd" --no-defaults --version >/dev/null 2>&1; then return 0; fi
	done
	unpacked_runs "$cache/mariadb"
}

unpacked_runs() {
	[ -x "$1/usr/sbin/mariadbd" ] || return 1
	libs=$(ls -d "$1"/usr/lib/*-linux-* "$1"/lib/*-linux-* "$1"/usr/lib "$1"/lib 2>/dev/null | tr '\n' ':')
	LD_LIBRARY_PATH=${libs%:} "$1/usr/sbin/mariadbd" --no-defaults --version >/dev/null 2>&1
}

have_compiler() { command -v gcc >/dev/null 2>&1; }

have_python() { [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import cryptography, cbor2' 2>/dev/null; }

# apt ARGUMENTS... runs apt-get with the options in $options.
apt() {
	# shellcheck disable=SC2086 # they are words
	apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 $options "$@"
}

# packages prints the names of the packages. On Debian 11 and Ubuntu 22.04 a name holds the version.
packages() {
	for kind in server client; do
		# shellcheck disable=SC2086 # they are words
		apt-cache $options pkgnames "mariadb-$kind-core" | sort | head -n 1
	done
}

# with_lists COMMAND... runs a command. It first fetches the package lists when there are none.
# When the command fails with old lists, it fetches the lists and runs the command again.
with_lists() {
	fresh_lists=
	if [ -z "$(packages)" ]; then refresh || return 1; fi
	if "$@"; then return 0; fi
	if [ -n "$fresh_lists" ]; then return 1; fi
	refresh && "$@"
}

# refresh fetches the package lists: as root the system's, otherwise the user's own.
refresh() {
	if [ "$(id -u)" -ne 0 ]; then options="$options -o Dir::State::lists=$apt_home/lists"; fi
	fresh_lists=1
	quietly "fetching the package lists" apt update
}

install_server() {
	names=$(packages)
	[ -n "$names" ] || return 1
	# shellcheck disable=SC2086 # they are words
	quietly "installing $(echo $names)" apt install --no-install-recommends $names
}

install_as_root() {
	options=
	with_lists install_server
}

# unpack_for_user only reads the system's package database. It downloads the missing packages,
# for which apt-get checks the archive's signatures, and unpacks them.
unpack_for_user() {
	apt_home=$cache/apt
	mkdir -p "$apt_home/lists/partial" "$apt_home/archives/partial" "$apt_home/log"
	options="-o Debug::NoLocking=1 -o Dir::Log=$apt_home/log"
	options="$options -o Dir::Cache=$apt_home -o Dir::Cache::archives=$apt_home/archives"
	with_lists download_server || return 1
	fresh=$(mktemp -d "$cache/mariadb.XXXXXX")
	for deb in "$apt_home"/archives/*.deb; do
		dpkg-deb -x "$deb" "$fresh"
	done
	if ! unpacked_runs "$fresh"; then
		rm -rf "$fresh"
		return 1
	fi
	rm -rf "$cache/mariadb" "$apt_home"
	mv "$fresh" "$cache/mariadb"
	say "unpacked into $cache/mariadb"
}

download_server() {
	names=$(packages)
	[ -n "$names" ] || return 1
	rm -f "$apt_home"/archives/*.deb
	# shellcheck disable=SC2086 # they are words
	quietly "downloading $(echo $names)" apt install --download-only --no-install-recommends $names
}

get_server() {
	have_server && return 0
	command -v apt-get >/dev/null 2>&1 || fail "MariaDB is not installed, and there is no apt-get to get it."
	if [ "$(id -u)" -eq 0 ]; then
		install_as_root || show_log "MariaDB could not be installed."
	else
		case $cache in *[\ \	]*)
			fail "MariaDB is not installed, and apt-get cannot use a cache folder with a space in its name: $cache"
			;;
		esac
		command -v dpkg-deb >/dev/null 2>&1 || fail "MariaDB is not installed, and there is no dpkg-deb to unpack it."
		mkdir -p "$cache" 2>/dev/null ||
			fail "MariaDB is not installed, and the cache folder $cache cannot be created. Set XDG_CACHE_HOME."
		unpack_for_user || show_log "MariaDB could not be fetched."
	fi
	have_server || fail "MariaDB was fetched, but mariadbd --version does not run."
}

show_log() {
	tail -n 15 "$scratch/log" >&2 2>/dev/null || true
	fail "$1"
}

get_test_tools() {
	[ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1 || return 0
	options=
	if ! have_compiler; then
		with_lists quietly "installing gcc" apt install --no-install-recommends gcc libc6-dev ||
			show_log "gcc, which the race detector needs, could not be installed."
	fi
	command -v chromium >/dev/null 2>&1 || optional chromium "tests of the status page in a browser" \
		apt install --no-install-recommends chromium
	have_python || optional python3-modules "tests that use them" \
		apt install --no-install-recommends python3 python3-cryptography python3-cbor2
	command -v promtool >/dev/null 2>&1 || optional promtool "tests of the alert rules" install_promtool
}

# optional NAME TESTS COMMAND... runs the command that installs NAME. One attempt is enough: an archive without NAME must
# not cost a minute at every run.
optional() {
	name=$1 tests=$2
	shift 2
	if [ -e "$cache/no-$name" ] || with_lists quietly "installing $name" "$@"; then return 0; fi
	say "$name cannot be installed; $tests are skipped"
	mkdir -p "$cache" && : >"$cache/no-$name"
}

# install_promtool takes the one program out of the package prometheus, which would also start a service.
install_promtool() {
	(cd "$scratch" && apt download prometheus && dpkg-deb -x prometheus_*.deb prometheus &&
		install prometheus/usr/bin/promtool /usr/local/bin)
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
case ${1:-} in
'') get_server ;;
--tests) get_server && get_test_tools ;;
*)
	say "usage: deploy/get-mariadb.sh [--tests]"
	exit 2
	;;
esac
