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
	"github.com/rs/zerolog"
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
