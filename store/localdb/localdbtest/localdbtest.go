// Package localdbtest gives tests a real MariaDB: one server for each test binary, one database for each test, and a
// server of its own to a test that kills it.
//
//	func TestMain(m *testing.M) { localdbtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		dsn := localdbtest.New(t)
//	}
//
// The shared server starts with the first New, so that tests without a database start none. When no server is
// installed, New fails the test and says how to install one.
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

	"syncgate/store/localdb"
)

const dirPrefix = "syncgate-test-" // of the shared servers' directories under os.TempDir

// A test binary has one TestMain and no other place to keep what all its tests share.
var (
	made     atomic.Int64 // databases
	shared   = sync.OnceValues(startShared)
	shutdown func() error // of the shared server; nil where TestMain does not call Main
)

// Main runs the tests, stops the shared server, fails when a goroutine is left, and exits. m is a *testing.M, or wraps
// one.
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

// New makes a database on the shared server and returns its DSN. The database is dropped when the test ends.
func New(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", made.Add(1))
	server, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	// The drop does not wait long for a transaction that the test left open.
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

// Server starts a server for this test alone. An empty Dir is a temporary one. The server is stopped when the test
// ends.
func Server(t testing.TB, o localdb.Options) *localdb.Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	server, err := start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func start(o localdb.Options) (*localdb.Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // on a loaded machine
	defer cancel()
	return localdb.Start(ctx, o)
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
	server, err := start(localdb.Options{Dir: dir})
	if err == nil { // a later run sweeps the directory of a server that failed
		shutdown = func() error { return errors.Join(server.Stop(), os.RemoveAll(dir)) }
	}
	return server, err
}

// sweep removes the directories of killed test binaries, 100 MB each. A young directory may be about to be locked, and
// a locked one is in use.
func sweep() {
	locks, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*", "server.lock")) // fails on a bad pattern alone
	for _, lock := range locks {
		dir := filepath.Dir(lock)
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Hour {
			continue
		}
		if f, err := localdb.LockFile(context.Background(), lock, 0); err == nil {
			_ = os.RemoveAll(dir) // fails on another user's directory, which stays
			_ = f.Close()         // nothing was written
		}
	}
}
