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
	"github.com/rs/zerolog"

	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

func TestMain(m *testing.M) { localdbtest.Main(m) }

const waitLimit = 2 * time.Minute

// run starts a server. The test's end stops it, unless the test has.
func run(t *testing.T, o localdb.Options) *localdb.Server {
	t.Helper()
	return localdbtest.Server(t, o)
}

// refused starts a server that must not start, and returns why it did not.
func refused(t *testing.T, o localdb.Options) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	s, err := localdb.Start(ctx, o)
	if err == nil {
		t.Fatal("it started", s.Stop())
	}
	return err
}

func stop(t *testing.T, s *localdb.Server) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
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
			if r.PID() == 0 {
				t.Error("no PID while it answers")
			}
			if err := r.CreateDatabase(t.Context(), "odd`name"); err != nil {
				t.Fatal(err)
			}
			db := open(t, r.DSN("odd`name"))
			exec(t, db, "CREATE TABLE t (v VARCHAR(20))")
			exec(t, db, "INSERT INTO t VALUES ('kept 😀')")
			checkSettings(t, db, durable)
			stop(t, r)
			if r.PID() != 0 {
				t.Errorf("PID %d after the stop", r.PID())
			}
			again := run(t, localdb.Options{Dir: dir, Durable: durable})
			if got := query(t, open(t, again.DSN("odd`name")), "SELECT v FROM t"); got != "kept 😀" {
				t.Errorf("after a restart: %q", got)
			}
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
	log := make(lines, 10)
	r := run(t, localdb.Options{Durable: true, Log: zerolog.New(log)})
	log.next(t, "private database answers")
	first := r.PID()
	if err := r.CreateDatabase(t.Context(), "d"); err != nil {
		t.Fatal(err)
	}
	exec(t, open(t, r.DSN("d")), "CREATE TABLE t AS SELECT 'acknowledged' AS v")
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	log.next(t, "the database ended: signal: killed")
	log.next(t, "private database answers")
	if r.PID() == first {
		t.Errorf("the same process %d", first)
	}
	if got := query(t, open(t, r.DSN("d")), "SELECT v FROM t"); got != "acknowledged" {
		t.Errorf("after the crash: %q", got)
	}
	stop(t, r)
	log.next(t, "private database stopped")
}

// lines takes the log, one line a Write.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func (l lines) next(t *testing.T, want string) {
	t.Helper()
	select {
	case line := <-l:
		if !strings.Contains(line, want) {
			t.Fatalf("the log has %s, not %q", line, want)
		}
	case <-time.After(waitLimit):
		t.Fatalf("the log does not have %q", want)
	}
}

func TestNeverAnswered(t *testing.T) {
	dir := t.TempDir()
	stop(t, run(t, localdb.Options{Dir: dir}))
	if err := os.RemoveAll(filepath.Join(dir, "data", "mysql")); err != nil {
		t.Fatal(err)
	}
	if err := refused(t, localdb.Options{Dir: dir}); !strings.Contains(err.Error(), "mysql.") {
		t.Fatalf("err = %v, want what the server said", err)
	}
}

func TestStopByForce(t *testing.T) {
	r, err := localdb.Start(t.Context(), localdb.Options{Dir: t.TempDir()}.WithTimes(50*time.Millisecond, waitLimit))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(r.PID(), syscall.SIGSTOP); err != nil { // it can't act on SIGTERM now
		t.Fatal(err)
	}
	if err := r.Stop(); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Fatalf("Stop: %v", err)
	}
}

// A start that is given up leaves no process, wherever it was.
func TestCancelledEarly(t *testing.T) {
	dir := t.TempDir()
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 200 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), after)
		s, err := localdb.Start(ctx, localdb.Options{Dir: dir})
		cancel()
		if err == nil {
			stop(t, s)
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	run(t, localdb.Options{Dir: dir})
}

func TestInterruptedBootstrap(t *testing.T) {
	dir := t.TempDir()
	stop(t, run(t, localdb.Options{Dir: dir}))
	// As a kill in the middle of the making leaves it: no data, half of data.new.
	if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "mysql"), 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, localdb.Options{Dir: dir})
}

func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long name/", 12))
	r := run(t, localdb.Options{Dir: dir})
	if err := open(t, r.DSN("")).Ping(); err != nil {
		t.Fatal(err)
	}
	stop(t, r)
	socket, err := mysql.ParseDSN(r.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(socket.Addr)); !os.IsNotExist(err) {
		t.Errorf("the socket's folder of %s is still there (%v)", socket.Addr, err)
	}
}

func TestRefusedDirectories(t *testing.T) {
	if err := refused(t, localdb.Options{}); !strings.Contains(err.Error(), "Dir is empty") {
		t.Error(err)
	}
	t.Run("something in it", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "ibdata1"), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := refused(t, localdb.Options{Dir: dir}); !errors.Is(err, localdb.ErrForeign) {
			t.Fatalf("Start: %v", err)
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
		if err := refused(t, localdb.Options{Dir: dir}); !errors.Is(err, localdb.ErrForeign) {
			t.Fatalf("Start: %v", err)
		}
	})
	t.Run("a living owner", func(t *testing.T) {
		dir := t.TempDir()
		r := run(t, localdb.Options{Dir: dir})
		err := refused(t, localdb.Options{Dir: dir})
		if !errors.Is(err, localdb.ErrInUse) || !strings.Contains(err.Error(), "by process") {
			t.Fatalf("Start: %v", err)
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
		if err := refused(t, localdb.Options{Dir: dir}); !errors.Is(err, localdb.ErrInUse) {
			t.Fatalf("Start: %v", err)
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
