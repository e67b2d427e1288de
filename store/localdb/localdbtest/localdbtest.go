// Package localdbtest gives tests a real MariaDB: one server a test binary, a
// database a test, and servers of their own to tests which need one to kill.
//
//	func TestMain(m *testing.M) { localdbtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		dsn := localdbtest.New(t)
//	}
//
// The shared server starts with the first New, so that a run of pure tests
// starts none. Where no server is installed New fails the test and says how to get one.
package localdbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"syncgate/store/localdb"
)

const dirPrefix = "syncgate-test-" // of the shared servers' directories under os.TempDir

// A test binary has one TestMain and no other place to keep what all its tests share.
var (
	made     atomic.Int64 // databases
	shared   = sync.OnceValues(startShared)
	shutdown func() error // of the shared server; nil where TestMain does not call Main
)

// Main runs the tests, stops the shared server, and fails the binary when a
// goroutine is left. It exits and does not return. m is a *testing.M, or what wraps one.
func Main(m goleak.TestingM, leaks ...goleak.Option) { goleak.VerifyTestMain(runner{m}, leaks...) }

type runner struct{ m goleak.TestingM }

func (r runner) Run() int {
	shutdown = func() error { return nil }
	code := r.m.Run()
	if err := shutdown(); err != nil {
		fmt.Fprintln(os.Stderr, "localdbtest:", err)
		return max(code, 1)
	}
	return code
}

// New makes a database on the shared server and returns its DSN. The database
// is dropped when the test ends.
func New(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", made.Add(1))
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	// A connection that the test left open in a transaction is not waited for long.
	db, err := sql.Open("mysql", server.DSN("")+"?lock_wait_timeout=10")
	if err == nil {
		_, err = db.Exec("CREATE DATABASE " + name + " CHARACTER SET utf8mb4")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer db.Close()
		if _, err := db.Exec("DROP DATABASE " + name); err != nil {
			t.Errorf("drop %s: %v (did the test leave a transaction open?)", name, err)
		}
	})
	return server.DSN(name)
}

// Server starts a server for this test alone and waits until it answers. An
// empty Dir is a temporary one. It is stopped when the test ends.
func Server(t testing.TB, o localdb.Options) *localdb.Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	server, stop, err := start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// start runs a server until the returned function is called, which says what became of it.
func start(o localdb.Options) (server *localdb.Server, stop func() error, err error) {
	if server, err = localdb.New(o); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- server.Run(ctx) }()
	stop = func() error { cancel(); return <-result }
	wait, done := context.WithTimeout(ctx, 2*time.Minute) // on a loaded machine
	defer done()
	if err = server.WaitReady(wait); err != nil {
		_ = stop() // WaitReady's error is Run's, or the deadline's
	}
	return server, stop, err
}

func startShared() (*localdb.Server, error) {
	if shutdown == nil {
		return nil, errors.New("localdbtest: TestMain must call localdbtest.Main")
	}
	sweep()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	server, stop, err := start(localdb.Options{Dir: dir})
	if err == nil { // else it is swept one day
		shutdown = func() error { return errors.Join(stop(), os.RemoveAll(dir)) }
	}
	return server, err
}

// sweep removes what killed test binaries left behind, 100 MB each. A directory that is
// young may be about to be locked and one that is locked is in use.
func sweep() {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*", "server.lock")) // fails on a bad pattern alone
	for _, lock := range locks {
		f, err := os.Open(lock)
		if err != nil {
			continue
		}
		info, err := os.Stat(filepath.Dir(lock))
		if err == nil && time.Since(info.ModTime()) > time.Hour && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(lock)) // another user's stays
		}
		_ = f.Close() // it was only looked at
	}
}
