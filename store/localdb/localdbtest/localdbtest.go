// Package localdbtest gives tests a real MariaDB: one server a test binary, a
// database a test, and servers of their own to tests which need one to kill.
//
//	func TestMain(m *testing.M) { localdbtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		dsn := localdbtest.New(t)
//		…
//	}
//
// The shared server starts with the first New, so that a run of pure tests
// starts none. Where no server is installed New fails the test and says how to get one.
package localdbtest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"syncgate/store/localdb"
)

// dirPrefix begins the names of the shared servers' directories under os.TempDir.
const dirPrefix = "syncgate-test-"

// startWait bounds a start on a loaded machine.
const startWait = 2 * time.Minute

// shared is the test binary's server. A test binary has one TestMain and no
// other place to keep what all its tests share.
var shared binary

type binary struct {
	mu       sync.Mutex
	inMain   bool
	server   *localdb.Server
	err      error
	shutdown func() error
	made     int
}

// Main runs the tests, stops the shared server, and fails the binary when a
// goroutine is left. It exits and does not return. m is a *testing.M, or what wraps one.
func Main(m goleak.TestingM, leaks ...goleak.Option) { goleak.VerifyTestMain(runner{m}, leaks...) }

type runner struct{ m goleak.TestingM }

func (r runner) Run() int {
	shared.mu.Lock()
	shared.inMain = true
	shared.mu.Unlock()
	code := r.m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, "localdbtest:", err)
		return max(code, 1)
	}
	return code
}

// New makes a database on the shared server and returns its DSN. The database
// is dropped when the test ends.
func New(t testing.TB) string {
	t.Helper()
	server, name, err := shared.database()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startWait)
	defer cancel()
	if err := server.CreateDatabase(ctx, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(server.DSN(""), name); err != nil {
			t.Errorf("drop %s: %v (did the test leave a transaction open?)", name, err)
		}
	})
	return server.DSN(name)
}

// drop takes the database away. It does not wait long for a connection that
// the test left open in a transaction.
func drop(dsn, name string) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1) // both statements on one connection
	if _, err := db.Exec("SET SESSION lock_wait_timeout = 10"); err != nil {
		return err
	}
	_, err = db.Exec("DROP DATABASE " + name)
	return err
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

// database returns the shared server, started when it was not, and a new name.
func (b *binary) database() (*localdb.Server, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.inMain {
		return nil, "", fmt.Errorf("localdbtest: TestMain must call localdbtest.Main")
	}
	if b.server == nil && b.err == nil {
		b.err = b.start()
	}
	b.made++
	return b.server, fmt.Sprintf("t%d", b.made), b.err
}

func (b *binary) start() error {
	sweep()
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return err
	}
	server, stop, err := start(localdb.Options{Dir: dir})
	if err != nil {
		_ = os.RemoveAll(dir) // the start's error is the one to tell
		return err
	}
	b.server = server
	b.shutdown = func() error {
		if err := stop(); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
	return nil
}

func (b *binary) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shutdown == nil {
		return nil
	}
	return b.shutdown()
}

// sweep removes what killed test binaries left behind, 100 MB each. A
// directory that is young may be about to be locked and one that is locked is in use.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*")) // fails on a bad pattern alone
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err == nil && time.Since(info.ModTime()) > time.Hour && unlocked(dir) {
			_ = os.RemoveAll(dir) // another user's stays
		}
	}
}

func unlocked(dir string) bool {
	for _, name := range []string{"owner.lock", "server.lock"} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			return false
		}
		defer f.Close()
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			return false
		}
	}
	return true
}

// start runs a server until the returned function is called.
func start(o localdb.Options) (*localdb.Server, func() error, error) {
	server, err := localdb.New(o)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- server.Run(ctx) }()
	stop := func() error {
		cancel()
		return <-result
	}
	wait, done := context.WithTimeout(ctx, startWait)
	defer done()
	if err := server.WaitReady(wait); err != nil {
		_ = stop() // WaitReady's error is Run's, or the deadline's
		return nil, nil, err
	}
	return server, stop, nil
}
