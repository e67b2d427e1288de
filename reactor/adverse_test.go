package reactor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"syncgate/internal/account"
)

// reset closes c with a RST.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// closings is a hooks.close that hands on why.
func closings() (func(*Conn, error), chan error) {
	ended := make(chan error, 1000)
	return func(_ *Conn, err error) { ended <- err }, ended
}

func expectClosed(t testing.TB, ended <-chan error, want error) {
	t.Helper()
	if err := receive(t, "Close", ended); !errors.Is(err, want) {
		t.Fatalf("closed for %v, want %v", err, want)
	}
}

func TestDeadlines(t *testing.T) {
	const short, medium = 50 * time.Millisecond, 150 * time.Millisecond
	writes := func(b ...byte) func(net.Conn) { return func(c net.Conn) { c.Write(b) } }
	for name, test := range map[string]struct {
		establish bool
		options   func(*Options)
		client    func(net.Conn)
		want      error
	}{
		"says nothing": {false, func(o *Options) { o.HandshakeTimeout = short }, writes(), ErrHandshakeTimeout},
		"of this listener": {false, func(o *Options) {
			o.HandshakeTimeout, o.Listeners[0].HandshakeTimeout = time.Hour, short
		}, writes(), ErrHandshakeTimeout},
		"talks unestablished": {false, func(o *Options) { o.HandshakeTimeout = medium },
			trickle(frame(make([]byte, 1))), ErrHandshakeTimeout},
		"header without end": {true, func(o *Options) { o.FrameTimeout = short }, writes(0, 0), ErrFrameTimeout},
		"body byte by byte": {true, func(o *Options) { o.FrameTimeout = medium },
			trickle(binary.BigEndian.AppendUint32(nil, 1<<20)), ErrFrameTimeout},
		"falls silent": {true, func(o *Options) { o.IdleTimeout = short }, writes(frame(nil)...), ErrIdle},
		"rests within a frame": {true, func(o *Options) { o.FrameTimeout, o.IdleTimeout = time.Hour, short },
			writes(0), ErrIdle},
	} {
		t.Run(name, func(t *testing.T) {
			closed, ended := closings()
			h := hooks{close: closed}
			if !test.establish {
				h.open = func(*Conn) error { return nil }
			}
			s := serve(t, h, test.options)
			go test.client(s.dial(t))
			expectClosed(t, ended, test.want)
		})
	}
}

// A large frame over a slow link takes longer than FrameTimeout, and arrives as long as 1 KiB of it does within that.
func TestSlowFrameArrives(t *testing.T) {
	got := make(chan int, 1)
	s := serve(t, hooks{frame: func(_ *Conn, b []byte) error { got <- len(b); return nil }},
		func(o *Options) { o.FrameTimeout = 2 * time.Second })
	c := s.dial(t)
	whole := frame(make([]byte, 24<<10))
	for len(whole) > 0 {
		n := min(2<<10, len(whole))
		send(t, c, whole[:n])
		whole = whole[n:]
		time.Sleep(250 * time.Millisecond) // 3 s in all
	}
	if n := receive(t, "Frame", got); n < 24<<10 {
		t.Errorf("%d bytes", n)
	}
}

// trickle is a client that sends first and then, until it is cut off, byte after byte of frames that hold nothing.
func trickle(first []byte) func(net.Conn) {
	return func(c net.Conn) {
		c.Write(first)
		for {
			if _, err := c.Write([]byte{0}); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func TestIdleHookKeepsAlive(t *testing.T) {
	closed, ended := closings()
	pings := atomic.Int32{}
	s := serve(t, hooks{close: closed, frame: func(*Conn, []byte) error { return nil }}, func(o *Options) {
		o.IdleTimeout = 500 * time.Millisecond
		o.Listeners[0].Idle = func(c *Conn) { pings.Add(1); c.Write(frame([]byte("ping"))) }
	})
	c := s.dial(t)
	for range 3 {
		expect(t, c, "ping")
		send(t, c, frame([]byte("pong")))
	}
	expectClosed(t, ended, ErrIdle)
	if n := pings.Load(); n != 4 {
		t.Errorf("%d pings", n)
	}
}

func TestLengthBombTakesNoMemory(t *testing.T) {
	closed, ended := closings()
	s := serve(t, hooks{close: closed}, nil)
	for range 50 {
		c := s.dial(t)
		send(t, c, []byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})
		expectClosed(t, ended, errTooLong)
	}
	if held := s.Load().Buffered; held != 0 {
		t.Errorf("%d bytes held", held)
	}
}

func TestFrameWithoutEnd(t *testing.T) {
	closed, ended := closings()
	s := serve(t, hooks{close: closed}, func(o *Options) {
		o.Listeners[0].Split = func(b []byte, _ int) (int, error) { return bytes.IndexByte(b, '\n') + 1, nil }
	})
	c := s.dial(t)
	send(t, c, []byte("in order\n"))
	if line := make([]byte, 9); true {
		if _, err := io.ReadFull(c, line); err != nil || string(line) != "in order\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	go c.Write(make([]byte, 4<<20))
	expectClosed(t, ended, ErrFrameTooLarge)
}

func TestSplitOutsideTheBuffer(t *testing.T) {
	for _, answer := range []int{-1, 2 << 20} {
		closed, ended := closings()
		s := serve(t, hooks{close: closed}, func(o *Options) {
			o.Listeners[0].Split = func([]byte, int) (int, error) { return answer, nil }
		})
		send(t, s.dial(t), []byte("x"))
		expectClosed(t, ended, errBadSplit)
	}
}

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

func TestHalfClose(t *testing.T) {
	hold := make(chan ConnID, 10)
	begin := func(c *Conn, b []byte) error { c.Begin(); hold <- c.ID(); return nil }
	large := strings.Repeat("z", 8<<20)
	for name, test := range map[string]struct {
		frame  func(*Conn, []byte) error
		before []byte
		answer func(*testing.T, *server, net.Conn)
		want   error
	}{
		"before a byte":  {nil, nil, nil, ErrPeerClosed},
		"inside a frame": {nil, []byte{0, 0, 0, 9, 1}, nil, ErrTruncated},
		"after frames": {nil, append(frame([]byte("a")), frame([]byte("b"))...),
			func(t *testing.T, s *server, c net.Conn) { expect(t, c, "a", "b") }, ErrPeerClosed},
		"in flight": {begin, frame([]byte("a")), func(t *testing.T, s *server, c net.Conn) {
			s.Send(receive(t, "Frame", hold), frame([]byte("late")), true)
			expect(t, c, "late")
		}, ErrPeerClosed},
		"paused": {begin, append(frame([]byte("a")), frame([]byte("b"))...), func(t *testing.T, s *server, c net.Conn) {
			for _, answer := range []string{"one", "two"} { // MaxInFlight is 1: one after the other
				s.Send(receive(t, "Frame", hold), frame([]byte(answer)), true)
				expect(t, c, answer)
			}
		}, ErrPeerClosed},
		"with much to read": {func(c *Conn, b []byte) error { c.Write(frame([]byte(large))); return nil },
			frame([]byte("a")), func(t *testing.T, s *server, c net.Conn) { expect(t, c, large) }, ErrPeerClosed},
		"in lingering": {func(c *Conn, b []byte) error {
			c.Write(b)
			c.CloseAfterFlush(errors.ErrUnsupported)
			return nil
		}, frame([]byte("a")), func(t *testing.T, s *server, c net.Conn) { expect(t, c, "a") }, errors.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			closed, ended := closings()
			s := serve(t, hooks{frame: test.frame, close: closed}, func(o *Options) { o.Listeners[0].MaxInFlight = 1 })
			c := s.dial(t)
			send(t, c, test.before)
			c.CloseWrite()
			if test.answer != nil {
				test.answer(t, s, c)
			}
			expectEnd(t, c)
			expectClosed(t, ended, test.want)
		})
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

func TestResetAndVanish(t *testing.T) {
	hold := make(chan ConnID, 10_000)
	s := serve(t, hooks{frame: func(c *Conn, b []byte) error {
		if len(b) > 50 {
			c.Begin()
			hold <- c.ID()
		}
		c.Write(b)
		return nil
	}}, nil)
	var answers, floods sync.WaitGroup
	answers.Go(func() {
		for id := range hold {
			s.Send(id, frame([]byte("to whom?")), true)
		}
	})
	rounds := scaled(150, 5000)
	begun := frame(make([]byte, 100))
	for _, before := range [][]byte{nil, {0, 0}, frame(nil), begun, bytes.Repeat(begun, 20)} {
		for _, end := range []func(*net.TCPConn){reset, func(c *net.TCPConn) { c.Close() }} {
			floods.Go(func() {
				for range rounds {
					c, err := net.Dial("tcp", s.Addrs()[0].String())
					if err != nil {
						t.Error(err)
						return
					}
					c.Write(before)
					end(c.(*net.TCPConn))
				}
			})
		}
	}
	steady := s.dial(t)
	for range 200 {
		send(t, steady, frame([]byte("undisturbed")))
		expect(t, steady, "undisturbed")
	}
	floods.Wait()
	eventually(t, "all but one are gone", func() bool { return s.Load().Conns == 1 })
	s.stop(t)
	close(hold)
	answers.Wait()
}

func TestCaps(t *testing.T) {
	for name, test := range map[string]struct {
		options func(*Options)
		word    string
	}{
		"all":         {func(o *Options) { o.MaxConns = 3 }, "conn_limit"},
		"one address": {func(o *Options) { o.MaxPerAddress = 3 }, "address_limit"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, hooks{open: func(*Conn) error { return nil }}, func(o *Options) {
				test.options(o)
				o.Listeners[0].Refusal = func(error) []byte { return []byte("full") }
			})
			var in []*net.TCPConn
			for range 3 {
				in = append(in, s.dial(t))
			}
			eventually(t, "three are in", func() bool { return s.watcher.opened.Load() == 3 })
			if b, err := io.ReadAll(s.dial(t)); string(b) != "full" || err != nil {
				t.Fatalf("%q, %v", b, err)
			}
			eventually(t, test.word, func() bool { return s.watcher.refusal(test.word) == 1 })
			in[0].Close()
			eventually(t, "one is out", func() bool { return s.Load().Conns == 2 })
			again := s.dial(t)
			send(t, again, frame([]byte("in")))
			expect(t, again, "in")
		})
	}
}

// The oldest connection that has not shaken hands makes room for a new one, and one address has no more than half.
func TestUnestablished(t *testing.T) {
	s := serve(t, hooks{open: func(*Conn) error { return nil }}, func(o *Options) {
		o.MaxUnestablished = fewStrangers
		o.Listeners[0].Refusal = func(error) []byte { return []byte("full") }
	})
	var all []*net.TCPConn
	for range fewStrangers {
		all = append(all, s.dial(t))
	}
	eventually(t, "all are in", func() bool { return s.Load().Unestablished == fewStrangers })
	if b, err := io.ReadAll(s.dial(t)); string(b) != "full" || err != nil {
		t.Fatalf("one address got more than its share: %q, %v", b, err)
	}
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}, Timeout: testTimeout}
	c, err := other.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(t, c, frame([]byte("in")))
	expect(t, c, "in")
	expectEnd(t, all[0])
	if got := s.watcher.reason("unestablished_limit"); got != 1 {
		t.Errorf("%d connections made room", got)
	}
	send(t, all[1], frame([]byte("in")))
	expect(t, all[1], "in")
}

// Clients that send half of what they announce hold their share and nothing more: another is served at once, and those
// that wait go on when the clocks of the incomplete frames have run out.
func TestMemoryOfAll(t *testing.T) {
	const hoarders, most = 40, 8 << 20
	s := serve(t, hooks{}, func(o *Options) {
		o.MaxBuffered, o.FrameTimeout = most, 700*time.Millisecond
		o.Ledger = account.New(most)
		o.Listeners[0].Handler = hooks{open: func(c *Conn) error {
			c.SetHolder(o.Ledger.Point(c.Remote().String()))
			return hooks{}.Open(c)
		}}
	})
	bystander := s.dial(t)
	part := append(binary.BigEndian.AppendUint32(nil, 1<<20-4), make([]byte, 60<<10)...)
	for range hoarders {
		go s.dial(t).Write(part)
	}
	worst := int64(0)
	eventually(t, "PauseMemory", func() bool {
		worst = max(worst, s.Load().Buffered)
		return s.watcher.paused[PauseMemory].Load() > 0
	})
	send(t, bystander, frame([]byte("still there?")))
	expect(t, bystander, "still there?")
	eventually(t, "the hoarders are gone", func() bool {
		worst = max(worst, s.Load().Buffered)
		return s.watcher.reason("frame_timeout") == hoarders
	})
	if limit := int64(most + 2*(256<<10)); worst > limit { // a turn's reading on each loop
		t.Errorf("held %d, over %d", worst, limit)
	}
}

// Clients that send without end must not keep the others from their turn.
func TestFirehose(t *testing.T) {
	const size, hoses = 1000, 4
	full := make(chan struct{})
	s := serve(t, hooks{frame: func(c *Conn, b []byte) error {
		<-full // until there is far more than a turn's share in the kernel
		if len(b) < size {
			c.Write(b)
		}
		return nil
	}}, func(o *Options) { o.Loops = 1; o.TurnBytes = 64 << 10 })
	var clients sync.WaitGroup
	stop := atomic.Bool{}
	written := atomic.Int64{}
	flood := bytes.Repeat(frame(make([]byte, size)), 50)
	for range hoses {
		c := s.dial(t)
		clients.Go(func() {
			for !stop.Load() {
				n, err := c.Write(flood)
				if err != nil {
					t.Error(err)
					return
				}
				written.Add(int64(n))
			}
		})
	}
	eventually(t, "the kernel's buffers fill", func() bool { return written.Load() > hoses*250<<10 })
	close(full)
	c := s.dial(t)
	for range 50 {
		send(t, c, frame([]byte("me too")))
		expect(t, c, "me too")
	}
	stop.Store(true)
	clients.Wait()
	// A connection may have its share twice, in its event and in the queue after the events.
	if most := int64(2 * hoses * (64<<10/size + 2)); s.watcher.worstTurn.Load() > most {
		t.Errorf("%d frames in one turn, want %d at most", s.watcher.worstTurn.Load(), most)
	}
}

// Silence while the server works on an answer is not the client's.
func TestNotIdleWhileInFlight(t *testing.T) {
	ids := make(chan ConnID, 1)
	s := serve(t, hooks{frame: func(c *Conn, _ []byte) error { c.Begin(); ids <- c.ID(); return nil }},
		func(o *Options) { o.IdleTimeout = 50 * time.Millisecond })
	c := s.dial(t)
	send(t, c, frame([]byte("think")))
	id := receive(t, "Frame", ids)
	time.Sleep(300 * time.Millisecond) // what must not happen in this time can not be waited for
	if err := s.Send(id, frame([]byte("thought")), true); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "thought")
	expectEnd(t, c) // and now it is idle
}

func TestCloseFromEveryHook(t *testing.T) {
	why := errors.New("because")
	for name, test := range map[string]struct {
		h      hooks
		change func(*Options)
		closed bool // whether Close is called
	}{
		"Open fails":  {hooks{open: func(*Conn) error { return why }}, nil, false},
		"Open closes": {hooks{open: func(c *Conn) error { c.Close(why); return nil }}, nil, true},
		"Frame fails": {hooks{frame: func(*Conn, []byte) error { return why }}, nil, true},
		"Frame closes": {hooks{frame: func(c *Conn, _ []byte) error {
			c.Close(why)
			c.Write([]byte("x"))
			c.Begin()
			c.Done()
			return nil
		}}, nil, true},
		"Frame ends": {hooks{frame: func(c *Conn, _ []byte) error { c.CloseAfterFlush(why); return nil }}, nil, true},
		"Timer closes": {hooks{
			open:  func(c *Conn) error { c.SetTimer(time.Millisecond); return nil },
			timer: func(c *Conn) { c.Close(why) },
		}, nil, true},
		"Idle closes": {hooks{}, func(o *Options) {
			o.IdleTimeout = 40 * time.Millisecond
			o.Listeners[0].Idle = func(c *Conn) { c.Close(why) }
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			closes, frames := atomic.Int32{}, atomic.Int32{}
			ended := make(chan error, 2)
			h := test.h
			inner := h.frame
			h.frame = func(c *Conn, b []byte) error {
				frames.Add(1)
				if inner != nil {
					return inner(c, b)
				}
				return nil
			}
			h.close = func(_ *Conn, err error) { closes.Add(1); ended <- err }
			s := serve(t, h, test.change)
			c := s.dial(t)
			c.Write(bytes.Repeat(frame([]byte("a")), 5))
			io.ReadAll(c)
			if test.closed {
				if err := receive(t, "Close", ended); err != why {
					t.Errorf("closed for %v", err)
				}
			}
			s.stop(t)
			if n := closes.Load(); (n == 1) != test.closed {
				t.Errorf("Close was called %d times", n)
			}
			if inner != nil && frames.Load() != 1 {
				t.Errorf("%d frames after the first ended it", frames.Load()-1)
			}
		})
	}
}

func TestEachAndStaleIDs(t *testing.T) {
	closed, ended := closings()
	ids := make(chan ConnID, 100)
	s := serve(t, hooks{open: func(c *Conn) error { c.Establish(); ids <- c.ID(); return nil }, close: closed},
		func(o *Options) { o.Loops = 1 })
	const n = 20
	var conns []*net.TCPConn
	for range n {
		conns = append(conns, s.dial(t))
	}
	seen := map[ConnID]bool{}
	for range n {
		seen[receive(t, "Open", ids)] = true
	}
	s.Each(func(c *Conn) { c.Write(frame([]byte("all"))) })
	for _, c := range conns {
		expect(t, c, "all")
	}
	s.Each(func(c *Conn) { c.Close(io.EOF) })
	for range n {
		expectClosed(t, ended, io.EOF)
	}
	after := s.dial(t) // takes one of the slots
	now := receive(t, "Open", ids)
	slots := map[int]bool{}
	for id := range seen {
		slots[id.slot()] = true
		if err := s.Send(id, frame([]byte("for another")), false); err != ErrConnGone {
			t.Errorf("Send to a gone connection: %v", err)
		}
	}
	if seen[now] || !slots[now.slot()] {
		t.Errorf("id %d after %v", now, seen)
	}
	s.Send(now, frame([]byte("for me")), false)
	expect(t, after, "for me")
}

func TestDrainCutsAtTheDeadline(t *testing.T) {
	begun := make(chan ConnID, 1)
	s := serve(t, hooks{frame: func(c *Conn, b []byte) error { c.Begin(); begun <- c.ID(); return nil }}, nil)
	c := s.dial(t)
	send(t, c, frame([]byte("work")))
	receive(t, "Frame", begun)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := s.Drain(ctx)
	var cut *CutError
	if !errors.As(err, &cut) || cut.Conns != 1 || cut.InFlight != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Drain: %v", err)
	}
}

func TestLifeOfAReactor(t *testing.T) {
	o := Options{Loops: 1, Listeners: []Listener{{Address: "127.0.0.1:0", Split: split, Handler: hooks{}}}}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Listeners[0].Address = r.Addrs()[0].String()
	if _, err := New(o); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
	if err := r.Drain(context.Background()); err != nil {
		t.Errorf("Drain without Run: %v", err)
	}
	if err := r.Run(context.Background()); err != ErrRun {
		t.Errorf("Run after Drain: %v", err)
	}
	again, err := New(o)
	if err != nil {
		t.Fatalf("the address was not released: %v", err)
	}
	again.Drain(context.Background())
	for name, bad := range map[string]Options{
		"no listeners": {},
		"no handler":   {Listeners: []Listener{{Address: ":0", Split: split}}},
		"a name":       {Listeners: []Listener{{Address: "localhost:0", Split: split, Handler: hooks{}}}},
		"negative":     {Loops: -1, Listeners: o.Listeners},
		"long":         {IdleTimeout: 48 * time.Hour, Listeners: o.Listeners},
	} {
		if _, err := New(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestBothFamilies(t *testing.T) {
	remote := make(chan string, 2)
	s := serve(t, hooks{open: func(c *Conn) error { c.Establish(); remote <- c.Remote().Addr().String(); return nil }},
		func(o *Options) { o.Listeners[0].Address = ":0" })
	port := s.Addrs()[0].Port()
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.ParseIP(host), Port: int(port)})
		if err != nil && host == "::1" {
			t.Skip("no IPv6 here")
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := receive(t, "Open", remote); got != host {
			t.Errorf("remote %s, want %s", got, host)
		}
		c.Close()
	}
}

func TestProgressMovesWhenIdle(t *testing.T) {
	s := serve(t, hooks{}, nil)
	before := s.Progress()
	eventually(t, "every loop moves", func() bool {
		for i, n := range s.Progress() {
			if n == before[i] {
				return false
			}
		}
		return true
	})
}

// Nothing happens while nobody says anything: no loop wakes for its deadlines.
func TestIdleCostsNothing(t *testing.T) {
	s := serve(t, hooks{}, nil)
	for range 200 {
		c := s.dial(t)
		send(t, c, frame(nil))
		expect(t, c, "")
	}
	c := s.dial(t)
	parts := frame(make([]byte, 50<<10))
	send(t, c, parts[:40<<10])
	eventually(t, "a part is held", func() bool { return s.Load().Buffered >= 40<<10 })
	send(t, c, parts[40<<10:])
	expect(t, c, string(parts[4:]))
	eventually(t, "nothing is held for idle connections", func() bool { return s.Load().Buffered == 0 })
	turns := func() (n uint64) {
		for _, l := range s.loops {
			n += l.turns.Load()
		}
		return n
	}
	time.Sleep(50 * time.Millisecond) // the turn that gave the bytes back may still be at its end
	before := turns()
	time.Sleep(500 * time.Millisecond) // that nothing happens can only be looked at
	if n := turns() - before; n > 10 {
		t.Errorf("%d turns in half a second of silence", n)
	}
}

func TestSignalsAndCollections(t *testing.T) {
	s := serve(t, hooks{}, nil)
	stop := make(chan struct{})
	var noise sync.WaitGroup
	noise.Go(func() { signalStorm(stop) })
	noise.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	var clients sync.WaitGroup
	for range 8 {
		c := s.dial(t)
		clients.Go(func() {
			all, bodies := numbered(50)
			for range scaled(10, 500) {
				send(t, c, all)
				expect(t, c, bodies...)
			}
		})
	}
	clients.Wait()
	close(stop)
	noise.Wait()
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
