package test

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Link is the line between points and the server. It can be cut, taken down and made slow.
type Link struct {
	listener net.Listener
	server   string // its address
	wg       sync.WaitGroup
	ended    chan struct{} // closed with the test

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
	delay time.Duration // of each piece of up to 16 KiB
	bad   Bad
	free  [2]time.Time // when the line has carried what was given to it: to the server, and back

	carried [2]atomic.Int64
}

// Bad is how bad a line is.
type Bad struct {
	Rate  int           // bytes a second in each direction; 0: any number
	Delay time.Duration // from one end to the other
	Lives time.Duration // until it is cut; 0: it is not
}

// Link puts a line of its own between the point and the server, which has to run.
func (p *Point) Link() *Link {
	p.t.Helper()
	l := newLink(p.t, p.Setting("SYNCGATE_AGENT_SERVER"))
	p.Env = append(p.Env, "SYNCGATE_AGENT_SERVER="+l.listener.Addr().String())
	return l
}

func newLink(t testing.TB, server string) *Link {
	t.Helper()
	l := &Link{server: server, conns: make(map[net.Conn]bool), ended: make(chan struct{})}
	var err error
	if l.listener, err = (&net.ListenConfig{Control: small}).Listen(t.Context(), "tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(l.accept)
	t.Cleanup(func() {
		close(l.ended)
		_ = l.listener.Close() // accept ends with its error
		l.Down()
		l.wg.Wait()
	})
	return l
}

func (l *Link) accept() {
	for {
		point, err := l.listener.Accept()
		if err != nil {
			return
		}
		server, err := (&net.Dialer{Control: small}).Dial("tcp", l.server)
		if err != nil || !l.add(point, server) {
			_ = point.Close() // the agent tries again
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		l.mu.Lock()
		bad := l.bad
		l.mu.Unlock()
		if bad != (Bad{}) {
			up, down := make(chan late, 4096), make(chan late, 4096)
			l.wg.Go(func() { l.take(point, bad, 0, up) })
			l.wg.Go(func() { l.take(server, bad, 1, down) })
			l.wg.Go(func() { l.give(server, point, up) })
			l.wg.Go(func() { l.give(point, server, down) })
			continue
		}
		l.wg.Go(func() { l.carry(point, server, 0) })
		l.wg.Go(func() { l.carry(server, point, 1) })
	}
}

const (
	badBuffer = 8 << 10
	badPiece  = 1 << 10
)

// small gives a socket a small buffer for what it receives, so that the line does not hold more than it says.
func small(_, _ string, c syscall.RawConn) (err error) {
	failed := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, badBuffer)
	})
	return errors.Join(failed, err)
}

// late are bytes that arrive at a time.
type late struct {
	bytes []byte
	at    time.Time
}

// take takes bytes from one end as fast as the line carries them.
func (l *Link) take(from net.Conn, bad Bad, direction int, to chan<- late) {
	defer close(to)
	for {
		piece := make([]byte, badPiece)
		n, err := from.Read(piece)
		if err != nil {
			return
		}
		l.mu.Lock()
		free := l.free[direction]
		if now := time.Now(); free.Before(now) {
			free = now
		}
		if bad.Rate > 0 {
			free = free.Add(time.Duration(n) * time.Second / time.Duration(bad.Rate))
		}
		l.free[direction] = free
		l.mu.Unlock()
		time.Sleep(time.Until(free))
		l.carried[direction].Add(int64(n))
		to <- late{piece[:n], free.Add(bad.Delay)}
	}
}

// give gives bytes to the other end when they have arrived.
func (l *Link) give(to, from net.Conn, arrive <-chan late) {
	for piece := range arrive {
		time.Sleep(time.Until(piece.at))
		if _, err := to.Write(piece.bytes); err != nil {
			break
		}
	}
	l.drop(to, from)
	for range arrive { // take ends with its end of the line
	}
}

// Carried is how many bytes the line has carried to the server and back.
func (l *Link) Carried() (up, down int64) { return l.carried[0].Load(), l.carried[1].Load() }

// Worsen makes the line bad for connections from now on. A line that lives for a time is cut again and again until the
// end of the test.
func (l *Link) Worsen(b Bad) {
	l.mu.Lock()
	l.bad = b
	l.mu.Unlock()
	if b.Lives == 0 {
		return
	}
	l.wg.Go(func() {
		for {
			select {
			case <-time.After(b.Lives):
				l.Cut()
			case <-l.ended:
				return
			}
		}
	})
}

func (l *Link) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		if !l.down {
			l.conns[c] = true
		}
	}
	return !l.down
}

// carry copies one direction. When it ends, both do, as they do at a cut.
func (l *Link) carry(from, to net.Conn, direction int) {
	piece := make([]byte, 16<<10)
	for {
		n, err := from.Read(piece)
		l.mu.Lock()
		delay := l.delay
		l.mu.Unlock()
		if delay > 0 {
			time.Sleep(delay) // the line is slow
		}
		if n > 0 && err == nil {
			_, err = to.Write(piece[:n])
			l.carried[direction].Add(int64(n))
		}
		if err != nil {
			break
		}
	}
	l.drop(from, to)
}

func (l *Link) drop(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // it may be cut already
		delete(l.conns, c)
	}
}

// Cut breaks every connection. The agent may connect again.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.(*net.TCPConn).SetLinger(0) // what is under way is lost
		_ = c.Close()
	}
}

// Down cuts the line until Up.
func (l *Link) Down() {
	l.mu.Lock()
	l.down = true
	l.mu.Unlock()
	l.Cut()
}

// Up ends Down.
func (l *Link) Up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = false
}

// Slow delays each piece of up to 16 KiB.
func (l *Link) Slow(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = delay
}
