package agent

import (
	"strings"
	"sync/atomic"
	"testing"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

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
