package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

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

// While the table cannot be counted the limits hold by the former count.
func TestRecountFails(t *testing.T) {
	f := newField(t, newCentre(t))
	b := f.agent().outbox
	b.count("things", 3, 30, 300)
	f.exec("RENAME TABLE sync_outbox TO away")
	if err := b.recount(t.Context()); err == nil || b.batches != 3 || b.of("things") != (waiting{30, 300}) {
		t.Errorf("%d batches, %+v after %v", b.batches, b.waiting, err)
	}
	f.exec("RENAME TABLE away TO sync_outbox")
	if err := b.recount(t.Context()); err != nil || b.batches != 0 || b.bytes != 0 {
		t.Errorf("%d batches of %d bytes, %v", b.batches, b.bytes, err)
	}
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
