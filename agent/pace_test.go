package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"syncgate/protocol"
)

func TestPaceFollowsTheLink(t *testing.T) {
	p := &pace{}
	for range 10 { // a link that takes all at once
		n := p.batch()
		p.left(n)
		p.sent(n, time.Millisecond)
	}
	if p.batch() != batchBytes {
		t.Errorf("%d bytes on a fast link", p.batch())
	}
	p.cut(batchBytes)
	if p.batch() < batchBytes/2 {
		t.Errorf("%d bytes after a cut behind megabytes", p.batch())
	}
	p = &pace{}
	send := func(rate, bytes int) { // until the connection has carried so many bytes
		for bytes > 0 {
			n := min(p.batch(), bytes)
			p.left(n)
			p.sent(n, time.Duration(n)*time.Second/time.Duration(rate))
			bytes -= n
		}
	}
	send(8_000, 240_000)
	if n := p.batch(); n < 40_000 || n > 50_000 {
		t.Errorf("%d bytes at 8 kB/s", n)
	}
	p.cut(1)
	if n := p.batch(); n < 16_000 {
		t.Errorf("%d bytes after a cut of an idle line", n)
	}
	for range 5 {
		p.left(9_000)
		p.cut(p.batch())
	}
	if n := p.batch(); n > 4_500 || n < leastBatch {
		t.Errorf("%d bytes after lives in which 9 kB of a batch left", n)
	}
	for range 20 {
		p.cut(30_000)
	}
	if n := p.batch(); n != leastBatch {
		t.Errorf("%d bytes when nothing passes", n)
	}
	send(1_000_000, 10_000_000)
	if n := p.batch(); n != batchBytes {
		t.Errorf("%d bytes on the link that is good again", n)
	}
}

// A write goes on as long as some bytes move, and a small message waits for one piece of a large one only.
func TestWriteDeadlineGoesByProgress(t *testing.T) {
	slow, far := net.Pipe()
	defer far.Close()
	c := &steady{Conn: slow, silence: 50 * time.Millisecond, stuck: 50 * time.Millisecond}
	var all sync.WaitGroup
	all.Go(func() {
		for b := make([]byte, 10); ; time.Sleep(10 * time.Millisecond) {
			if _, err := far.Read(b); err != nil {
				return
			}
		}
	})
	if n, err := c.Write(make([]byte, 200)); n != 200 || err != nil { // takes four times as long as one step may
		t.Errorf("%d, %v", n, err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a silent line gave a byte")
	}
	_ = slow.Close()
	all.Wait()
	slow, far = net.Pipe()
	defer slow.Close()
	c.Conn = slow
	if _, err := c.Write(make([]byte, 20)); err == nil {
		t.Error("nobody reads, and the write succeeds")
	}
	_ = far.Close()
}

func TestDialTriesAgainWhileItWaits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	_ = l.Close()
	began := time.Now()
	if _, err := dial(t.Context(), l.Addr().String()); err == nil || time.Since(began) > probeEvery/2 {
		t.Errorf("%v after %v where nobody listens", err, time.Since(began))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx, "192.0.2.1:9"); err == nil { // a network for documents
		t.Error("192.0.2.1 answers")
	}
}

// The batches of the outbox are split for a server that takes fewer rows, in order and once.
func TestOutboxSplitsBatches(t *testing.T) {
	c := newCentre(t)
	c.lenient = true // the numbers of batches that were split are skipped
	f := newField(t, c)
	f.outboxTable("things", 20)
	c.on(func(p *peer, m *protocol.Message) bool {
		if m.Op != protocol.OpUpload {
			return false
		}
		u, err := m.UploadRequest()
		if err != nil {
			t.Error(err)
		}
		return u.Rows.Len() > 3 && p.refuse(m, protocol.StatusTooLarge, "too many rows", 0)
	})
	f.once(f.agent(func(o *Options) { o.BatchRows = 8 }))
	f.inOrder("things", 20)
	f.outboxIsEmpty()
}

func TestPausesSuitWhatFailed(t *testing.T) {
	reject := fmt.Errorf("%w: %w", ErrNotReached, &protocol.RejectError{Status: protocol.StatusRejected})
	for _, c := range []struct {
		err       error
		connected bool
		from, to  time.Duration
	}{
		{errNoAnswer, false, probeEvery / 2, probeEvery},
		{fmt.Errorf("%w: %w", ErrNotReached, io.EOF), false, probeEvery, 2 * probeEvery},
		{ErrLost, true, maxPause, maxPause}, {reject, false, maxRetryAfter, maxRetryAfter},
	} {
		if d := longestPause(c.err, c.connected); d < c.from || d > c.to {
			t.Errorf("%v: %v", c.err, d)
		}
	}
}
