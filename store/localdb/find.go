package localdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrNotFound is returned by Start where no usable server binary is installed.
var ErrNotFound = errors.New("no mariadbd found: run `make deps`, or `apt-get install mariadb-server`, " +
	"or give the DSN of a running server")

// installDirs are searched after $PATH, which seldom has the sbin folders for an ordinary user.
var installDirs = []string{
	"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/bin", "/usr/local/bin", "/usr/local/mariadb/bin",
}

// binary is a mariadbd and the files that belong to it.
type binary struct {
	path         string   // absolute, links resolved
	base         string   // --basedir: the prefix it is installed under
	bootstrapSQL []string // files that make the system tables, in the order of mariadb-install-db
	env          []string // added to the environment: LD_LIBRARY_PATH for an unpacked copy
}

// findInstalled returns the first usable server binary: $PATH, the usual install folders, then
// $XDG_CACHE_HOME/syncgate/mariadb, where deploy/get-mariadb.sh unpacks one for a user who may not install it.
func findInstalled(ctx context.Context) (binary, error) {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), installDirs...)
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = "/nonexistent" // no home directory: then there is no cache either
	}
	return find(ctx, dirs, filepath.Join(cache, "syncgate", "mariadb"))
}

func find(ctx context.Context, dirs []string, cache string) (binary, error) {
	failures := []error{ErrNotFound}
	unpacked := filepath.Join(cache, "usr/sbin")
	for _, dir := range append(dirs, unpacked) {
		path := filepath.Join(dir, "mariadbd")
		if _, err := exec.LookPath(path); err != nil {
			continue
		}
		root := ""
		if dir == unpacked {
			root = cache
		}
		b, err := inspect(ctx, path, root)
		if err == nil {
			return b, nil
		}
		failures = append(failures, err)
	}
	return binary{}, errors.Join(failures...)
}

// inspect runs path --version and looks for the files beside it. root is the folder of an unpacked copy, empty for
// an installed one.
func inspect(ctx context.Context, path, root string) (binary, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return binary{}, err
	}
	b := binary{path: path, base: filepath.Dir(filepath.Dir(path))}
	if root != "" {
		var libraries []string
		for _, pattern := range []string{"usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib", "lib"} {
			found, _ := filepath.Glob(filepath.Join(root, pattern)) // fails on a bad pattern alone
			libraries = append(libraries, found...)
		}
		b.env = []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":")}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--no-defaults", "--version")
	cmd.Env = b.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return binary{}, fmt.Errorf("%s --version: %w: %s", path, err, said)
	}
	const last = "maria_add_gis_sp_bootstrap.sql"
	scripts := filepath.Dir(first(b.base, "share/mysql/"+last, "share/mariadb/"+last, "share/"+last))
	for _, name := range []string{"system_tables.sql", "performance_tables.sql", "system_tables_data.sql", last} {
		file := first(scripts, name, "mariadb_"+name, "mysql_"+name) // MariaDB 11 renamed mysql_ to mariadb_
		if file == "" {
			return binary{}, fmt.Errorf("%s has no %s under %s", path, name, filepath.Join(b.base, "share"))
		}
		b.bootstrapSQL = append(b.bootstrapSQL, file)
	}
	return b, nil
}

// environ is the environment of a run. systemd expects the notification from syncgate, and mariadbd would send one
// even for --version.
func (b *binary) environ() []string { return append(append(os.Environ(), "NOTIFY_SOCKET="), b.env...) }

// client is the command line client that came with the server, as it would be typed, or plain "mariadb" when none is
// beside it.
func (b *binary) client() string {
	path := first(b.base, "bin/mariadb", "bin/mysql")
	if path == "" {
		return "mariadb"
	}
	return strings.Join(append(b.env, path), " ")
}

// first is the first of names that exists under dir, empty when none does.
func first(dir string, names ...string) string {
	for _, name := range names {
		if path := filepath.Join(dir, name); exists(path) {
			return path
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
