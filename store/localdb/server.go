package localdb

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// Options say where the database is kept and how durable it is.
type Options struct {
	// Dir is the directory the database owns; made when missing. Required.
	Dir string
	// Durable: every commit is on disk when it is acknowledged. Without it the settings are for tests and demos:
	// quick and small, and a power cut loses everything.
	Durable bool
	// Log takes the changes of the process's state. The zero Logger writes nothing.
	Log zerolog.Logger

	stopTimeout, lockWait time.Duration // shorter in tests
}

const (
	stopTimeout  = time.Minute      // from SIGTERM to SIGKILL
	lockWait     = 30 * time.Second // for the database of a killed owner to end
	startTimeout = 10 * time.Minute // until it answers, crash recovery included
	restartMin   = 500 * time.Millisecond
	restartMax   = 10 * time.Second
	stableAfter  = time.Minute // a server that was up this long begins its next back-off with restartMin
)

// Server is one private database. Its methods may be called from any goroutine.
type Server struct {
	options Options
	binary  binary
	dir     *directory
	socket  string
	pid     atomic.Int64 // 0 while down
	stop    context.CancelFunc
	ended   chan struct{} // closed when the database has ended and is not started again
	err     error         // why; valid after ended
}

// Start locks the directory, makes the data directory when there is none, starts the database, and returns when it
// answers. A database that never answers is an error; one that dies later is started again until Stop.
func Start(ctx context.Context, o Options) (*Server, error) {
	o.stopTimeout, o.lockWait = cmp.Or(o.stopTimeout, stopTimeout), cmp.Or(o.lockWait, lockWait)
	s := &Server{options: o, ended: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("localdb: %w", err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) error {
	if s.options.Dir == "" {
		return errors.New("Options.Dir is empty")
	}
	dir, err := filepath.Abs(s.options.Dir)
	if err != nil {
		return err
	}
	if s.binary, err = findInstalled(ctx); err != nil {
		return err
	}
	if s.socket, err = socketFor(dir); err != nil {
		return err
	}
	if s.dir, err = openDirectory(ctx, dir, s.options.lockWait); err != nil {
		return err
	}
	if err := s.bootstrap(ctx); err != nil {
		s.dir.release()
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	answers := make(chan struct{})
	go func() {
		defer close(s.ended)
		defer s.dir.release()
		s.err = s.run(run, answers)
	}()
	select {
	case <-answers:
		return nil
	case <-s.ended:
		stop()
		return s.err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), s.Stop())
	}
}

// Stop shuts the database down and waits for its end.
func (s *Server) Stop() error {
	s.stop()
	<-s.ended
	if s.err != nil {
		return fmt.Errorf("localdb: %w", s.err)
	}
	return nil
}

// run keeps the database running until ctx ends. It closes answers at the first answer.
func (s *Server) run(ctx context.Context, answers chan<- struct{}) error {
	// The parent-death signal goes out when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer s.dir.removeSocket(s.socket)
	answered := false
	up := func() {
		if !answered {
			close(answers)
		}
		answered = true
	}
	for pause := restartMin; ; pause = min(pause*2, restartMax) {
		began := time.Now()
		err := s.serve(ctx, up)
		if ctx.Err() != nil {
			s.options.Log.Info().Err(err).Msg("private database stopped")
			return err
		}
		if !answered {
			return err
		}
		if time.Since(began) > stableAfter {
			pause = restartMin
		}
		s.options.Log.Error().Err(err).Dur("pause_ms", pause).Msg("private database ended; starting it again")
		if sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// PID is the database's process id, 0 while it does not answer.
func (s *Server) PID() int { return int(s.pid.Load()) }

// DSN is a go-sql-driver data source name for a database, or for none when the name is empty.
func (s *Server) DSN(database string) string { return config(s.socket, database).FormatDSN() }

// DSN is that of a database that another process runs in dir.
func DSN(dir, database string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	socket, err := socketFor(dir)
	return config(socket, database).FormatDSN(), err
}

// ClientCommand is a shell command line that opens a prompt in a database.
func (s *Server) ClientCommand(database string) string {
	socket := strings.ReplaceAll(s.socket, "'", `'\''`)
	return fmt.Sprintf("%s --no-defaults --user=root --socket='%s' %s", s.binary.client(), socket, database)
}

// CreateDatabase makes a utf8mb4 database unless it exists. The server must be up.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	db, err := sql.Open("mysql", s.DSN(""))
	if err == nil {
		defer db.Close()
		quoted := "`" + strings.ReplaceAll(name, "`", "``") + "`"
		_, err = db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quoted+" CHARACTER SET utf8mb4")
	}
	if err != nil {
		return fmt.Errorf("localdb: create database %s: %w", name, err)
	}
	return nil
}

func config(socket, database string) *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.DBName = "root", "unix", socket, database
	return c
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Errors of taking the directory.
var (
	// ErrForeign: localdb did not make the directory, or it belongs to another user.
	ErrForeign = errors.New("not a directory of ours")
	// ErrInUse: another process has it, or the database of a killed one has not ended within lockWait.
	ErrInUse = errors.New("directory is in use")
)

const (
	markerName = ".syncgate-localdb"
	markerText = "This directory is a private database made and run by syncgate.\n" +
		"Everything in it is syncgate's; change nothing here by hand.\n"
)

// directory is a locked DIR. The locks are held until release.
type directory struct {
	path   string
	owner  *os.File // owner.lock
	server *os.File // server.lock, which the database process inherits
}

// at is the path of one of the directory's files.
func (d *directory) at(name string) string { return filepath.Join(d.path, name) }

// openDirectory makes path a directory of ours, or checks that it is one, and locks it.
func openDirectory(ctx context.Context, path string, wait time.Duration) (*directory, error) {
	if err := adopt(ctx, path); err != nil {
		return nil, err
	}
	d := &directory{path: path}
	if err := d.lock(ctx, wait); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// lock takes owner.lock at once or fails, because a living process holds it. It waits for server.lock, because the
// database that holds it is shutting down.
func (d *directory) lock(ctx context.Context, wait time.Duration) (err error) {
	owner := d.at("owner.lock")
	if d.owner, err = LockFile(ctx, owner, 0); err != nil {
		return inUse(err, "process", owner)
	}
	if err := os.WriteFile(owner, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return err
	}
	if d.server, err = LockFile(ctx, d.at("server.lock"), wait); err != nil {
		return inUse(err, "the database of an earlier owner, process", d.at("db.pid"))
	}
	return os.MkdirAll(d.at("tmp"), 0o700)
}

// inUse adds to ErrInUse the holder, whose process id is the content of the file pid.
func inUse(err error, holder, pid string) error {
	if !errors.Is(err, ErrInUse) {
		return err
	}
	id, _ := os.ReadFile(pid) // the error has no number when the file is missing
	return fmt.Errorf("%s: %w by %s %s", filepath.Dir(pid), ErrInUse, holder, bytes.TrimSpace(id))
}

// adopt checks that path is ours and puts the marker into a new or empty one.
func adopt(ctx context.Context, path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !ours(info) {
		// Root may use the running database of a service that is another user's. It must not leave its own files there.
		if owner := filepath.Join(path, "owner.lock"); exists(owner) {
			f, err := LockFile(ctx, owner, 0)
			if errors.Is(err, ErrInUse) {
				return inUse(err, "process", owner)
			}
			_ = f.Close() // nil when it could not be opened
		}
		return fmt.Errorf("%s does not belong to user id %d; run this as its owner: %w", path, os.Geteuid(), ErrForeign)
	}
	marker := filepath.Join(path, markerName)
	if info, err = os.Lstat(marker); err == nil && info.Mode().IsRegular() {
		return nil
	}
	if entries, err := os.ReadDir(path); err != nil {
		return err
	} else if len(entries) > 0 {
		return fmt.Errorf("%s has %s in it and no %s: %w", path, entries[0].Name(), markerName, ErrForeign)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return err
	}
	return os.WriteFile(marker, []byte(markerText), 0o600)
}

func ours(info fs.FileInfo) bool { return int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() }

// LockFile opens a file, made when missing, and locks it until the file is closed. ErrInUse: another process holds the
// lock for longer than wait.
func LockFile(ctx context.Context, path string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; {
		// A blocking flock can't be given up when ctx ends, so this polls.
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK) && time.Now().After(deadline):
			err = fmt.Errorf("%s: %w", path, ErrInUse)
		case errors.Is(err, unix.EWOULDBLOCK):
			err = sleep(ctx, 20*time.Millisecond)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}

// release unlocks the directory. The database must have ended: it would hold server.lock otherwise.
func (d *directory) release() {
	_ = d.owner.Close() // nothing depends on its content; a nil file returns an error
	_ = d.server.Close()
}

// maxSocketPath is the longest unix socket address Linux takes, in bytes.
const maxSocketPath = 107

// socketFor is DIR/db.sock, or a short name elsewhere when that is no usable address. The name is the same each time,
// so that a killed owner leaves at most one folder behind.
func socketFor(dir string) (string, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(dir)) // never fails
	name := fmt.Sprintf("syncgate-%d-%08x", os.Geteuid(), hash.Sum32())
	for _, folder := range []string{dir, filepath.Join(os.TempDir(), name), filepath.Join("/tmp", name)} {
		if path := filepath.Join(folder, "db.sock"); usableSocket(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the names of %s and %s are too long for a unix socket", dir, os.TempDir())
}

// usableSocket reports whether a path can be a socket's address and be written in a DSN.
func usableSocket(path string) bool {
	c, err := mysql.ParseDSN(config(path, "x").FormatDSN())
	return len(path) <= maxSocketPath && err == nil && c.Addr == path && c.DBName == "x"
}

// prepareSocket makes the folder of a socket outside DIR and removes a dead server's socket. The locks must be held.
func (d *directory) prepareSocket(socket string) error {
	if dir := filepath.Dir(socket); dir != d.path {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 || !ours(info) {
			return fmt.Errorf("%s must be a directory of this user's with mode 0700: %w", dir, ErrForeign)
		}
	}
	return os.RemoveAll(socket)
}

// removeSocket takes away what prepareSocket made.
func (d *directory) removeSocket(socket string) {
	_ = os.RemoveAll(socket) // a server that shuts down removes it itself
	if dir := filepath.Dir(socket); dir != d.path {
		_ = os.Remove(dir)
	}
}
