package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"syncgate/migrations"
	"syncgate/protocol"
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
		VALUES (?, ?, 'client', '*', ?, ?, ?)`, table, direction, text, strings.Contains(text, "update_state"), strings.Contains(text, "-- upside") && direction == rule.Download)
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

func TestOnceUploadsAndDownloads(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 95)
	f.table("empty", 0)
	f.exec("CREATE TABLE names (name VARCHAR(64) PRIMARY KEY)")
	f.rule(rule.Download, "names", "")
	for i := range 20 {
		c.source["names"] = append(c.source["names"], fmt.Sprintf("n%02d", i))
	}
	report := f.once(f.agent())
	f.inOrder("things", 95)
	if n := f.number("SELECT COUNT(*) FROM names"); n != 20 {
		t.Errorf("%d names came down, want 20", n)
	}
	if n := f.number("SELECT COUNT(*) FROM sync_outbox"); n != 0 {
		t.Errorf("%d batches are left", n)
	}
	var text strings.Builder
	if err := report.Print(&text); err != nil {
		t.Fatal(err)
	}
	want := `TYPE      TABLE   ROWS  BATCHES  QUARANTINED  RESULT
upload    empty   0     0        0            ok
upload    things  95    10       0            ok
download  names   20    4        0            ok
`
	if text.String() != want {
		t.Errorf("report\n%swant\n%s", &text, want)
	}

	f.fill("things", 96, 100)
	c.source["names"] = append(c.source["names"], "last")
	f.once(f.agent())
	f.inOrder("things", 100)
	if n := f.number("SELECT COUNT(*) FROM names"); n != 21 {
		t.Errorf("%d names after the second round, want 21", n)
	}
}

func TestOnceSaysWhy(t *testing.T) {
	tests := []struct {
		name string
		set  func(c *centre, f *field)
		opts func(*Options)
		want string
	}{
		{"no server", func(c *centre, _ *field) { c.stop() }, nil, "connection refused"},
		{"wrong key", nil, func(o *Options) { o.Key[5]++ }, "SG0001 REJECTED"},
		{"no rule", func(c *centre, _ *field) {
			c.on(func(p *peer, m *protocol.Message) bool {
				return m.Op == protocol.OpUpload && p.refuse(m, protocol.StatusNoRule, "no rule for things", 0)
			})
		}, nil, "upload things: SG0200 NO_RULE: no rule for things"},
		{"refused, and the outbox is full of it", func(c *centre, f *field) {
			f.table("others", 95)
			c.on(func(p *peer, m *protocol.Message) bool {
				u, err := m.UploadRequest()
				return m.Op == protocol.OpUpload && err == nil && u.Table == "things" &&
					p.refuse(m, protocol.StatusUnknownTable, "", 0)
			})
		}, func(o *Options) { o.OutboxBatches = 2 }, "upload things: SG0201 UNKNOWN_TABLE"},
		{"always busy", func(c *centre, _ *field) {
			c.on(func(p *peer, m *protocol.Message) bool {
				return m.Op == protocol.OpUpload && p.refuse(m, protocol.StatusBusy, "", time.Millisecond)
			})
		}, nil, "upload things: SG0002 BUSY"},
		{"broken rule", func(_ *centre, f *field) {
			f.rule(rule.Download, "things", "drop table things")
		}, nil, "download things: the rule is broken: sync_control id=2"},
		{"local SQL", func(_ *centre, f *field) {
			f.rule(rule.Upload, "nowhere", "select id from nowhere")
		}, nil, "upload nowhere: the rule is broken: sync_control id=2 sync_sql[upside] 1:16 error SG0103 unknown " +
			"table nowhere"},
		{"full outbox", func(_ *centre, f *field) { f.rule(rule.Upload, "other", "select id, name from things") },
			func(o *Options) {
				o.OutboxBytes = 1000
			}, "upload other: the upside gives more than the outbox may hold (1000 bytes)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newCentre(t)
			f := newField(t, c)
			f.table("things", 95)
			if test.set != nil {
				test.set(c, f)
			}
			a := f.agent(func(o *Options) {
				if test.opts != nil {
					test.opts(o)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
			defer cancel()
			report, err := a.Once(ctx)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v\nwant %s", err, test.want)
			}
			if report == nil {
				t.Error("no report")
			}
		})
	}
}

func TestAckLost(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.outboxTable("things", 50)
	lost := 0
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op != protocol.OpUpload || m.RequestID.Seq()%2 == 0 || lost == 3 {
			return false
		}
		lost++
		p.apply(m)
		_ = p.conn.Close()
		return true
	})
	f.run(f.agent())
	f.inOrder("things", 50)
	f.outboxIsEmpty()
	c.mu.Lock()
	defer c.mu.Unlock()
	if lost != 3 || len(c.ledger) != 5 || len(c.seen) != 5+lost {
		t.Errorf("%d acks lost, %d batches in %d requests; want 3, 5, 8", lost, len(c.ledger), len(c.seen))
	}
}

func TestCollectsOffline(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	address := c.address()
	c.stop()
	f.outboxTable("things", 30)
	f.run(f.agent())
	f.eventually("three batches wait", func() bool { return f.number("SELECT COUNT(*) FROM sync_outbox") == 3 })
	f.fill("things", 31, 45)
	f.eventually("five batches wait", func() bool { return f.number("SELECT COUNT(*) FROM sync_outbox") == 5 })
	c.listen(address)
	f.inOrder("things", 45)
	f.outboxIsEmpty()
	f.log.has(t, "offline; rows wait until")
}

// TestKilled takes the database away from a running agent at many moments. Each time a new agent goes on from the last
// commit.
func TestKilled(t *testing.T) {
	t.Run("with outbox", func(t *testing.T) { testKilled(t, (*field).outboxTable) })
	t.Run("without", func(t *testing.T) { testKilled(t, (*field).table) })
}

func testKilled(t *testing.T, table func(*field, string, int)) {
	c := newCentre(t)
	f := newField(t, c)
	const rows, runs = 400, 12
	table(f, "things", rows)
	for i := range runs {
		st := f.store()
		a := f.agent(func(o *Options) { o.Store, o.BatchRows = st, 8 })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		c.mu.Lock()
		n := len(c.rows["things"])
		c.mu.Unlock()
		go func() { done <- a.Run(ctx) }()
		c.got("things", min(n+8*(1+i%4), rows))
		if err := st.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		cancel()
		if err := <-done; err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Run: %v", err)
		}
		c.cut()
	}
	f.run(f.agent())
	f.inOrder("things", rows)
	f.outboxIsEmpty()
}

func TestBusyAndReject(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 50)
	const after = 60 * time.Millisecond
	var asked []time.Time
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op != protocol.OpUpload || len(asked) == 3 {
			return false
		}
		asked = append(asked, time.Now())
		return p.refuse(m, protocol.StatusBusy, "queue is full", after)
	})
	// A REJECT of BUSY: status 2, retry after 40 ms.
	c.reject = rejectFrame(protocol.StatusBusy, 40*time.Millisecond)
	f.run(f.agent())
	f.eventually("it has come twice", func() bool { return c.hello.Load() >= 2 })
	c.mu.Lock()
	c.reject = nil
	c.mu.Unlock()
	f.inOrder("things", 50)
	f.outboxIsEmpty()
	for i := range len(asked) - 1 {
		if d := asked[i+1].Sub(asked[i]); d < after {
			t.Errorf("asked again after %v, told %v", d, after)
		}
	}
	f.log.has(t, "SG0002 BUSY: queue is full", "rule recovered")
}

func TestGoAway(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 60)
	f.table("others", 60)
	gone := 0
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op != protocol.OpUpload || gone == 2 {
			return false
		}
		gone++
		p.send(&protocol.Message{Op: protocol.OpGoAway, Body: &protocol.GoAway{Reason: "drain", GraceMs: 10_000}})
		return false // and answer the requests in flight
	})
	f.run(f.agent())
	f.inOrder("things", 60)
	f.inOrder("others", 60)
	f.outboxIsEmpty()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.hello.Load(); n < 2 || n > 3 {
		t.Errorf("%d connections, want one more for each GOAWAY, or one for both", n)
	}
	if len(c.seen) != 12 {
		t.Errorf("%d requests for 12 batches: GOAWAY lost some", len(c.seen))
	}
}

// A session reaches the end of its hour during an upload. The agent opens a new connection and neither loses a request
// nor sends it twice.
func TestSessionHasHadItsHour(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 60)
	f.table("others", 60)
	var ahead atomic.Int64
	c.on(func(_ *peer, m *protocol.Message) bool {
		if m.Op == protocol.OpUpload {
			ahead.CompareAndSwap(0, int64(protocol.SessionLifetime))
		}
		return false
	})
	f.run(f.agent(func(o *Options) {
		o.Clock = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	}))
	f.inOrder("things", 60)
	f.inOrder("others", 60)
	f.outboxIsEmpty()
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.hello.Load(); n != 2 {
		t.Errorf("%d connections, want a second one after the hour", n)
	}
	if len(c.seen) != 12 {
		t.Errorf("%d requests for 12 batches", len(c.seen))
	}
}

func TestRequestIDReused(t *testing.T) {
	c := newCentre(t)
	c.lenient = true // renumbering leaves holes
	f := newField(t, c)
	f.outboxTable("things", 60)
	f.outboxTable("others", 60)
	address := c.address()
	c.stop()
	stop := f.run(f.agent())
	f.eventually("all is collected", func() bool {
		return f.number("SELECT COALESCE(SUM(row_count), 0) FROM sync_outbox") == 120
	})
	stop()
	// The centre has seen sequences up to 9 of this epoch, with other rows.
	var epoch uint64
	if err := f.db.QueryRow("SELECT epoch FROM sync_agent_epoch").Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(10) {
		c.ledger[protocol.MakeRequestID(epoch, seq)] = entered{}
	}
	c.listen(address)
	f.run(f.agent())
	f.inOrder("things", 60)
	f.inOrder("others", 60)
	f.outboxIsEmpty()
	if n := f.number("SELECT epoch > ? FROM sync_agent_epoch", epoch); n != 1 {
		t.Error("the epoch did not change")
	}
	f.log.has(t, "goes on in a new epoch")
}

func TestDamagedRecord(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 40)
	damaged := 0
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op == protocol.OpUpload && damaged < 2 {
			damaged++
			p.damage.Store(true)
		}
		return false
	})
	f.run(f.agent())
	f.inOrder("things", 40)
	f.outboxIsEmpty()
	f.log.has(t, "SG0004")
}

func TestRefusedRuleKeepsItsBatches(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.outboxTable("things", 45)
	f.outboxTable("others", 45)
	refusing := true
	c.on(func(p *peer, m *protocol.Message) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if m.Op != protocol.OpUpload || !refusing {
			return false
		}
		u, err := m.UploadRequest()
		return err == nil && u.Table == "things" && p.refuse(m, protocol.StatusRequestMismatch, "fields differ", 0)
	})
	var moved, failed atomic.Int64
	f.run(f.agent(func(o *Options) {
		o.Observer = func(e store.Event) {
			switch e.Metric {
			case rowsMoved:
				moved.Add(int64(e.N))
			case ruleFailures:
				failed.Add(int64(e.N))
			}
		}
	}))
	f.inOrder("others", 45)
	f.eventually("the rows and the failure are counted", func() bool { return moved.Load() == 45 && failed.Load() > 0 })
	f.eventually("the reason stands in the outbox", func() bool {
		return f.number("SELECT COUNT(*) FROM sync_outbox WHERE last_status = 203 AND last_error = 'fields differ' "+
			"AND attempts > 0") == 1
	})
	f.fill("others", 46, 60)
	f.inOrder("others", 60)
	if n := f.number("SELECT COUNT(*) FROM sync_outbox WHERE sync_table = 'things'"); n != 5 {
		t.Errorf("%d batches are kept, want 5", n)
	}
	f.log.has(t, "SG0203 REQUEST_MISMATCH: fields differ")
	c.mu.Lock()
	refusing = false
	c.mu.Unlock()
	f.inOrder("things", 45)
	f.outboxIsEmpty()
}

func TestOutboxFull(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	address := c.address()
	c.stop()
	f.outboxTable("things", 100)
	f.run(f.agent(func(o *Options) { o.OutboxBatches = 3 }))
	f.eventually("it says so", func() bool { return strings.Contains(f.log.String(), "outbox is full") })
	if n := f.number("SELECT COUNT(*) FROM sync_outbox"); n != 3 {
		t.Errorf("%d batches wait, want 3", n)
	}
	c.listen(address)
	f.inOrder("things", 100)
	f.outboxIsEmpty()
	f.log.has(t, "outbox has room again")
}

// The oldest rows are dropped where the settings say so: the newest arrive, in order, and the log says what is lost.
func TestOutboxDropsOldest(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	address := c.address()
	c.stop()
	f.outboxTable("things", 100)
	f.run(f.agent(func(o *Options) { o.OutboxBatches, o.DropOldest = 3, true }))
	f.eventually("the last batch waits behind the two that may be under way", func() bool {
		return f.number("SELECT COUNT(*) * 100 + COALESCE(MAX(seq), 0) FROM sync_outbox") == 310
	})
	f.log.has(t, "the oldest rows were dropped and will never reach the centre")
	c.listen(address)
	rows := c.got("things", 30)
	if len(rows) != 30 || rows[19] != "20row 20" || rows[29] != "100row 100" {
		t.Errorf("%d rows came: %q", len(rows), rows)
	}
	f.outboxIsEmpty()
}

func TestOnceThroughSmallOutbox(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.outboxTable("things", 200)
	f.outboxTable("others", 200)
	f.once(f.agent(func(o *Options) { o.OutboxBatches = 2 }))
	f.inOrder("things", 200)
	f.inOrder("others", 200)
}

func TestDownloadCut(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.exec("CREATE TABLE names (name VARCHAR(64) PRIMARY KEY)")
	f.rule(rule.Download, "names", "insert into names (name) values (:name)") // a second time would fail
	for i := range 9 {
		c.source["names"] = append(c.source["names"], fmt.Sprintf("n%d", i))
	}
	cuts := 0
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op != protocol.OpDownload || cuts == 4 {
			return false
		}
		cuts++
		p.download(m, cuts%2) // at the first part, and after it
		return true
	})
	f.run(f.agent())
	f.eventually("all names are there", func() bool { return f.number("SELECT COUNT(*) FROM names") == 9 })
	c.mu.Lock()
	c.source["names"] = append(c.source["names"], "last")
	c.mu.Unlock()
	f.eventually("the new one came", func() bool { return f.number("SELECT COUNT(*) FROM names") == 10 })
	if n := f.number("SELECT COUNT(*) FROM sync_quarantine"); n != 0 {
		t.Errorf("%d rows came twice", n)
	}
	if cuts != 4 {
		t.Errorf("%d cuts, want 4", cuts)
	}
}

func TestDownloadCarriesState(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.exec("CREATE TABLE names (name VARCHAR(64) PRIMARY KEY)")
	f.rule(rule.Download, "names", `-- upside
select count(*) as at, max(name) as last from names
-- downside
insert into names (name) values (:name)`)
	for i := range 9 {
		c.source["names"] = append(c.source["names"], fmt.Sprintf("n%d", i))
	}
	var asked []string
	c.on(func(p *peer, m *protocol.Message) bool {
		if d, err := m.DownloadRequest(); m.Op == protocol.OpDownload && err == nil {
			asked = append(asked, fmt.Sprint(d.State))
		}
		return false
	})
	f.once(f.agent())
	if n := f.number("SELECT COUNT(*) FROM names"); n != 9 {
		t.Errorf("%d names, want 9", n)
	}
	if got := strings.Join(asked, " "); got != "[{at 0}] [{at 6} {last n5}]" {
		t.Errorf("asked with %s", got)
	}
}

func TestUpdateState(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.exec("CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(64), sent INT NOT NULL DEFAULT 0)")
	f.exec("INSERT INTO things (id, name) SELECT seq, CONCAT('row ', seq) FROM seq_1_to_35")
	f.rule(rule.Upload, "things", `-- upside
select id, name from things where sent = 0 order by id
-- update_state
update things set sent = sent + 1 where id = :id`)
	f.run(f.agent())
	f.inOrder("things", 35)
	f.outboxIsEmpty()
	f.exec("INSERT INTO things (id, name) VALUES (36, 'row 36')")
	f.inOrder("things", 36)
	f.outboxIsEmpty()
	f.eventually("all are marked", func() bool { return f.number("SELECT COUNT(*) FROM things WHERE sent = 1") == 36 })
}

// An edit of the rule's fields while a batch is in flight leaves rows that the new update_state cannot mark. The agent
// sends them again under the new rule.
func TestFieldsChangeUnderABatch(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.exec("CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(64), sent INT NOT NULL DEFAULT 0)")
	f.exec("INSERT INTO things (id, name) SELECT seq, CONCAT('row ', seq) FROM seq_1_to_5")
	f.rule(rule.Upload, "things", "select id, name from things where sent = 0 order by id\n-- update_state\nupdate "+
		"things set sent = 1 where id = :id")
	held := make(chan struct{})
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op == protocol.OpUpload {
			<-held
		}
		return false
	})
	a := f.agent()
	f.run(a)
	f.eventually("a batch is on its way", func() bool { return f.number("SELECT COUNT(*) FROM sync_outbox") == 1 })
	before := a.rules.find(ruleName{rule.Upload, "things"}).Plan
	f.exec("UPDATE sync_control SET sync_sql = ?", "select id, name, sent from things where sent = 0 order by id\n-- "+
		"update_state\nupdate things set sent = 1 where id = :id")
	f.eventually("the edit is seen", func() bool {
		return a.rules.find(ruleName{rule.Upload, "things"}).Plan != before
	})
	close(held)
	f.eventually("all are marked", func() bool { return f.number("SELECT COUNT(*) FROM things WHERE sent = 1") == 5 })
	if rows := c.got("things", 10); len(rows) != 10 {
		t.Errorf("%d rows came, want 5 twice", len(rows))
	}
	f.log.has(t, "fields have changed since")
}

func TestRulesAreFetched(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.exec("CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(64))")
	f.exec("CREATE TABLE own (id INT PRIMARY KEY, name VARCHAR(64))")
	f.fill("things", 1, 20)
	f.fill("own", 1, 20)
	f.rule(rule.Upload, "own", "select id, name from own where id > :state.id order by id limit :limit")
	given := func(id int64, table, text string) protocol.RuleRow {
		return protocol.RuleRow{{Name: "id", Value: id}, {Name: "sync_table", Value: table},
			{Name: "sync_type", Value: "upload"},
			{Name: "sync_user", Value: "client"}, {Name: "sync_point_no", Value: "*"}, {Name: "sync_sql", Value: text},
			{Name: "enabled", Value: int64(1)}, {Name: "a column of a later version", Value: "x"}}
	}
	c.rules = []protocol.RuleRow{given(1, "own", "select id from nowhere")}
	stop := f.run(f.agent())
	f.inOrder("own", 20) // the local row won

	subscribed := make(chan *peer, 1)
	c.mu.Lock()
	c.rules = append(c.rules, given(2, "things", "-- option: outbox"))
	for p := range c.conns {
		subscribed <- p
	}
	c.mu.Unlock()
	c.version.Store(2)
	p := <-subscribed
	p.send(&protocol.Message{Op: protocol.OpSubscribe, Flags: protocol.FlagMore,
		RequestID: protocol.MakeRequestID(1, 1), Body: &protocol.PingReply{RulesVersion: 2}})
	f.inOrder("things", 20)
	if n := f.number("SELECT COUNT(*) FROM sync_agent_rule"); n != 2 {
		t.Errorf("%d rules are stored, want 2", n)
	}

	// Without the server a new agent uses the rules that it fetched before.
	f.outboxIsEmpty()
	stop()
	c.stop()
	f.run(f.agent())
	f.fill("things", 21, 30)
	f.eventually("the new rows wait", func() bool {
		return f.number("SELECT COALESCE(SUM(row_count), 0) FROM sync_outbox") == 10
	})
}

// A row that names the point counts before the row of every point, and the point's own rows before those of the centre.
func TestWhichRuleCounts(t *testing.T) {
	f := newField(t, newCentre(t))
	a := f.agent()
	add := func(into string, id uint64, user, point, table string, enabled bool) {
		f.exec("INSERT INTO "+into+` (id, sync_table, sync_type, sync_user, sync_point_no, sync_sql, enabled)
			VALUES (?, ?, 'upload', ?, ?, 'select 1 as id', ?)`, id, table, user, point, enabled)
	}
	point := testKey.Point
	for _, into := range []string{"sync_control", "sync_agent_rule"} {
		add(into, 1, rule.Server, point, "a", true)
		add(into, 2, rule.Client, "*", "a", true)
		add(into, 5, rule.Client, "other", "b", true)
		add(into, 7, rule.Client, strings.ToUpper(point), "d", true)
	}
	add("sync_control", 3, rule.Client, point, "a", true)
	add("sync_control", 4, rule.Client, "*", "off", false)
	add("sync_agent_rule", 8, rule.Client, point, "off", true)
	add("sync_agent_rule", 9, rule.Client, point, "given", true)
	add("sync_agent_rule", 10, rule.Client, "*", "given", true)
	if err := a.rules.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]uint64{"a": 3, "b": 0, "off": 4, "d": 0, "given": 9} {
		var got uint64
		if r := a.rules.find(ruleName{rule.Upload, table}); r != nil {
			got = r.Row.ID
		}
		if got != want {
			t.Errorf("%s: rule %d, want %d", table, got, want)
		}
	}
	if on := a.rules.enabled(); len(on) != 2 || on[ruleName{rule.Upload, "off"}] != nil {
		t.Errorf("switched on are %v", on)
	}
}

func TestLocalRuleEdits(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 10)
	f.run(f.agent())
	f.inOrder("things", 10)
	f.exec("UPDATE sync_control SET sync_sql = 'drop table things', updated_by = 'x'")
	f.eventually("the mistake is named", func() bool { return strings.Contains(f.log.String(), `"state":"stale"`) })
	f.fill("things", 11, 20)
	f.inOrder("things", 20) // under the last good version

	// The DBA sees at the point what became of the rule.
	f.eventually("the status view has the rule's state and its runs", func() bool {
		return f.number(`SELECT COUNT(*) FROM sync_control_status WHERE state = 'stale' AND error_code LIKE 'SG%'
			AND runs >= 2 AND rows_moved = 20 AND failures = 0`) == 1
	})
	f.exec("UPDATE sync_control SET enabled = 0")
	f.eventually("it is off", func() bool {
		return f.number("SELECT COUNT(*) FROM sync_control WHERE enabled = 0") == 1
	})
}

func TestPingBothWays(t *testing.T) {
	c := newCentre(t, func(o *protocol.ServerOptions) { o.Keepalive = time.Second })
	f := newField(t, c)
	pinged := make(chan struct{}, 16)
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op == protocol.OpPing {
			pinged <- struct{}{}
		}
		return false
	})
	f.run(f.agent())
	for range 3 { // the first belongs to the handshake, the second asks for the rules' version
		select {
		case <-pinged:
		case <-time.After(waitLimit):
			t.Fatal("no ping from the agent")
		}
	}
	c.mu.Lock()
	for p := range c.conns {
		p.send(p.session.Ping())
	}
	c.mu.Unlock()
	f.eventually("the agent answers a ping", func() bool { return c.pongs.Load() > 0 })
}

func TestRowThatNoMessageCarries(t *testing.T) {
	c := newCentre(t, func(o *protocol.ServerOptions) { o.MaxMessage = 1 << 20 })
	c.lenient = true // a row leaves the outbox for the quarantine
	f := newField(t, c)
	f.exec("CREATE TABLE things (id INT PRIMARY KEY, name LONGTEXT)")
	f.exec("INSERT INTO things VALUES (1, 'row 1'), (2, 'row 2'), (3, REPEAT('x', 17 * 1024 * 1024)), (4, " +
		"REPEAT('y', 2 * 1024 * 1024)), (5, 'row 3')")
	f.rule(rule.Upload, "things", "")
	f.exec("UPDATE things SET id = 6 WHERE id = 5")
	report, err := f.agent().Once(t.Context())
	if err != nil {
		t.Fatalf("Once: %v\n%s", err, f.log)
	}
	rows := c.got("things", 3)
	if len(rows) != 3 || rows[2] != fmt.Sprint(int64(6), "row 3") {
		t.Errorf("%d rows came", len(rows))
	}
	if n := f.number("SELECT COUNT(*) FROM sync_quarantine WHERE error_text LIKE 'row id=3 has 1782%' OR error_text " +
		"LIKE 'row id=4 has 209%'"); n != 2 {
		t.Errorf("%d rows are in the quarantine by name, want 2\n%s", n, f.log)
	}
	if report[0].Quarantined != 2 {
		t.Errorf("report %+v", report)
	}
}

func TestOneAgentADatabase(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	stop := f.run(f.agent())
	f.eventually("the first one works", func() bool { return strings.Contains(f.log.String(), "agent starts") })
	second := agentLock{db: f.store(), point: testKey.Point}
	defer second.db.Close()
	if err := second.take(t.Context()); !errors.Is(err, ErrTaken) {
		t.Errorf("a second agent: %v", err)
	}
	stop()
	if err := second.take(t.Context()); err != nil {
		t.Errorf("after the first has stopped: %v", err)
	}
	second.release()
}
