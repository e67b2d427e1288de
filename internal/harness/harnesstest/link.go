package harnesstest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Link is the line between points and the server. It can be cut, taken down and made slow.
type Link struct {
	listener net.Listener
	server   string // its address
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	down  bool
	delay time.Duration // of each piece of up to 16 KiB
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
	l := &Link{server: server, conns: make(map[net.Conn]bool)}
	var err error
	if l.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l.wg.Go(l.accept)
	t.Cleanup(func() {
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
		server, err := net.Dial("tcp", l.server)
		if err != nil || !l.add(point, server) {
			_ = point.Close() // the agent tries again
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		l.wg.Go(func() { l.carry(point, server) })
		l.wg.Go(func() { l.carry(server, point) })
	}
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
func (l *Link) carry(from, to net.Conn) {
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
		}
		if err != nil {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range []net.Conn{from, to} {
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
