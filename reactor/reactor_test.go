package reactor

import (
	"bytes"
	"context"
	"errors"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"unsafe"
)

func TestEcho(t *testing.T) {
	s := serve(t, hooks{}, nil)
	for _, size := range []int{0, 1, 64, 1 << 10, 16 << 10, 70 << 10, 1 << 20} {
		c := s.dial(t)
		body := strings.Repeat("x", size)
		for range 3 {
			send(t, c, frame([]byte(body)))
			expect(t, c, body)
		}
	}
}

func TestOneByteWrites(t *testing.T) {
	s := serve(t, hooks{}, nil)
	c := s.dial(t)
	all, bodies := numbered(20)
	for i := range all {
		send(t, c, all[i:i+1])
	}
	expect(t, c, bodies...)
}

func TestRepliesFromOtherGoroutines(t *testing.T) {
	var workers sync.WaitGroup
	s := serve(t, hooks{frame: func(c *Conn, b []byte) error {
		c.Begin()
		r, id, b := c.loop().reactor, c.ID(), bytes.Clone(b)
		workers.Go(func() { r.Send(id, b, true) })
		return nil
	}}, func(o *Options) { o.Listeners[0].MaxInFlight = 1 })
	c := s.dial(t)
	all, bodies := numbered(500)
	send(t, c, all)
	expect(t, c, bodies...) // one in flight keeps them in order
	workers.Wait()
}

func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	begun, told := make(chan ConnID, 1), make(chan struct{})
	s := serve(t, hooks{frame: func(c *Conn, b []byte) error { c.Begin(); begun <- c.ID(); return nil }},
		func(o *Options) { o.Listeners[0].Drain = func(c *Conn) { c.Write(frame([]byte("bye"))); close(told) } })
	c := s.dial(t)
	send(t, c, frame([]byte("work")))
	id := receive(t, "Frame", begun)
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(context.Background()) }()
	receive(t, "Drain hook", told)
	if _, err := net.Dial("tcp", s.Addrs()[0].String()); err == nil {
		t.Error("accepts while draining")
	}
	if err := s.Send(id, frame([]byte("done")), true); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "bye", "done")
	expectEnd(t, c)
	c.Close()
	if err := receive(t, "Drain", drained); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(id, nil, false); err != ErrConnGone {
		t.Errorf("Send after the end: %v", err)
	}
}

func TestSendWaitHoldsBack(t *testing.T) {
	ids := make(chan ConnID, 1)
	s := serve(t, hooks{open: func(c *Conn) error { c.Establish(); ids <- c.ID(); return nil }}, nil)
	c := s.dial(t)
	id := receive(t, "Open", ids)
	const parts = 400
	body := strings.Repeat("y", 64<<10)
	sent := make(chan error, 1)
	go func() {
		for range parts {
			if err := s.SendWait(context.Background(), id, frame([]byte(body)), false, 1<<20); err != nil {
				sent <- err
				return
			}
			if held := s.Load().Buffered; held > 2<<20 {
				sent <- errors.New("holds too much")
				return
			}
		}
		sent <- nil
	}()
	for range parts {
		expect(t, c, body)
	}
	if err := receive(t, "SendWait", sent); err != nil {
		t.Fatal(err)
	}
}

// An idle connection costs 160 bytes, which is an allocator's size class.
func TestConnSize(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 160 {
		t.Errorf("a Conn takes %d bytes", size)
	}
}

func TestEveryNumberHasALimit(t *testing.T) {
	o, err := Options{Listeners: []Listener{{Split: split, Handler: hooks{}}}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []reflect.Value{reflect.ValueOf(o), reflect.ValueOf(o.Listeners[0])} {
		for i := range v.NumField() {
			if v.Field(i).CanInt() && v.Field(i).IsZero() {
				t.Errorf("%s.%s has no default", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}
