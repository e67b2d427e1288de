package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// cell is one square of the matrix.
type cell struct {
	body, conns, pipelined int
}

func (c cell) frame() []byte {
	b := make([]byte, headerSize+c.body+trailerSize)
	copy(b, "\xc5\x53\x47\x02\x03")
	binary.BigEndian.PutUint32(b[8:], uint32(c.body))
	return b
}

// load is one thread over epoll: each connection sends its pipelined frames in one write, waits for all the answers,
// and begins again. It does so little for each that the server is what is measured.
type load struct {
	cell
	epoll int
	peers []peer
	burst []byte
	took  histogram
}

type peer struct {
	fd       int
	toSend   int // bytes of the burst not yet written
	toGet    int // bytes of the answers not yet read
	sentAt   time.Duration
	answered int
}

func connect(addr string, c cell) (*load, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	l := &load{cell: c}
	for range c.pipelined {
		l.burst = append(l.burst, c.frame()...)
	}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for i := range c.conns {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return l, err
		}
		l.peers = append(l.peers, peer{fd: fd})
		if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
			return l, fmt.Errorf("connection %d: %w", i, err)
		}
		unix.SetNonblock(fd, true)
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		// A reset instead of a FIN at the end leaves no port in TIME_WAIT for the next turn.
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET&0xffffffff, Fd: int32(i)}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l *load) close() {
	for _, p := range l.peers {
		unix.Close(p.fd)
	}
	unix.Close(l.epoll)
}

// run drives the connections for d and returns the answers that came after warmUp; mark is called at that moment.
// Each connection ends its burst before run returns, so that the next run, or idleness, begins clean.
func (l *load) run(warmUp, d time.Duration, mark func()) (answers int, elapsed time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := time.Now()
	busy := len(l.peers)
	for i := range l.peers {
		p := &l.peers[i]
		p.toSend, p.toGet, p.sentAt = len(l.burst), len(l.burst), time.Since(start)
		if err := l.send(p); err != nil {
			return 0, 0, err
		}
	}
	var (
		events  [512]unix.EpollEvent
		buf     = make([]byte, 256<<10)
		counted = false
		size    = len(l.burst) / l.pipelined
		from    time.Duration
		until   = warmUp + d
	)
	for busy > 0 {
		n, err := unix.EpollWait(l.epoll, events[:], 5000)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, 0, fmt.Errorf("epoll_wait: %w", err)
		}
		if n == 0 {
			return 0, 0, fmt.Errorf("%d connections without an answer for 5 s", busy)
		}
		now := time.Since(start)
		if !counted && now >= warmUp {
			counted, from = true, now
			mark()
		}
		if elapsed == 0 && now >= until {
			elapsed = now - from
			mark()
		}
		for i := range n {
			p := &l.peers[events[i].Fd]
			if err := l.send(p); err != nil {
				return 0, 0, err
			}
			if p.toGet == 0 {
				continue
			}
			got, err := unix.Read(p.fd, buf[:min(len(buf), p.toGet)])
			for ; err == nil && got > 0; got, err = unix.Read(p.fd, buf[:min(len(buf), p.toGet)]) {
				p.toGet -= got
				now := time.Since(start)
				for p.answered < l.pipelined-(p.toGet+size-1)/size {
					p.answered++
					if counted && elapsed == 0 {
						answers++
						l.took.add(now - p.sentAt)
					}
				}
				if p.toGet > 0 {
					continue
				}
				if p.answered = 0; now >= until {
					busy--
					break
				}
				p.toSend, p.toGet, p.sentAt = len(l.burst), len(l.burst), now
				if err := l.send(p); err != nil {
					return 0, 0, err
				}
				if p.toGet == len(l.burst) {
					break // the answer cannot be there yet
				}
			}
			if err != nil && err != unix.EAGAIN {
				return 0, 0, fmt.Errorf("read: %w", err)
			}
			if err == nil && got == 0 {
				return 0, 0, fmt.Errorf("the server closed a connection")
			}
		}
	}
	if counted && elapsed == 0 {
		elapsed = time.Since(start) - from
		mark()
	}
	return answers, elapsed, nil
}

func (l *load) send(p *peer) error {
	for p.toSend > 0 {
		n, err := unix.Write(p.fd, l.burst[len(l.burst)-p.toSend:])
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		p.toSend -= n
	}
	return nil
}

// histogram counts durations in buckets a thirty-second apart at most.
type histogram struct {
	counts [64 * 32]int64
	total  int64
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(d))]++
	h.total++
}

func bucket(v uint64) int {
	if v < 64 {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return shift<<5 + int(v>>shift)
}

// quantile is the upper edge of the bucket that holds it.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(q * float64(h.total))
	for i, n := range h.counts {
		if rank -= n; rank < 0 {
			if i < 64 {
				return time.Duration(i)
			}
			shift := i>>5 - 1
			return time.Duration((uint64(i)-uint64(shift)<<5+1)<<shift - 1)
		}
	}
	return 0
}
