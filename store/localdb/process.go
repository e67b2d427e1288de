package localdb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"
)

// maxErrorLog is the size above which error.log becomes error.log.1 at the next start.
const maxErrorLog = 8 << 20

// baseArgs are the flags of every run of the binary. --no-defaults must come first.
func (s *Server) baseArgs(data string) []string {
	args := []string{"--no-defaults", "--basedir=" + s.binary.base, "--datadir=" + data, "--tmpdir=" + s.dir.at("tmp")}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root") // run by root, mariadbd does not start without a user's name
	}
	if !s.options.Durable {
		args = append(args, "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M",
			"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-doublewrite=0")
	}
	return args
}

// serveArgs are the flags of the server that answers.
func (s *Server) serveArgs() []string {
	args := append(s.baseArgs(s.dir.at("data")),
		"--socket="+s.socket,
		"--pid-file="+s.dir.at("db.pid"),
		"--skip-networking",
		"--skip-name-resolve",
		"--character-set-server=utf8mb4",
		"--max-allowed-packet=64M",
		"--max-connections=400",
		"--secure-file-priv="+s.dir.at("tmp"), // SQL can read and write no file of the user's
	)
	if s.options.Durable {
		return append(args, "--innodb-flush-log-at-trx-commit=1")
	}
	return append(args, "--innodb-fast-shutdown=2", "--performance-schema=0")
}

// command prepares one run of the binary, killed when ctx ends. The child inherits server.lock, so that the lock lives
// as long as the child.
func (s *Server) command(ctx context.Context, log *os.File, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary.path, args...)
	cmd.Dir = s.dir.path
	cmd.Env = s.binary.environ()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{s.dir.server}
	// A group of its own: a terminal's Ctrl-C reaches the parent alone, which stops the database last.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// serve starts the database, calls up when it answers, and waits until it ends. It returns nil when the database
// stopped because ctx ended.
func (s *Server) serve(ctx context.Context, up func()) error {
	if err := s.dir.prepareSocket(s.socket); err != nil {
		return err
	}
	log, from, err := s.dir.openErrorLog()
	if err != nil {
		return err
	}
	defer log.Close()
	asked, stop := context.WithCancel(ctx)
	defer stop()
	cmd := s.command(asked, log, s.serveArgs())
	if s.options.Durable {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = s.options.stopTimeout // then it is killed
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	alive, ended := context.WithCancelCause(context.WithoutCancel(ctx))
	go func() {
		_ = cmd.Wait() // ProcessState tells more
		ended(fmt.Errorf("the database ended: %v", cmd.ProcessState))
	}()

	if err = s.waitAnswer(alive); err == nil {
		s.pid.Store(int64(cmd.Process.Pid))
		s.options.Log.Info().Int("pid", cmd.Process.Pid).Msg("private database answers")
		up()
		<-alive.Done()
		s.pid.Store(0)
		err = context.Cause(alive)
	}
	stop() // it may be running without answering
	<-alive.Done()
	if ctx.Err() == nil {
		return fmt.Errorf("%w: %s", err, complaint(log.Name(), from))
	}
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return fmt.Errorf("the database did not stop within %v and was killed", s.options.stopTimeout)
	}
	return nil
}

// waitAnswer returns when the database answers a ping, when it has ended, or after startTimeout.
func (s *Server) waitAnswer(alive context.Context) error {
	c := config(s.socket, "")
	c.Logger = &mysql.NopLogger{} // the driver prints a line for each refused ping otherwise
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := context.WithTimeoutCause(alive, startTimeout, fmt.Errorf("no answer within %v", startTimeout))
	defer cancel()
	for pause := 2 * time.Millisecond; ; pause = min(pause*2, 50*time.Millisecond) {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}

// bootstrap makes the data directory unless it exists. It is made under another name and renamed, so that a data
// directory is always complete.
func (s *Server) bootstrap(ctx context.Context) error {
	data, fresh := s.dir.at("data"), s.dir.at("data.new")
	if exists(data) {
		return nil
	}
	for _, step := range []func() error{
		func() error { return os.RemoveAll(fresh) },
		func() error { return os.Mkdir(fresh, 0o700) },
		func() error { return s.fill(ctx, fresh) },
		func() error { return s.sync(fresh) },
		func() error { return os.Rename(fresh, data) },
		func() error { return s.sync(s.dir.path) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	return nil
}

// fill makes the system tables: mariadbd --bootstrap reads MariaDB's own SQL. That takes 0.3 s where
// mariadb-install-db takes 0.6 to 2 s, and the script needs a program that the package mariadb-server-core lacks.
func (s *Server) fill(ctx context.Context, data string) error {
	log, from, err := s.dir.openErrorLog()
	if err != nil {
		return err
	}
	defer log.Close()
	// A NULL auth_root_socket gives root an empty password: the directory's mode protects the database.
	sql := []io.Reader{strings.NewReader("create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n")}
	for _, name := range s.binary.bootstrapSQL {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		sql = append(sql, f, strings.NewReader("\n"))
	}
	cmd := s.command(ctx, log,
		append(s.baseArgs(data), "--bootstrap", "--enforce-storage-engine=", "--log-warnings=0"))
	cmd.Stdin = io.MultiReader(sql...)
	if err := cmd.Run(); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return fmt.Errorf("%w: %s", err, complaint(log.Name(), from))
	}
	return nil
}

// sync writes the filesystem of path to the disk when the database is durable.
func (s *Server) sync(path string) error {
	if !s.options.Durable {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// openErrorLog opens error.log for appending and returns the offset at which this run's lines begin.
func (d *directory) openErrorLog() (*os.File, int64, error) {
	path := d.at("error.log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxErrorLog {
		_ = os.Rename(path, path+".1") // the log goes on growing when this fails
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	from, err := f.Seek(0, io.SeekEnd)
	return f, from, err
}

// complaint is the server's account of its failure: its last ERROR lines since from, or its last lines when there are
// none.
func complaint(path string, from int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < from {
		return "see " + path
	}
	lines := strings.Split(string(bytes.TrimSpace(b[from:])), "\n")
	said := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.Contains(line, "ERROR") })
	if len(said) == 0 {
		said = lines
	}
	return strings.Join(said[max(0, len(said)-4):], "; ") + " (see " + path + ")"
}

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
