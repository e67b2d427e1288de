package reactor

import (
	"container/list"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"syncgate/internal/account"
)

const (
	backlog    = 4096 // the kernel lowers it to net.core.somaxconn
	acceptTurn = 64   // connections accepted in one turn
	minBackoff = 100 * time.Millisecond
	maxBackoff = time.Second
)

// listener is a listening socket. Each address has one, served by the first loop, which hands each connection to the
// loop that has the fewest. The alternative, a SO_REUSEPORT socket in each loop, saves the hand-over, but spreads by
// hash, so that a few hundred long-lived connections come out uneven; and a socket closed in a drain resets the
// connections in its backlog. Connections live for hours here: the hand-over is rare, and the even spread lasts.
type listener struct {
	Listener
	index int
	fd    int
	bound netip.AddrPort

	ready   bool          // the backlog may not be empty
	backoff time.Duration // how long accepting pauses after a failure; doubles
	retryAt tick          // when accepting goes on; 0: it is not paused
}

func listen(index int, opts Listener) (*listener, error) {
	ln := &listener{Listener: opts, index: index, fd: -1}
	host := opts.Address
	if strings.HasPrefix(host, ":") {
		host = "[::]" + host
	}
	at, err := netip.ParseAddrPort(host)
	if err != nil {
		return nil, fmt.Errorf("reactor: listen address %q: %w", opts.Address, err)
	}
	if err = ln.bind(at); errors.Is(err, unix.EAFNOSUPPORT) && at.Addr() == netip.IPv6Unspecified() {
		err = ln.bind(netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())) // a host without IPv6
	}
	if err != nil {
		return nil, fmt.Errorf("reactor: listen on %q: %w", opts.Address, err)
	}
	return ln, nil
}

func (ln *listener) bind(at netip.AddrPort) (err error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	// Accepted sockets inherit TCP_NODELAY: a reply leaves when it is written, since a turn's replies are one write.
	// They inherit TCP_NOTSENT_LOWAT: what waits for a slow link waits here, where others may go before it.
	options := []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}, {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent},
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0}, // the last: not for IPv4
	}
	if family == unix.AF_INET {
		options = options[:3]
	}
	for _, o := range options {
		if err = unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if err = unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err = unix.Listen(fd, backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	ln.fd, ln.bound = fd, addrPort(name)
	return nil
}

func (ln *listener) close() {
	if ln.fd >= 0 {
		unix.Close(ln.fd)
		ln.fd = -1
	}
	ln.ready = false
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func (l *EventLoop) listenerReady(k key) {
	for _, ln := range l.listeners {
		if listenerKey(ln.index) == k {
			ln.ready = ln.fd >= 0
		}
	}
}

// acceptReady accepts from each listener whose backlog is not known to be empty. A listener gives one edge, so ready
// stays set until accept has returned EAGAIN: no connection is left in the backlog after acceptTurn or a backoff.
func (l *EventLoop) acceptReady() {
	for _, ln := range l.listeners {
		if ln.retryAt != 0 && !l.tick.before(ln.retryAt) {
			ln.retryAt = 0
		}
		if ln.ready && ln.retryAt == 0 {
			l.accept(ln)
		}
	}
}

func (l *EventLoop) accept(ln *listener) {
	for range acceptTurn {
		fd, sa, err := unix.Accept4(ln.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			ln.backoff = 0
			l.assign(ln, fd, addrPort(sa))
		case unix.EAGAIN:
			ln.ready = false
			return
		case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET,
			unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH, unix.EPERM:
			// An error of this one connection, not of the listener (accept(2), "Error handling").
		default:
			// EMFILE, ENFILE, ENOMEM, ENOBUFS: nothing can be accepted before something is freed, and no event says
			// when. Accepting is tried again after a while; connections already accepted are served meanwhile.
			ln.backoff = min(max(2*ln.backoff, minBackoff), maxBackoff)
			ln.retryAt = l.tick.after(ln.backoff)
			l.opts.Observer.Refused(ln.index, err)
			return
		}
	}
}

// assign admits a connection and hands it to the loop with the fewest, or refuses it.
func (l *EventLoop) assign(ln *listener, fd int, remote netip.AddrPort) {
	r := l.reactor
	victim, err := r.admission.admit(ln.index, remote.Addr())
	if err != nil {
		if ln.Refusal != nil {
			_, _ = unix.Write(fd, ln.Refusal(err)) // as much of it as there is room for
		}
		unix.Close(fd)
		l.opts.Observer.Refused(ln.index, err)
		return
	}
	if victim != 0 {
		r.Close(victim, ErrUnestablishedLimit)
	}
	to := l
	for _, other := range r.loops {
		if other.assigned.Load() < to.assigned.Load() {
			to = other
		}
	}
	to.assigned.Add(1)
	if to == l {
		l.adopt(ln, fd, remote)
	} else if !to.submit(command{do: func(to *EventLoop) { to.adopt(ln, fd, remote) }}) {
		to.abandon(ln, fd, remote)
	}
}

// abandon closes an admitted connection that no loop can serve.
func (l *EventLoop) abandon(ln *listener, fd int, remote netip.AddrPort) {
	l.assigned.Add(-1)
	l.reactor.admission.release(0, ln.index, remote.Addr())
	unix.Close(fd)
}

// adopt makes a connection of fd on this loop.
func (l *EventLoop) adopt(ln *listener, fd int, remote netip.AddrPort) {
	if l.draining || l.stopping {
		l.abandon(ln, fd, remote)
		return
	}
	c := &Conn{from: l.sources[ln.index], fd: int32(fd), address: remote.Addr().As16(), port: remote.Port(),
		holder:   l.reactor.ledger.Stranger(account.Source(remote.Addr()).String()),
		maxFrame: int32(ln.FirstFrameMax), heardAt: l.tick, limitAt: l.tick.after(ln.HandshakeTimeout)}
	l.mu.Lock()
	l.table.add(l.index, c)
	l.mu.Unlock()
	if err := l.poller.add(fd, key(c.id)); err != nil {
		l.remove(c)
		c.holder.Close()
		l.abandon(ln, fd, remote)
		l.opts.Observer.Refused(ln.index, err)
		return
	}
	l.conns++
	l.reactor.admission.adopted(c)
	l.opts.Observer.Opened(ln.index)
	if err := ln.Handler.Open(c); err != nil {
		c.set(unopened)
		c.Close(err)
	}
	l.markDirty(c)
}

// admission counts connections against the caps.
//
// Each listener has its own budget of connections that are not established, shared by account.Fits, so that one address
// gets half of it and many addresses leave each other room. When it is used up all the same, the oldest such connection
// makes room for a new one: a client shakes hands in milliseconds, and who is silent goes.
type admission struct {
	mu                   sync.Mutex
	opts                 *Options
	conns, unestablished int
	wires                []wireBudget               // by listener
	addresses            map[netip.Addr]addressLoad // by account.Source
}

type wireBudget struct {
	used   int        // connections that are not established
	oldest *list.List // of stranger: those of them that a loop has adopted
	places map[ConnID]*list.Element
}

// stranger is a connection that is not established.
type stranger struct {
	id   ConnID
	addr netip.Addr // its account.Source
}

type addressLoad struct{ conns, unestablished int }

// fewStrangers is how many connections of one address are never too many for it.
const fewStrangers = 16

func (a *admission) init(o *Options) {
	a.opts, a.addresses = o, make(map[netip.Addr]addressLoad)
	for range o.Listeners {
		a.wires = append(a.wires, wireBudget{oldest: list.New(), places: make(map[ConnID]*list.Element)})
	}
}

// admit counts a new connection, or says which cap it would exceed. victim, unless 0, is to be closed for it.
func (a *admission) admit(listener int, addr netip.Addr) (victim ConnID, err error) {
	k := account.Source(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	w, from, most := &a.wires[listener], a.addresses[k], a.opts.MaxUnestablished
	many := from.unestablished >= fewStrangers && !account.Fits(int64(from.unestablished), int64(w.used), int64(most))
	oldest := w.oldest.Front()
	switch {
	case a.conns >= a.opts.MaxConns:
		return 0, ErrConnLimit
	case from.conns >= a.opts.MaxPerAddress:
		return 0, ErrAddressLimit
	case many, w.used >= most && oldest == nil:
		return 0, ErrUnestablishedLimit
	case w.used >= most:
		victim = oldest.Value.(stranger).id
		a.settle(listener, victim)
		from = a.addresses[k] // the victim may be of the same address
	}
	a.conns++
	from.conns++
	a.addresses[k] = from
	a.count(listener, k, 1)
	return victim, nil
}

// count changes the number of connections that are not established. With mu held.
func (a *admission) count(listener int, k netip.Addr, n int) {
	a.unestablished += n
	a.wires[listener].used += n
	from := a.addresses[k]
	from.unestablished += n
	a.addresses[k] = from
}

// settle takes a connection out of the budget of those that are not established, if it is there. With mu held.
func (a *admission) settle(listener int, id ConnID) {
	w := &a.wires[listener]
	if e := w.places[id]; e != nil {
		delete(w.places, id)
		a.count(listener, w.oldest.Remove(e).(stranger).addr, -1)
	}
}

// adopted makes c the youngest of its listener's connections that are not established.
func (a *admission) adopted(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &a.wires[c.from.index]
	w.places[c.id] = w.oldest.PushBack(stranger{c.id, account.Source(c.Remote().Addr())})
}

func (a *admission) establish(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(c.from.index, c.id)
}

// release counts a connection out; id is 0 when no loop has adopted it.
func (a *admission) release(id ConnID, listener int, addr netip.Addr) {
	k := account.Source(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns--
	if id == 0 {
		a.count(listener, k, -1)
	} else {
		a.settle(listener, id)
	}
	from := a.addresses[k]
	if from.conns--; from.conns == 0 {
		delete(a.addresses, k)
	} else {
		a.addresses[k] = from
	}
}
