package reactor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
