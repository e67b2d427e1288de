package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"syncgate/protocol"
	"syncgate/rule"
)

// Answers are lost with their connections, before and after the centre has applied the batch.
func TestStreamLosesAnswers(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 100)
	uploads := 0
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op != protocol.OpUpload {
			return false
		}
		switch uploads++; uploads % 5 {
		case 2:
			p.apply(m)
		case 4:
		default:
			return false
		}
		_ = p.conn.Close()
		return true
	})
	f.run(f.agent())
	f.inOrder("things", 100)
	if n := f.number("SELECT next_seq FROM sync_agent_epoch"); n != 1 {
		t.Errorf("the outbox has had %d batches", n-1)
	}
}

// The second batch is on its way while the first is being applied. When the first is refused, both are read anew.
func TestStreamHasTwoUnderWay(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 40)
	var first *protocol.Message
	c.on(func(p *peer, m *protocol.Message) bool {
		u, err := m.UploadRequest()
		if m.Op != protocol.OpUpload || err != nil || u.After != 0 || first != nil && first.Op == 0 {
			return false
		}
		if first == nil {
			first = m
			return true
		}
		f.exec("UPDATE things SET name = 'row 3' WHERE id = 3")
		p.refuse(first, protocol.StatusDeadlock, "", 0)
		first = &protocol.Message{}
		return false // it does not follow the last one
	})
	f.fill("things", 41, 45)
	f.exec("UPDATE things SET name = 'other' WHERE id = 3")
	f.run(f.agent())
	f.inOrder("things", 45)
}

// copyOf is another database with all that f has.
func (f *field) copyOf() *field {
	g := newField(f.t, f.centre)
	rows, err := f.db.Query("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
	if err != nil {
		f.t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			f.t.Fatal(err)
		}
		names = append(names, name)
	}
	from := ""
	if err := f.db.QueryRow("SELECT DATABASE()").Scan(&from); err != nil {
		f.t.Fatal(err)
	}
	for _, name := range names {
		g.exec("CREATE TABLE IF NOT EXISTS " + name + " LIKE " + from + "." + name)
		g.exec("REPLACE INTO " + name + " SELECT * FROM " + from + "." + name)
	}
	return g
}

// sent are the ids that the centre has got, in order.
func (c *centre) sent(table string) (ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range c.rows[table] {
		ids = append(ids, strings.TrimSuffix(strings.SplitAfter(row, "row ")[0], "row "))
	}
	return ids
}

// A point that crashed remembers less than the centre has of it. It goes on from there.
func TestStreamGoesOnAfterACrash(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 30)
	stop := f.run(f.agent())
	f.inOrder("things", 30)
	f.eventually("the own copy is written", func() bool {
		return f.number("SELECT MAX(seq & 0xffffffff) FROM sync_agent_stream") == 3
	})
	crashed := f.copyOf()
	f.fill("things", 31, 60)
	f.inOrder("things", 60)
	stop()
	crashed.fill("things", 31, 60)
	crashed.once(crashed.agent())
	crashed.fill("things", 61, 70)
	crashed.once(crashed.agent())
	crashed.fill("things", 71, 75)
	crashed.once(crashed.agent())
	f.inOrder("things", 75)
}

// A machine is cloned. Both copies send what they get from then on, and neither sends what the centre had before.
func TestStreamOfAClone(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 30)
	f.once(f.agent())
	clone := f.copyOf()
	f.fill("things", 31, 50)
	f.once(f.agent())
	clone.fill("things", 41, 70)
	clone.once(clone.agent())
	clone.log.has(t, "another copy of this database")
	f.fill("things", 71, 75)
	f.once(f.agent())
	clone.fill("things", 76, 80)
	clone.once(clone.agent())
	var want []string
	for _, r := range [][2]int{{1, 50}, {41, 75}, {76, 80}} {
		for id := r[0]; id <= r[1]; id++ {
			want = append(want, fmt.Sprint(id))
		}
	}
	if got := c.sent("things"); !slices.Equal(got, want) {
		t.Errorf("sent %v", got)
	}
}

// The point's database is restored from a copy of the run that the centre has last seen. Rows that it has got since
// have the ids of lost ones.
func TestStreamOfARestoredDatabase(t *testing.T) {
	for _, more := range []int{20, 2000} { // rows that were lost; the second is more than a crash can lose
		c := newCentre(t)
		f := newField(t, c)
		f.table("things", 30)
		a := f.agent()
		stop := f.run(a)
		f.inOrder("things", 30)
		f.eventually("the own copy is written", func() bool {
			return f.number("SELECT MAX(seq & 0xffffffff) FROM sync_agent_stream") == 3
		})
		restored := f.copyOf()
		f.fill("things", 31, 30+more)
		f.inOrder("things", 30+more)
		stop()
		restored.fill("things", 31, 35)
		restored.once(restored.agent())
		if got := c.sent("things")[30+more:]; !slices.Equal(got, []string{"31", "32", "33", "34", "35"}) {
			t.Errorf("after %d lost rows it sent %v", more, got)
		}
		restored.log.has(t, "own state on")
	}
}

// The centre is restored: it has forgotten the last batches. They are sent again without being asked for.
func TestStreamToARestoredCentre(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 30)
	stop := f.run(f.agent())
	f.inOrder("things", 30)
	c.mu.Lock()
	kept := map[uint64]entered{}
	for epoch, last := range c.streams {
		kept[epoch] = last
	}
	c.mu.Unlock()
	f.fill("things", 31, 60)
	f.inOrder("things", 60)
	c.mu.Lock()
	c.streams, c.rows["things"] = kept, c.rows["things"][:30]
	c.mu.Unlock()
	f.fill("things", 61, 65)
	f.inOrder("things", 65)
	stop()
	f.log.has(t, "the centre has less than it acknowledged")
}

// A rule changes between the outbox and the stream while rows wait.
func TestStreamAndOutboxTakeTurns(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.outboxTable("things", 25)
	address := c.address()
	c.stop()
	stop := f.run(f.agent())
	f.eventually("batches wait", func() bool { return f.number("SELECT COUNT(*) FROM sync_outbox") == 3 })
	stop()
	c.listen(address)
	f.exec("UPDATE sync_control SET sync_sql = '-- option: lag 2s'")
	f.fill("things", 26, 50)
	stop = f.run(f.agent())
	f.inOrder("things", 50)
	f.exec("UPDATE sync_control SET sync_sql = '-- option: outbox'")
	f.eventually("the stream has ended", func() bool { return f.number("SELECT COUNT(*) FROM sync_agent_stream") == 0 })
	f.fill("things", 51, 75)
	f.inOrder("things", 75)
	f.outboxIsEmpty()
	stop()
}

// The server takes smaller frames than usual, and one row is too large for them.
func TestStreamThroughSmallFrames(t *testing.T) {
	c := newCentre(t, func(o *protocol.ServerOptions) { o.MaxFrame = 64 << 10 })
	f := newField(t, c)
	f.exec("CREATE TABLE things (id INT PRIMARY KEY, name MEDIUMTEXT)")
	f.exec("INSERT INTO things SELECT seq, CONCAT('row ', seq, REPEAT(' ', IF(seq = 7, 70000, 20000))) FROM " +
		"seq_1_to_20")
	f.rule(rule.Upload, "things", "")
	f.run(f.agent())
	f.eventually("all rows came", func() bool { return len(c.got("things", 20)) == 20 })
}

// Another agent takes the database while the first does not know that it has lost its lock.
func TestSecondAgentTakesOver(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.table("things", 50)
	f.outboxTable("others", 50)
	first := f.agent()
	ended := make(chan error, 1)
	go func() { ended <- first.Run(context.Background()) }()
	f.inOrder("things", 50)
	f.inOrder("others", 50)
	f.exec(fmt.Sprintf("KILL %d", f.number("SELECT IS_USED_LOCK("+lockName+")")))
	second := f.agent()
	stop := f.run(second)
	f.eventually("the second has the lock", func() bool {
		return uint64(f.number("SELECT owner >> 1 FROM sync_agent_owner")) == second.lock.owner.Load()>>1
	})
	f.fill("things", 51, 90)
	f.fill("others", 51, 90)
	if err := <-ended; !errors.Is(err, ErrTaken) {
		t.Errorf("the first agent ends with %v", err)
	}
	f.inOrder("things", 90)
	f.inOrder("others", 90)
	f.outboxIsEmpty()
	stop()
}

// A batch that is gone does not get the number of the next one.
func TestRenumberLooksAtWhatItMoves(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	f.exec("INSERT INTO sync_agent_owner (id, owner) VALUES (1, 5)")
	f.exec("INSERT INTO sync_agent_epoch (id, epoch, next_seq) VALUES (1, 77, 4)")
	f.exec("INSERT INTO sync_outbox (epoch, seq, rule_id, sync_table, row_count, payload) VALUES (77, 2, 1, " +
		"'things', 1, ''), (77, 3, 1, 'things', 1, '')")
	a := f.agent()
	a.lock.owner.Store(5)
	gone := &batch{request: protocol.MakeRequestID(77, 1), table: "things"}
	if err := a.outbox.renumber(t.Context(), gone); !errors.Is(err, errBatchGone) {
		t.Errorf("renumbered with %v", err)
	}
	there := &batch{request: protocol.MakeRequestID(77, 2), table: "things"}
	if err := a.outbox.renumber(t.Context(), there); err != nil || there.request.Seq() != 1 {
		t.Errorf("renumbered to %v with %v", there.request, err)
	}
	a.lock.owner.Store(6)
	if err := a.outbox.renumber(t.Context(), there); !errors.Is(err, errNotOwner) {
		t.Errorf("without the lock: %v", err)
	}
}
