package agent

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"syncgate/migrations"
	"syncgate/rule"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

func TestMain(m *testing.M) { localdbtest.Main(m) }

// field is a point with its database.
type field struct {
	t      testing.TB
	dsn    string
	db     *sql.DB
	centre *centre
	log    *lines
}

func newField(t testing.TB, c *centre) *field {
	t.Helper()
	f := &field{t: t, dsn: localdbtest.New(t), centre: c, log: &lines{}}
	st := f.store()
	defer st.Close()
	if err := st.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.db, err = sql.Open("mysql", f.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close() })
	return f
}

func (f *field) store() *store.Store {
	f.t.Helper()
	st, err := store.Open(context.Background(), store.Options{DSN: f.dsn, AcceptUnsafe: true, Set: migrations.Agent})
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

func (f *field) exec(query string, args ...any) {
	f.t.Helper()
	if _, err := f.db.Exec(query, args...); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
}

func (f *field) number(query string, args ...any) (n int) {
	f.t.Helper()
	if err := f.db.QueryRow(query, args...).Scan(&n); err != nil {
		f.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// table makes a table of numbered names with n rows and a rule to upload it.
func (f *field) table(name string, n int) {
	f.t.Helper()
	f.exec("CREATE TABLE " + name + " (id INT PRIMARY KEY, name VARCHAR(64))")
	f.fill(name, 1, n)
	f.rule(rule.Upload, name, "")
}

// outboxTable is table with a rule that keeps its batches in the outbox.
func (f *field) outboxTable(name string, n int) {
	f.t.Helper()
	f.table(name, n)
	f.exec("UPDATE sync_control SET sync_sql = '-- option: outbox' WHERE sync_table = ?", name)
}

func (f *field) fill(name string, from, to int) {
	f.t.Helper()
	if from <= to {
		f.exec(fmt.Sprintf("INSERT INTO %s SELECT seq, CONCAT('row ', seq) FROM seq_%d_to_%d", name, from, to))
	}
}

func (f *field) rule(direction, table, text string) {
	f.t.Helper()
	f.exec(`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_sql, `+
		`sync_is_update_state, sync_is_carry_state)
		VALUES (?, ?, 'client', '*', ?, ?, ?)`, table, direction, text,
		strings.Contains(text, "update_state"), strings.Contains(text, "-- upside") && direction == rule.Download)
}

// agent makes an agent with short pauses.
func (f *field) agent(change ...func(*Options)) *Agent {
	f.t.Helper()
	st := f.store()
	f.t.Cleanup(func() { _ = st.Close() })
	o := Options{Store: st, Server: f.centre.address(), Point: testKey.Point, KeyID: testKey.ID, Key: testKey.Secret,
		Interval: 20 * time.Millisecond, FullInterval: 30 * time.Millisecond, RulesEvery: 20 * time.Millisecond,
		BatchRows:    10,
		ReconnectMin: 2 * time.Millisecond, ReconnectMax: 20 * time.Millisecond, RetryMin: 2 * time.Millisecond,
		RetryMax: 20 * time.Millisecond, Log: zerolog.New(f.log)}
	for _, c := range change {
		c(&o)
	}
	a, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// run runs an agent until the test calls the returned function or ends.
func (f *field) run(a *Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				f.t.Errorf("Run: %v", err)
			}
		}
	}
	f.t.Cleanup(stop)
	return stop
}

func (f *field) once(a *Agent) Report {
	f.t.Helper()
	report, err := a.Once(f.t.Context())
	if err != nil {
		f.t.Fatalf("Once: %v\n%s", err, f.log)
	}
	return report
}

// eventually waits until is returns true.
func (f *field) eventually(what string, is func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(waitLimit); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("not within %v: %s\n%s", waitLimit, what, f.log)
		}
	}
}

// inOrder checks that the centre applied exactly the rows 1 to n of a table, in order, each once.
func (f *field) inOrder(table string, n int) {
	f.t.Helper()
	rows := f.centre.got(table, n)
	if len(rows) != n {
		f.t.Errorf("%d rows of %s came, want %d", len(rows), table, n)
	}
	for i, r := range rows {
		if want := fmt.Sprint(int64(i+1), fmt.Sprintf("row %d", i+1)); r != want {
			f.t.Fatalf("row %d of %s is %q, want %q", i, table, r, want)
		}
	}
}

func (f *field) outboxIsEmpty() {
	f.t.Helper()
	f.eventually("the outbox is empty", func() bool { return f.number("SELECT COUNT(*) FROM sync_outbox") == 0 })
}
