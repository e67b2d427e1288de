package localdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

// maxSocketPath is the longest unix socket address Linux takes, in bytes.
const maxSocketPath = 107

// A server that stayed up this long starts its next back-off from the beginning.
const stableAfter = time.Minute

// Options say where the database lives and how careful it is.
type Options struct {
	// Dir is the directory the database owns; made when missing. Required.
	Dir string
	// Durable: every commit is on disk when it is acknowledged. Without it the
	// settings are for tests and demos: quick, small, and lost with the machine.
	Durable bool
	// Args are further flags for the server, after ours, so that they win.
	Args []string
	// Observer is told of every change of state. Called from Run's goroutine; it must not block.
	Observer func(Event)

	MaxConnections int           // default 400
	StartTimeout   time.Duration // until it answers, crash recovery included; default 10 min durable, 1 min fast
	StopTimeout    time.Duration // from SIGTERM to SIGKILL; default 1 min durable, 10 s fast
	LockWait       time.Duration // for the database of a killed owner to end; default 30 s
	RestartMin     time.Duration // first pause before a restart, doubled each time; default 100 ms
	RestartMax     time.Duration // longest pause; default 10 s
}

// State is what an Event is about.
type State int

// The states of the database process.
const (
	Up      State = iota + 1 // it answers; PID is set
	Down                     // it died; Err says how, and it is started again after Pause
	Stopped                  // it was stopped because Run's context ended
)

func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Down:
		return "down"
	case Stopped:
		return "stopped"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

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
	binary  Binary
	socket  string
	ready   chan struct{} // closed at the first answer
	ended   chan struct{} // closed when Run returns

	mu      sync.Mutex
	started bool
	pid     int   // 0 while down
	err     error // why Run returned
}

// New finds a server binary and lays out the paths. It starts nothing and
// writes nothing. ErrNotFound when there is no usable binary.
func New(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("localdb: Options.Dir is empty")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("localdb: %w", err)
	}
	o.Dir = dir
	o.setDefaults()
	binary, err := Find(context.Background())
	if err != nil {
		return nil, err
	}
	socket, err := socketFor(dir, usableSocket)
	if err != nil {
		return nil, err
	}
	return &Server{options: o, binary: binary, socket: socket, ready: make(chan struct{}), ended: make(chan struct{})}, nil
}

func (o *Options) setDefaults() {
	set := func(d *time.Duration, durable, fast time.Duration) {
		if *d != 0 {
			return
		}
		*d = fast
		if o.Durable {
			*d = durable
		}
	}
	set(&o.StartTimeout, 10*time.Minute, time.Minute)
	set(&o.StopTimeout, time.Minute, 10*time.Second)
	set(&o.LockWait, 30*time.Second, 30*time.Second)
	set(&o.RestartMin, 100*time.Millisecond, 100*time.Millisecond)
	set(&o.RestartMax, 10*time.Second, 10*time.Second)
	if o.MaxConnections == 0 {
		o.MaxConnections = 400
	}
}

// usableSocket tells whether a path can be a socket's address and survives
// being written into a DSN.
func usableSocket(path string) bool {
	if len(path) > maxSocketPath {
		return false
	}
	c, err := mysql.ParseDSN(config(path, "x").FormatDSN())
	return err == nil && c.Addr == path && c.DBName == "x"
}

// Run claims the directory, makes the data directory when there is none, and
// keeps the database running until ctx ends; then it stops it in order and
// returns nil. A database that never answered once is an error; one that dies
// later is started again. Run may be called once.
func (s *Server) Run(ctx context.Context) (err error) {
	s.mu.Lock()
	if s.started {
		s.mu.Unlock()
		return fmt.Errorf("localdb: Run was called before: %w", ErrStopped)
	}
	s.started = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		close(s.ended)
	}()
	// The parent-death signal goes out when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	d, err := claim(ctx, s.options.Dir, s.options.LockWait)
	if err != nil {
		return unlessDone(ctx, err)
	}
	defer d.release()
	if err := s.bootstrap(ctx, d); err != nil {
		return unlessDone(ctx, err)
	}
	defer d.removeSocket(s.socket)
	return s.supervise(ctx, d)
}

// supervise serves again and again until ctx ends.
func (s *Server) supervise(ctx context.Context, d *directory) error {
	pause := s.options.RestartMin
	for {
		began := time.Now()
		err := s.serve(ctx, d)
		if ctx.Err() != nil {
			s.report(Event{State: Stopped, Err: err})
			return err
		}
		if !s.answered() {
			return err
		}
		if time.Since(began) > stableAfter {
			pause = s.options.RestartMin
		}
		s.report(Event{State: Down, Err: err, Pause: pause})
		if sleep(ctx, pause) != nil {
			s.report(Event{State: Stopped})
			return nil
		}
		pause = min(pause*2, s.options.RestartMax)
	}
}

// unlessDone drops an error that only says that ctx has ended.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (s *Server) report(e Event) {
	if s.options.Observer != nil {
		s.options.Observer(e)
	}
}

func (s *Server) up(pid int) {
	s.mu.Lock()
	s.pid = pid
	s.mu.Unlock()
	if !s.answered() {
		close(s.ready)
	}
	s.report(Event{State: Up, PID: pid})
}

func (s *Server) down() {
	s.mu.Lock()
	s.pid = 0
	s.mu.Unlock()
}

func (s *Server) answered() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

// Ready is closed when the database has answered for the first time. It stays
// open for ever when Run fails before that; WaitReady tells the two apart.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// WaitReady waits until the database has answered for the first time. It
// returns Run's error, or ErrStopped, when Run returns before that.
func (s *Server) WaitReady(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-s.ended:
		if s.answered() {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err != nil {
			return s.err
		}
		return fmt.Errorf("localdb: %w", ErrStopped)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PID is the database's process id, 0 while it does not answer.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pid
}

// Socket is the path of the unix socket, the only way in.
func (s *Server) Socket() string { return s.socket }

// Version is what the server's binary says about itself.
func (s *Server) Version() string { return s.binary.Version }

// DSN is a go-sql-driver data source name for a database, or for none when
// the name is empty.
func (s *Server) DSN(database string) string { return config(s.socket, database).FormatDSN() }

// ClientCommand is a shell command line that opens a prompt in a database.
func (s *Server) ClientCommand(database string) string {
	return fmt.Sprintf("%s --no-defaults --user=root --socket='%s' %s", s.binary.Client(), strings.ReplaceAll(s.socket, "'", `'\''`), database)
}

// CreateDatabase makes a utf8mb4 database unless it is there. The database
// must be up.
func (s *Server) CreateDatabase(ctx context.Context, name string) error {
	db, err := s.open("")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+quoteName(name)+" CHARACTER SET utf8mb4"); err != nil {
		return fmt.Errorf("localdb: create database %s: %w", name, err)
	}
	return nil
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func config(socket, database string) *mysql.Config {
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr, c.DBName = "root", "unix", socket, database
	return c
}

// open makes a pool of one connection that keeps quiet: a server that is still
// starting makes the driver print complaints otherwise.
func (s *Server) open(database string) (*sql.DB, error) {
	c := config(s.socket, database)
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("localdb: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db, nil
}
