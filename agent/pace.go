package agent

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pace finds how large the batches may be that suit the link: such that one takes a few seconds to leave, and that
// several leave before the link is cut the next time. Any goroutine may use it.
type pace struct {
	mu    sync.Mutex
	size  int // bytes of the next batch; 0: not known
	moved int // bytes that have left on the present connection
}

const (
	leastBatch = 1 << 10
	firstBatch = 64 << 10
	batchTime  = 6 * time.Second // for a batch to leave: longer than most round trips
)

// batch is how many bytes the next batch may have.
func (p *pace) batch() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(max(cmp.Or(p.size, firstBatch), leastBatch), batchBytes)
}

// left counts n bytes that have left.
func (p *pace) left(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved += n
}

// sent learns how long a message took to leave. A small one says nothing: it may have waited for others.
func (p *pace) sent(n int, took time.Duration) {
	size := p.batch()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n >= size/2 {
		suits := float64(n) * batchTime.Seconds() / max(took, time.Millisecond).Seconds()
		p.size = int(min(suits, 2*float64(size), batchBytes))
	}
}

// cut ends a connection. under is how many bytes of requests had no reply. When that is much of what the connection has
// carried, batches become smaller.
func (p *pace) cut(under int) {
	size := p.batch()
	p.mu.Lock()
	defer p.mu.Unlock()
	if under > leastBatch && p.moved < 3*under {
		p.size = max(size/2, leastBatch)
	}
	p.moved = 0
}

// begun remembers which requests have left in pieces, by digest: the last ones.
type begun struct {
	mu  sync.Mutex
	all []string
}

// again notes a request and reports whether it has begun to leave before.
func (b *begun) again(digest string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.all, digest) {
		return true
	}
	if b.all = append(b.all, digest); len(b.all) > 64 {
		b.all = b.all[1:]
	}
	return false
}

// steady is a connection whose deadlines go by progress: it fails when no byte has moved for so long.
type steady struct {
	net.Conn
	silence time.Duration // for a read; 0: for ever
	stuck   time.Duration // for a write
}

func (c *steady) Read(b []byte) (int, error) {
	if c.silence > 0 {
		_ = c.SetReadDeadline(time.Now().Add(c.silence))
	}
	return c.Conn.Read(b)
}

func (c *steady) Write(b []byte) (n int, err error) {
	for n < len(b) {
		_ = c.SetWriteDeadline(time.Now().Add(c.stuck))
		m, err := c.Conn.Write(b[n:])
		if n += m; err != nil && (m == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return n, err
		}
	}
	return n, nil
}

// settle waits until the kernel has few bytes that are not under way. TCP_NOTSENT_LOWAT alone lets it take 64 KiB,
// which a slow link needs seconds for.
func (c *steady) settle(ctx context.Context) {
	conn, ok := c.Conn.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := conn.SyscallConn()
	for rest := time.Millisecond; err == nil && ctx.Err() == nil; rest = min(2*rest, 50*time.Millisecond) {
		waiting := 0
		err = raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQNSD) })
		if waiting <= unsent {
			return
		}
		time.Sleep(rest)
	}
}

const (
	// probeEvery is how often the agent tries to reach a server. A packet a second costs nobody anything, and the agent
	// is back within this time after the link is.
	probeEvery = time.Second
	// unacked is how long the other end may leave bytes without an acknowledgement. The link is then taken for cut.
	unacked = 20 * time.Second
	// unsent is how many bytes the kernel takes beside those under way. The rest waits here, where a small message may
	// go before a large one.
	unsent = 8 << 10
)

// dial connects. While an attempt waits it begins another every second, since a lost packet is repeated after ever
// longer times. The first that succeeds ends the others.
func dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacked.Milliseconds())))
		})
		return errors.Join(failed, err)
	}}
	type outcome struct {
		conn net.Conn
		err  error
	}
	all := make(chan outcome)
	attempts := 0
	attempt := func() {
		attempts++
		go func() {
			conn, err := dialer.DialContext(ctx, "tcp", address)
			select {
			case all <- outcome{conn, err}:
			case <-ctx.Done():
				if conn != nil {
					_ = conn.Close()
				}
			}
		}()
	}
	attempt()
	more := time.NewTicker(probeEvery)
	defer more.Stop()
	for {
		select {
		case o := <-all:
			if o.err == nil || attempts == 1 || !errors.Is(o.err, os.ErrDeadlineExceeded) {
				return o.conn, o.err
			}
		case <-more.C:
			attempt()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
