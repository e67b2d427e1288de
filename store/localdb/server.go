package localdb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Errors of a run.
var (
	// ErrDied: the database process ended without being asked to.
	ErrDied = errors.New("the database ended")
	// ErrStopped: the Server's Run has returned, or was called before.
	ErrStopped = errors.New("the database is stopped")
)

// Options say where the database is kept and how durable it is.
type Options struct {
	// Dir is the directory the database owns; made when missing. Required.
	Dir string
	// Durable: every commit is on disk when it is acknowledged. Without it the settings are for tests and demos:
	// quick and small, and a power cut loses everything.
	Durable bool
	// Args are further flags for the server. They come after localdb's own and override them.
	Args []string
	// Observer is called at every change of state, from Run's goroutine. It must not block.
	Observer func(Event)
	// RestartMin is the first pause before a restart, doubled each time up to restartMax; default 100 ms.
	RestartMin time.Duration
}

const (
	stopTimeout  = time.Minute      // from SIGTERM to SIGKILL
	lockWait     = 30 * time.Second // for the database of a killed owner to end
	startTimeout = 10 * time.Minute // until it answers, crash recovery included
	restartMax   = 10 * time.Second
	stableAfter  = time.Minute // a server that was up this long begins its next back-off with RestartMin
)

// State is what an Event is about.
type State int

// The states of the database process.
const (
	Up      State = iota + 1 // it answers; PID is set
	Down                     // it died; Err is the reason, and it starts again after Pause
	Stopped                  // it was stopped because Run's context ended
)

// Event is a change of the database's state.
type Event struct {
	State State
	PID   int
	Err   error
	Pause time.Duration
}

// Server is one private database. Its methods may be called from any goroutine.
type Server struct {
	options Options
	binary  binary
	socket  string
	used    atomic.Bool
	pid     atomic.Int64  // 0 while down
	ready   chan struct{} // closed at the first answer
	ended   chan struct{} // closed when Run returns
	err     error         // Run's result, valid after ended

	stopTimeout, lockWait time.Duration // shorter in tests
}

// New finds a server binary and lays out the paths. It starts nothing and writes nothing. ErrNotFound when there is no
// usable binary.
func New(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("localdb: Options.Dir is empty")
	}
	o.RestartMin = cmp.Or(o.RestartMin, 100*time.Millisecond)
	if o.Observer == nil {
		o.Observer = func(Event) {}
	}
	s := &Server{options: o, ready: make(chan struct{}), ended: make(chan struct{}),
		stopTimeout: stopTimeout, lockWait: lockWait}
	dir, err := filepath.Abs(o.Dir)
	if err == nil {
		s.options.Dir = dir
		s.binary, err = findInstalled(context.Background())
	}
	if err == nil {
		s.socket, err = socketFor(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("localdb: %w", err)
	}
	return s, nil
}

// Run locks the directory, makes the data directory when there is none, and keeps the database running until ctx ends;
// then it shuts the database down and returns nil. A database that never answered is an error; one that dies later is
// started again. Run may be called once.
func (s *Server) Run(ctx context.Context) error {
	if s.used.Swap(true) {
		return fmt.Errorf("localdb: Run was called before: %w", ErrStopped)
	}
	defer close(s.ended)
	if err := s.run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
		s.err = fmt.Errorf("localdb: %w", err)
	}
	return s.err
}

func (s *Server) run(ctx context.Context) error {
	// The parent-death signal goes out when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d, err := openDirectory(ctx, s.options.Dir, s.lockWait)
	if err != nil {
		return err
	}
	defer d.release()
	if err := s.bootstrap(ctx, d); err != nil {
		return err
	}
	defer d.removeSocket(s.socket)
	for pause := s.options.RestartMin; ; pause = min(pause*2, restartMax) {
		began := time.Now()
		err := s.serve(ctx, d)
		if ctx.Err() != nil {
			s.options.Observer(Event{State: Stopped, Err: err})
			return err
		}
		if !s.answered() {
			return err
		}
		if time.Since(began) > stableAfter {
			pause = s.options.RestartMin
		}
		s.options.Observer(Event{State: Down, Err: err, Pause: pause})
		if err := sleep(ctx, pause); err != nil {
			s.options.Observer(Event{State: Stopped})
			return err
		}
	}
}

func (s *Server) answered() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// WaitReady waits until the database has answered for the first time. It returns Run's error, or ErrStopped, when Run
// returns before that.
func (s *Server) WaitReady(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		if s.err == nil && !s.answered() {
			return fmt.Errorf("localdb: %w", ErrStopped)
		}
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PID is the database's process id, 0 while it does not answer.
func (s *Server) PID() int { return int(s.pid.Load()) }

// DSN is a go-sql-driver data source name for a database, or for none when the name is empty.
func (s *Server) DSN(database string) string { return config(s.socket, database).FormatDSN() }

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
