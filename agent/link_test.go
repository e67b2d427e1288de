package agent

import (
	"sync/atomic"
	"testing"
	"time"

	"syncgate/protocol"
)

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
