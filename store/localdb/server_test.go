package localdb_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

func TestMain(m *testing.M) { localdbtest.Main(m) }

const patience = 2 * time.Minute

// running is a server under test whose end the test decides.
type running struct {
	*localdb.Server
	events chan localdb.Event
	cancel context.CancelFunc
	result chan error
}

// run starts a server without waiting for it. The test's end stops it.
func run(t *testing.T, o localdb.Options, change ...func(*localdb.Server)) *running {
	t.Helper()
	r := &running{events: make(chan localdb.Event, 64), result: make(chan error, 1)}
	o.Observer = func(e localdb.Event) { r.events <- e }
	var err error
	if r.Server, err = localdb.New(o); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r.Server)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.result <- r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

func (r *running) mustAnswer(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := r.wait(t); err != nil {
		t.Fatal(err)
	}
}

func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.result:
		return err
	case <-time.After(patience):
		t.Fatal("Run does not return")
		return nil
	}
}

func (r *running) next(t *testing.T, want localdb.State) localdb.Event {
	t.Helper()
	select {
	case e := <-r.events:
		if e.State != want {
			t.Fatalf("event %v (%v), want %v", e.State, e.Err, want)
		}
		return e
	case <-time.After(patience):
		t.Fatalf("no event %v", want)
		return localdb.Event{}
	}
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	c.Logger = &mysql.NopLogger{} // the tests kill servers on purpose
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func query(t *testing.T, db *sql.DB, q string) string {
	t.Helper()
	var v string
	if err := db.QueryRow(q).Scan(&v); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return v
}

func exec(t *testing.T, db *sql.DB, q string) {
	t.Helper()
	if _, err := db.Exec(q); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// The life of a data directory: made, used, stopped, opened again.
func TestLife(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(map[bool]string{false: "fast", true: "durable"}[durable], func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "made", "on the way")
			r := run(t, localdb.Options{Dir: dir, Durable: durable})
			r.mustAnswer(t)
			if e := r.next(t, localdb.Up); e.PID != r.PID() || e.PID == 0 {
				t.Errorf("Up says pid %d, PID %d", e.PID, r.PID())
			}
			if err := r.CreateDatabase(t.Context(), "odd`name"); err != nil {
				t.Fatal(err)
			}
			db := open(t, r.DSN("odd`name"))
			exec(t, db, "CREATE TABLE t (v VARCHAR(20))")
			exec(t, db, "INSERT INTO t VALUES ('kept 😀')")
			checkSettings(t, db, durable)
			r.stop(t)
			r.next(t, localdb.Stopped)
			if r.PID() != 0 {
				t.Errorf("PID %d after the stop", r.PID())
			}
			if err := r.Run(t.Context()); !errors.Is(err, localdb.ErrStopped) {
				t.Errorf("a second Run: %v", err)
			}

			again := run(t, localdb.Options{Dir: dir, Durable: durable})
			again.mustAnswer(t)
			if got := query(t, open(t, again.DSN("odd`name")), "SELECT v FROM t"); got != "kept 😀" {
				t.Errorf("after a restart: %q", got)
			}
			again.stop(t)
		})
	}
}

func checkSettings(t *testing.T, db *sql.DB, durable bool) {
	t.Helper()
	want := map[string]string{"skip_networking": "1", "character_set_server": "utf8mb4",
		"innodb_flush_log_at_trx_commit": "0", "innodb_doublewrite": "0"}
	if durable {
		want["innodb_flush_log_at_trx_commit"], want["innodb_doublewrite"] = "1", "1"
	}
	for name, v := range want {
		if got := query(t, db, "SELECT @@"+name); got != v {
			t.Errorf("%s = %s, want %s", name, got, v)
		}
	}
	if _, err := db.Exec("SELECT 1 INTO OUTFILE '/tmp/syncgate-must-not-exist'"); err == nil {
		t.Error("SQL wrote a file outside the directory")
	}
}

func TestRestartsWhenItDies(t *testing.T) {
	r := run(t, localdb.Options{Dir: t.TempDir(), Durable: true, RestartMin: time.Millisecond})
	r.mustAnswer(t)
	first := r.next(t, localdb.Up)
	if err := r.CreateDatabase(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	exec(t, open(t, r.DSN("d")), "CREATE TABLE t AS SELECT 'acknowledged' AS v")
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	down := r.next(t, localdb.Down)
	if !errors.Is(down.Err, localdb.ErrDied) || !strings.Contains(down.Err.Error(), "killed") || down.Pause <= 0 {
		t.Errorf("Down says %v, pause %v", down.Err, down.Pause)
	}
	second := r.next(t, localdb.Up)
	if second.PID == first.PID {
		t.Errorf("the same process %d", second.PID)
	}
	if got := query(t, open(t, r.DSN("d")), "SELECT v FROM t"); got != "acknowledged" {
		t.Errorf("after the crash: %q", got)
	}
}

func TestNeverAnswered(t *testing.T) {
	r := run(t, localdb.Options{Dir: t.TempDir(), Args: []string{"--no-such-flag"}})
	err := r.WaitReady(t.Context())
	if !errors.Is(err, localdb.ErrDied) || !strings.Contains(err.Error(), "no-such-flag") {
		t.Fatalf("err = %v, want what the server said", err)
	}
	if got := r.wait(t); !errors.Is(got, localdb.ErrDied) {
		t.Fatalf("Run: %v", got)
	}
}

func TestStopByForce(t *testing.T) {
	r := run(t, localdb.Options{Dir: t.TempDir()}, func(s *localdb.Server) { s.SetTimes(50*time.Millisecond, patience) })
	r.mustAnswer(t)
	if err := syscall.Kill(r.PID(), syscall.SIGSTOP); err != nil { // it can't act on SIGTERM now
		t.Fatal(err)
	}
	r.cancel()
	if err := r.wait(t); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Fatalf("Run: %v", err)
	}
}

func TestCancelledEarly(t *testing.T) {
	r := run(t, localdb.Options{Dir: t.TempDir()})
	r.stop(t) // wherever it is
	if err := r.WaitReady(t.Context()); err != nil && !errors.Is(err, localdb.ErrStopped) {
		t.Fatal(err)
	}
}

func TestInterruptedBootstrap(t *testing.T) {
	dir := t.TempDir()
	r := run(t, localdb.Options{Dir: dir})
	r.mustAnswer(t)
	r.stop(t)
	// As a kill in the middle of the making leaves it: no data, half of data.new.
	if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "mysql"), 0o700); err != nil {
		t.Fatal(err)
	}
	r = run(t, localdb.Options{Dir: dir})
	r.mustAnswer(t)
}

func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long name/", 12))
	r := run(t, localdb.Options{Dir: dir})
	r.mustAnswer(t)
	if err := open(t, r.DSN("")).Ping(); err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	socket, err := mysql.ParseDSN(r.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(socket.Addr)); !os.IsNotExist(err) {
		t.Errorf("the socket's folder of %s is still there (%v)", socket.Addr, err)
	}
}

func TestRefusedDirectories(t *testing.T) {
	if _, err := localdb.New(localdb.Options{}); err == nil {
		t.Error("an empty Dir was taken")
	}
	t.Run("something in it", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ibdata1"), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(t, localdb.Options{Dir: dir}).wait(t); !errors.Is(err, localdb.ErrForeign) {
			t.Fatalf("Run: %v", err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Fatalf("it was touched: %v, %v", entries, err)
		}
	})
	t.Run("another user's", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can make a directory of another user's")
		}
		dir := t.TempDir()
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if err := run(t, localdb.Options{Dir: dir}).wait(t); !errors.Is(err, localdb.ErrForeign) {
			t.Fatalf("Run: %v", err)
		}
	})
	t.Run("a living owner", func(t *testing.T) {
		dir := t.TempDir()
		r := run(t, localdb.Options{Dir: dir})
		r.mustAnswer(t)
		err := run(t, localdb.Options{Dir: dir}).wait(t)
		if !errors.Is(err, localdb.ErrInUse) || !strings.Contains(err.Error(), "by process") {
			t.Fatalf("Run: %v", err)
		}
		if err := open(t, r.DSN("")).Ping(); err != nil {
			t.Fatalf("the owner's database: %v", err)
		}
		if os.Geteuid() != 0 {
			return
		}
		if err := os.Chown(dir, 65534, 65534); err != nil { // now a service's, and root comes by
			t.Fatal(err)
		}
		if err := run(t, localdb.Options{Dir: dir}).wait(t); !errors.Is(err, localdb.ErrInUse) {
			t.Fatalf("Run: %v", err)
		}
	})
}

func TestDatabasePerTest(t *testing.T) {
	one, two := localdbtest.New(t), localdbtest.New(t)
	if one == two {
		t.Fatalf("both are %s", one)
	}
	exec(t, open(t, one), "CREATE TABLE t (a INT)")
	exec(t, open(t, two), "CREATE TABLE t (a INT)")
}
