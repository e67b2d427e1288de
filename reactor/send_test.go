package reactor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestClientThatNeverReads(t *testing.T) {
	closed, ended := closings()
	s := serve(t, hooks{close: closed}, func(o *Options) { o.StallTimeout = 100 * time.Millisecond })
	c := s.dial(t)
	body := frame(make([]byte, 64<<10))
	go func() {
		for {
			if _, err := c.Write(body); err != nil {
				return
			}
		}
	}()
	expectClosed(t, ended, ErrStalled)
	if s.watcher.paused[PauseOutbound].Load() == 0 {
		t.Error("never paused")
	}
}

func TestSlowReaderIsNotStalled(t *testing.T) {
	closed, ended := closings()
	ids := make(chan ConnID, 1)
	s := serve(t, hooks{open: func(c *Conn) error { c.Establish(); ids <- c.ID(); return nil }, close: closed},
		func(o *Options) { o.StallTimeout = 400 * time.Millisecond; o.MaxOutbound = 64 << 20 })
	c := s.dial(t)
	c.SetReadBuffer(16 << 10)
	s.Send(receive(t, "Open", ids), frame(make([]byte, 32<<20)), false)
	// Slow enough that the server's socket is never writable meanwhile: it must see the kernel's queue shrink.
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := io.ReadFull(c, make([]byte, 8<<10)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("cut off: %v", err)
	default:
	}
	expectClosed(t, ended, ErrStalled) // now it has stopped
}

func TestOverflow(t *testing.T) {
	closed, ended := closings()
	ids := make(chan ConnID, 1)
	s := serve(t, hooks{open: func(c *Conn) error { c.Establish(); ids <- c.ID(); return nil }, close: closed},
		func(o *Options) { o.MaxOutbound = 1 << 20 })
	s.dial(t)
	id := receive(t, "Open", ids)
	eventually(t, "overflow", func() bool {
		err := s.Send(id, make([]byte, 256<<10), false)
		return errors.Is(err, ErrOverflow)
	})
	expectClosed(t, ended, ErrOverflow)
	if err := s.Send(id, nil, false); err != ErrConnGone {
		t.Errorf("Send afterwards: %v", err)
	}
	if err := s.Send(0, nil, false); err != ErrConnGone {
		t.Errorf("Send to nobody: %v", err)
	}
}

func TestSendWaitEnds(t *testing.T) {
	ids := make(chan ConnID, 1)
	s := serve(t, hooks{open: func(c *Conn) error { c.Establish(); ids <- c.ID(); return nil }}, nil)
	s.dial(t) // and never reads
	id := receive(t, "Open", ids)
	block := func(ctx context.Context) chan error {
		ended := make(chan error, 1)
		go func() {
			for {
				if err := s.SendWait(ctx, id, make([]byte, 128<<10), false, 1<<20); err != nil {
					ended <- err
					return
				}
			}
		}()
		return ended
	}
	ctx, cancel := context.WithCancel(context.Background())
	one, two := block(ctx), block(context.Background())
	// At 128 KiB and below SendWait goes on.
	eventually(t, "they are held back", func() bool { return s.Load().Buffered > 128<<10 })
	cancel()
	if err := receive(t, "SendWait", one); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	s.Close(id, errors.New("away with it"))
	if err := receive(t, "SendWait", two); err != ErrConnGone {
		t.Errorf("closed: %v", err)
	}
}

// A reply followed by a close must arrive although the peer goes on sending what is never read, and although most of
// the reply is still in our kernel when we close, since the peer's buffer is small.
func TestLastReplySurvivesUnreadBytes(t *testing.T) {
	goodbye := strings.Repeat("go away ", 16<<10)
	s := serve(t, hooks{frame: func(c *Conn, b []byte) error {
		c.Write(frame([]byte(goodbye)))
		c.CloseAfterFlush(errors.ErrUnsupported)
		return nil
	}}, func(o *Options) { o.LingerTimeout = testTimeout })
	narrow := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10) })
		return err
	}}
	for range 10 {
		c, err := narrow.Dial("tcp", s.Addrs()[0].String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * testTimeout))
		send(t, c, bytes.Repeat(frame(make([]byte, 100)), 100))
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		send(t, c, bytes.Repeat(frame(make([]byte, 100)), 100))
		if b, err := io.ReadAll(c); err != nil || string(b) != goodbye {
			t.Fatalf("%d of %d bytes, %v", len(b), len(goodbye), err)
		}
		c.Close()
	}
}

// Small questions with large answers: what one turn reads must not be answered beyond every bound before it is written.
func TestAmplification(t *testing.T) {
	closed, ended := closings()
	answer := frame(make([]byte, 100<<10))
	s := serve(t, hooks{close: closed, frame: func(c *Conn, _ []byte) error { c.Write(answer); return nil }},
		func(o *Options) { o.MaxOutbound = 1 << 20 })
	c := s.dial(t)
	const n = 500
	send(t, c, bytes.Repeat(frame(nil), n))
	for i := range n {
		if b, err := readFrame(c); err != nil || len(b) != 100<<10 {
			t.Fatalf("answer %d: %d bytes, %v", i, len(b), err)
		}
	}
	c.Close()
	expectClosed(t, ended, ErrPeerClosed)
}

// The same with workers that answer: while the peer does not read, no further question is taken.
func TestAnswersHeldBackByThePeer(t *testing.T) {
	closed, ended := closings()
	const size = 100 << 10
	s := serve(t, hooks{close: closed, frame: func(c *Conn, _ []byte) error {
		c.Begin()
		go c.loop().reactor.Send(c.ID(), frame(make([]byte, size)), true)
		return nil
	}}, func(o *Options) { o.MaxOutbound = 4 << 20 })
	c := s.dial(t)
	const n = 500
	send(t, c, bytes.Repeat(frame(nil), n))
	eventually(t, "reading pauses", func() bool { return s.watcher.paused[PauseOutbound].Load() > 0 })
	for i := range n {
		if b, err := readFrame(c); err != nil || len(b) != size {
			t.Fatalf("answer %d: %d bytes, %v", i, len(b), err)
		}
	}
	c.Close()
	expectClosed(t, ended, ErrPeerClosed)
}

// More connections than are accepted in one turn, all of them refused: none may be left in the backlog, although the
// listener gives one edge for all and refused connections give none.
func TestBacklogIsNotStranded(t *testing.T) {
	proceed := make(chan struct{})
	s := serve(t, hooks{frame: func(*Conn, []byte) error { <-proceed; return nil }},
		func(o *Options) { o.Loops = 1; o.MaxConns = 1 })
	first := s.dial(t)
	send(t, first, frame(nil))
	eventually(t, "the loop is held up", func() bool { return s.watcher.opened.Load() == 1 })
	var refused []net.Conn
	for range 5 * acceptTurn {
		refused = append(refused, s.dial(t))
	}
	close(proceed)
	for _, c := range refused {
		expectEnd(t, c)
	}
}

// A known client whose frame is too large, or does not come in time, gets the listener's answer, though it sends on
// before it reads. A stranger gets nothing.
func TestOverrun(t *testing.T) {
	s := serve(t, hooks{}, func(o *Options) {
		o.FrameTimeout, o.LingerTimeout = time.Second, testTimeout
		o.Listeners[0].Overrun = func(_ *Conn, err error) []byte { return []byte(Reason(err)) }
	})
	const size = 8 << 20
	c := s.dial(t)
	send(t, c, frame(make([]byte, size))) // the client sends all of it before it reads
	if b, err := io.ReadAll(c); string(b) != Reason(errTooLong) || err != nil {
		t.Errorf("a frame that is too large: %q, %v", b, err)
	}
	c = s.dial(t)
	send(t, c, frame(make([]byte, 1000))[:500])
	if b, err := io.ReadAll(c); string(b) != "frame_timeout" || err != nil {
		t.Errorf("half a frame: %q, %v", b, err)
	}
	stranger := serve(t, hooks{open: func(*Conn) error { return nil }}, func(o *Options) {
		o.Listeners[0].Overrun = func(*Conn, error) []byte { return []byte("hello") }
	})
	c = stranger.dial(t)
	send(t, c, frame(make([]byte, 1000))[:4])
	if b, _ := io.ReadAll(c); len(b) != 0 {
		t.Errorf("a stranger gets %q", b)
	}
}
