package agent

import (
	"strings"
	"testing"
	"time"

	"syncgate/protocol"
	"syncgate/rule"
)

// told sends the connected agent what SUBSCRIBE is answered with.
func (c *centre) told(id protocol.RequestID, reply *protocol.SubscribeReply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reply.RulesVersion = c.version.Load()
	for p := range c.conns {
		p.send(&protocol.Message{Op: protocol.OpSubscribe, Flags: protocol.FlagMore, RequestID: id, Body: reply})
	}
}

// An agent downloads what it is told of, and does not ask before.
func TestDownloadsWhenTold(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.exec("CREATE TABLE listed (name VARCHAR(64) PRIMARY KEY)")
	f.rule(rule.Download, "listed", "insert into listed (name) values (:name)")
	c.source["listed"] = []any{"one"}
	subscribed, asked := make(chan protocol.Message, 10), make(chan bool, 100)
	c.on(func(p *peer, m *protocol.Message) bool {
		switch m.Op {
		case protocol.OpSubscribe:
			subscribed <- *m
			reply := &protocol.SubscribeReply{PingReply: protocol.PingReply{RulesVersion: p.version.Load()},
				News: []string{"listed"}}
			r := m.Reply(protocol.StatusOK, reply)
			r.Flags = protocol.FlagMore
			p.send(r)
			return true
		case protocol.OpDownload:
			select {
			case asked <- true:
			default:
			}
		}
		return false
	})
	f.run(f.agent(func(o *Options) { o.Interval = time.Millisecond }))
	m := <-subscribed
	if req, err := m.SubscribeRequest(); err != nil || len(req.Tables) != 1 || req.Tables[0] != "listed" || !req.Runs {
		t.Fatal(req, err)
	}
	f.eventually("the first row", func() bool { return f.number("SELECT COUNT(*) FROM listed") == 1 })
	// An agent that asks on its own does so ten times in this time.
	often := 10 * unaidedFactor * time.Millisecond
	c.mu.Lock()
	c.source["listed"] = append(c.source["listed"], "two")
	c.mu.Unlock()
	time.Sleep(often)
	if n := len(asked); n > 3 { // at the start, and for what it was told with the first reply
		t.Errorf("the agent has asked %d times for a table that has no news", n)
	}
	c.told(m.RequestID, &protocol.SubscribeReply{News: []string{"listed"}})
	f.eventually("the second row", func() bool { return f.number("SELECT COUNT(*) FROM listed") == 2 })
	// The server can no longer tell, so the agent asks on its own.
	c.told(m.RequestID, &protocol.SubscribeReply{News: []string{"listed"}, Polled: []string{"listed"}})
	for range 10 {
		select {
		case <-asked:
		case <-time.After(waitLimit):
			t.Fatal("the agent does not ask")
		}
	}
}

// The centre asks for runs of rules: of one that has rows, of one that fails, and of one that there is not.
func TestRunsWhenAsked(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.outboxTable("things", 0)
	f.table("others", 0)
	c.ran = make(chan *protocol.Message, 100)
	f.run(f.agent(func(o *Options) { o.Interval, o.FullInterval = time.Hour, time.Hour }))
	f.eventually("the agent is connected", func() bool { return c.hello.Load() == 1 && len(c.sessions()) == 1 })
	var ask func(table, kind string) (lines []string, last *protocol.Message)
	ask = func(table, kind string) (lines []string, last *protocol.Message) {
		t.Helper()
		p := c.sessions()[0]
		id := p.session.RequestID()
		p.send(&protocol.Message{Op: protocol.OpRun, RequestID: id,
			Body: &protocol.RunRequest{Table: table, Type: kind}})
		for {
			select {
			case m := <-c.ran:
				switch {
				case m.RequestID != id:
					t.Fatal(m.RequestID, id)
				case m.Status == protocol.StatusBusy: // its loops have not begun
					return ask(table, kind)
				case !m.More():
					return lines, m
				}
				r, err := m.RunReply()
				if err != nil {
					t.Fatal(err)
				}
				lines = append(lines, r.Text)
			case <-time.After(waitLimit):
				t.Fatal("no answer")
			}
		}
	}
	for _, table := range []string{"things", "others"} {
		f.fill(table, 1, 25)
		lines, last := ask(table, rule.Upload)
		if r, err := last.RunReply(); err != nil || last.Status != protocol.StatusOK || r.Rows != 25 ||
			r.Text != "done: 25 rows acknowledged by the centre, in 3 batches" {
			t.Errorf("%s: %v %v %+v %v", table, lines, last.Status, r, err)
		}
		f.inOrder(table, 25)
	}
	if _, last := ask("things", rule.Download); last.Status != protocol.StatusNoRule {
		t.Error(last.Status)
	}
	c.on(func(p *peer, m *protocol.Message) bool {
		return m.Op == protocol.OpUpload && p.refuse(m, protocol.StatusSQLError, "the centre does not like it", 0)
	})
	f.fill("things", 26, 27)
	_, last := ask("things", rule.Upload)
	if e, err := last.ErrorReply(); err != nil || last.Status != protocol.StatusSQLError ||
		!strings.Contains(e.Message, "does not like it") {
		t.Error(last.Status, e, err)
	}
}
