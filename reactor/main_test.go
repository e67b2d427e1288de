package reactor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	// The runtime opens its own poller for the first connection: before anything is counted.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	goleak.VerifyTestMain(m)
}

// testTimeout is how long a test waits for an event that must come. No passing test waits that long.
const testTimeout = 20 * time.Second

var errTooLong = errors.New("length over the limit")

// split frames by a length of four bytes.
func split(buf []byte, max int) (int, error) {
	if len(buf) < 4 {
		return 0, nil
	}
	n := int(binary.BigEndian.Uint32(buf))
	if n > max {
		return 0, errTooLong
	}
	if len(buf) < 4+n {
		return 0, nil
	}
	return 4 + n, nil
}

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// hooks is a Handler made of functions; what is nil does the least. Without frame it echoes.
type hooks struct {
	open  func(*Conn) error
	frame func(*Conn, []byte) error
	timer func(*Conn)
	close func(*Conn, error)
}

func (h hooks) Open(c *Conn) error {
	if h.open != nil {
		return h.open(c)
	}
	c.Establish()
	c.SetMaxFrame(1 << 20)
	return nil
}

func (h hooks) Frame(c *Conn, b []byte) error {
	if h.frame != nil {
		return h.frame(c, b)
	}
	c.Write(b)
	return nil
}

func (h hooks) Timer(c *Conn) {
	if h.timer != nil {
		h.timer(c)
	}
}

func (h hooks) Close(c *Conn, err error) {
	if h.close != nil {
		h.close(c, err)
	}
}

// watcher is an Observer that counts.
type watcher struct {
	opened, closed, refused, frames, turns, events, bytesIn, bytesOut atomic.Int64
	paused                                                            [8]atomic.Int64
	worstLag, worstTurn                                               atomic.Int64 // the latter in frames
	mu                                                                sync.Mutex
	reasons, refusals                                                 map[string]int
}

func newWatcher() *watcher {
	return &watcher{reasons: map[string]int{}, refusals: map[string]int{}}
}

func (w *watcher) Opened(int) { w.opened.Add(1) }

func (w *watcher) Closed(_ int, err error) {
	w.closed.Add(1)
	w.mu.Lock()
	w.reasons[Reason(err)]++
	w.mu.Unlock()
}

func (w *watcher) Refused(_ int, err error) {
	w.refused.Add(1)
	w.mu.Lock()
	w.refusals[Reason(err)]++
	w.mu.Unlock()
}

func (w *watcher) Paused(p Pause) { w.paused[p].Add(1) }

func (w *watcher) Turned(t Turn) {
	w.turns.Add(1)
	w.events.Add(int64(t.Events))
	w.frames.Add(int64(t.Frames))
	w.bytesIn.Add(int64(t.BytesIn))
	w.bytesOut.Add(int64(t.BytesOut))
	raise(&w.worstLag, int64(t.Lag))
	raise(&w.worstTurn, int64(t.Frames))
}

func raise(most *atomic.Int64, to int64) {
	for {
		if was := most.Load(); to <= was || most.CompareAndSwap(was, to) {
			return
		}
	}
}

func (w *watcher) reason(word string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reasons[word]
}

func (w *watcher) refusal(word string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.refusals[word]
}

// server is a running reactor; serve stops it and checks that everything was freed.
type server struct {
	*Reactor
	watcher *watcher
	cancel  context.CancelFunc
	ended   chan error
}

func serve(t testing.TB, h Handler, change func(*Options)) *server {
	t.Helper()
	w := newWatcher()
	o := Options{Loops: 2, Observer: w, MaxPerAddress: 20_000, MaxUnestablished: 20_000, MaxConns: 20_000,
		Listeners: []Listener{{Address: "127.0.0.1:0", Split: split, Handler: h}}}
	if change != nil {
		change(&o)
	}
	before := descriptors(t)
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{r, w, cancel, make(chan error, 1)}
	go func() { s.ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		s.stop(t)
		if load := r.Load(); load != (Load{}) {
			t.Errorf("left behind: %+v", load)
		}
		if o, c := w.opened.Load(), w.closed.Load(); o != c {
			t.Errorf("%d opened, %d closed", o, c)
		}
		for _, l := range r.loops {
			if len(l.table.free) != max(len(l.table.conns)-1, 0) || l.conns != 0 || l.assigned.Load() != 0 {
				t.Errorf("loop %d: %d slots, %d free, %d connections, %d assigned",
					l.index, len(l.table.conns), len(l.table.free), l.conns, l.assigned.Load())
			}
			for _, b := range l.wheel.filled {
				if b != 0 {
					t.Errorf("loop %d: a deadline is left", l.index)
				}
			}
		}
		eventually(t, "descriptors are back", func() bool { return descriptors(t) <= before })
	})
	return s
}

// stop ends the server hard and waits for it.
func (s *server) stop(t testing.TB) {
	t.Helper()
	s.cancel()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
		s.ended <- nil
	case <-time.After(testTimeout):
		t.Fatal("Run does not end")
	}
}

func (s *server) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(2 * testTimeout))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func descriptors(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(testTimeout):
		t.Fatalf("never: %s", what)
		panic("unreachable")
	}
}

func send(t testing.TB, c io.Writer, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// expect reads exactly the frames with these bodies.
func expect(t testing.TB, c io.Reader, bodies ...string) {
	t.Helper()
	for i, body := range bodies {
		got, err := readFrame(c)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if string(got) != body {
			t.Fatalf("frame %d: got %.60q, want %.60q", i, got, body)
		}
	}
}

func expectEnd(t testing.TB, c io.Reader) {
	t.Helper()
	if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
		t.Fatalf("instead of the end: %d bytes, %v", len(b), err)
	}
}

func readFrame(c io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(c, body)
	return body, err
}

func numbered(n int) (all []byte, bodies []string) {
	for i := range n {
		body := fmt.Sprintf("frame %d", i)
		all, bodies = append(all, frame([]byte(body))...), append(bodies, body)
	}
	return all, bodies
}
