package reactor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
