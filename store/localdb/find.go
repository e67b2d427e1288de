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

// ErrNotFound is returned by New where no usable server binary is installed.
var ErrNotFound = errors.New("no mariadbd or mysqld found: run `make deps`, or `apt-get install mariadb-server`, or give the DSN of a running server")

// installDirs are searched after $PATH, which seldom has the sbin folders for
// an ordinary user.
var installDirs = []string{"/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/bin", "/usr/local/bin", "/usr/local/mysql/bin", "/usr/local/mariadb/bin"}

// Binary is a server program and the files that belong to it.
type Binary struct {
	Path    string   // absolute, links resolved
	Base    string   // --basedir: the prefix it is installed under
	Share   string   // messages, character sets and the bootstrap SQL; may be empty for MySQL
	Plugins string   // --plugin-dir; empty when there is none
	Version string   // what --version printed
	MySQL   bool     // Oracle's (or Percona's) MySQL, not MariaDB
	Env     []string // added to the environment: LD_LIBRARY_PATH for an unpacked copy
}

// CacheDir is where deploy/get-mariadb.sh unpacks a server for a user who can't
// install one: $XDG_CACHE_HOME/syncgate/mariadb.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "syncgate", "mariadb"), nil
}

// Find returns the first usable server binary: $PATH, the usual install
// folders, then CacheDir.
func Find(ctx context.Context) (Binary, error) {
	dirs := append(filepath.SplitList(os.Getenv("PATH")), installDirs...)
	cache, err := CacheDir()
	if err != nil {
		cache = "" // no home directory: then there is no cache either
	}
	return find(ctx, dirs, cache)
}

func find(ctx context.Context, dirs []string, cache string) (Binary, error) {
	type candidate struct{ path, root string }
	var all []candidate
	for _, name := range []string{"mariadbd", "mysqld"} {
		for _, dir := range dirs {
			all = append(all, candidate{path: filepath.Join(dir, name)})
		}
	}
	if cache != "" {
		all = append(all, candidate{filepath.Join(cache, "usr/sbin/mariadbd"), cache}, candidate{filepath.Join(cache, "usr/sbin/mysqld"), cache})
	}
	var unusable []error
	for _, c := range all {
		info, err := os.Stat(c.path)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		b, err := inspect(ctx, c.path, c.root)
		if err == nil {
			return b, nil
		}
		unusable = append(unusable, err)
	}
	if len(unusable) > 0 {
		return Binary{}, fmt.Errorf("localdb: %w (%w)", ErrNotFound, errors.Join(unusable...))
	}
	return Binary{}, fmt.Errorf("localdb: %w", ErrNotFound)
}

// inspect runs path --version and looks for the files beside it. root is the
// folder an unpacked copy lives under, empty for an installed one.
func inspect(ctx context.Context, path, root string) (Binary, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Binary{}, err
	}
	if real, err = filepath.Abs(real); err != nil {
		return Binary{}, err
	}
	b := Binary{Path: real, Base: filepath.Dir(filepath.Dir(real))}
	if root != "" {
		b.Env = []string{"LD_LIBRARY_PATH=" + strings.Join(libraryDirs(root), ":")}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, real, "--no-defaults", "--version")
	cmd.Env = append(os.Environ(), b.Env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return Binary{}, fmt.Errorf("%s --version: %w: %s", real, err, firstLine(out))
	}
	b.Version = firstLine(out)
	b.MySQL = !strings.Contains(b.Version, "MariaDB")
	for _, dir := range []string{"share/mysql", "share/mariadb", "share", "share/mysql-8.0", "share/mysql-8.4"} {
		if exists(filepath.Join(b.Base, dir, "charsets", "Index.xml")) {
			b.Share = filepath.Join(b.Base, dir)
			break
		}
	}
	for _, dir := range []string{"lib/mysql/plugin", "lib64/mysql/plugin", "lib64/mariadb/plugin", "lib/mariadb/plugin", "lib/plugin"} {
		if exists(filepath.Join(b.Base, dir)) {
			b.Plugins = filepath.Join(b.Base, dir)
			break
		}
	}
	if !b.MySQL {
		if _, err := b.bootstrapFiles(); err != nil {
			return Binary{}, err
		}
	}
	return b, nil
}

// Client is the command line client that came with the server, as it would be
// typed, or plain "mariadb" when none is beside it.
func (b Binary) Client() string {
	for _, name := range []string{"mariadb", "mysql"} {
		path := filepath.Join(b.Base, "bin", name)
		if !exists(path) {
			continue
		}
		if len(b.Env) > 0 {
			return strings.Join(b.Env, " ") + " " + path
		}
		return path
	}
	return "mariadb"
}

// bootstrapFiles are the SQL files that make MariaDB's system tables, in the order
// mariadb-install-db feeds them. MariaDB 11 renamed mysql_ to mariadb_.
func (b Binary) bootstrapFiles() ([]string, error) {
	var files []string
	for _, names := range [][]string{
		{"mariadb_system_tables.sql", "mysql_system_tables.sql"},
		{"mariadb_performance_tables.sql", "mysql_performance_tables.sql"},
		{"mariadb_system_tables_data.sql", "mysql_system_tables_data.sql"},
		{"maria_add_gis_sp_bootstrap.sql"},
	} {
		found := ""
		for _, name := range names {
			if path := filepath.Join(b.Share, name); exists(path) {
				found = path
				break
			}
		}
		if found == "" {
			return nil, fmt.Errorf("%s has no %s under %s", b.Path, names[len(names)-1], filepath.Join(b.Base, "share"))
		}
		files = append(files, found)
	}
	return files, nil
}

func libraryDirs(root string) []string {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib", "lib"} {
		found, _ := filepath.Glob(filepath.Join(root, pattern)) // fails on a bad pattern alone
		dirs = append(dirs, found...)
	}
	return dirs
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line
}
