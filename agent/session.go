package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"syncgate/protocol"
)

// Bounds of one connection. The server allows a frame 30 s from its first byte to its
// last, and ends a session after an hour or 2^20 records; leaving a little earlier than
// that, and not all points at the same age, keeps the change of connection ours to time.
const (
	handshakeTimeout = 10 * time.Second
	writeTimeout     = 30 * time.Second
	requestTimeout   = 10 * time.Minute // a peer that is gone is noticed sooner, by its silence
	sessionAge       = 55 * time.Minute
	sessionRecords   = 1<<20 - 1<<16
	defaultKeepalive = 60 * time.Second
	// reservedSlots of those in flight are for the subscription and for a ping: a server that
	// works on all others must still be able to say that it is there.
	reservedSlots = 2
)

var (
	// errLost says that the connection ended while a request was out: whether the server
	// ran it is not known, so it is asked again under the same number.
	errLost = errors.New("connection lost")
	// errRetired says that the session takes no new requests.
	errRetired = errors.New("session is closing")
)

// session is one authenticated connection. One goroutine reads, requests are written by
// whoever makes them under a lock, so that records leave in the order of their counter.
type session struct {
	opts     *Options
	conn     net.Conn
	in       reader // the handshake's, then the reading goroutine's
	wire     *protocol.Client
	welcome  protocol.Welcome
	slots    chan struct{} // one token a request in flight
	pongs    chan protocol.RequestID
	onNotice func(rulesVersion uint64)

	write   sync.Mutex
	out     []byte // guarded by write, as records
	records uint64

	mu      sync.Mutex
	pending map[protocol.RequestID]*call
	retired bool
	grace   time.Duration

	retire signal        // raised when retired is set or the last request is answered
	dead   chan struct{} // closed with err set when the reader ends
	err    error

	answered atomic.Bool // some request got a reply
}

// call is one request waiting for its replies.
type call struct {
	replies chan *protocol.Message
	gone    chan struct{} // closed when nobody reads replies any more
}

// connect dials and shakes hands within ctx and handshakeTimeout.
func connect(ctx context.Context, o *Options, onNotice func(uint64)) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	dialer := net.Dialer{}
	conn, err := dialer.DialContext(ctx, "tcp", o.Server)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	s, err := handshake(conn, o, onNotice)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("handshake with %s: %w", o.Server, err)
	}
	return s, nil
}

func handshake(conn net.Conn, o *Options, onNotice func(uint64)) (*session, error) {
	wire, err := protocol.NewClient(protocol.ClientOptions{
		Point: o.Point, KeyID: o.KeyID, Key: o.Key, Software: o.Software, Clock: o.Clock, Rand: o.Rand,
	})
	if err != nil {
		return nil, err
	}
	hello, err := wire.Hello()
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	var in reader
	frame, err := in.frame(conn, protocol.HandshakeMax)
	if err != nil {
		return nil, err
	}
	if _, err := wire.Receive(frame); err != nil {
		return nil, err
	}
	w := wire.Welcome()
	return &session{
		opts: o, conn: conn, in: in, wire: wire, welcome: w, onNotice: onNotice,
		slots:   make(chan struct{}, max(1, w.MaxInFlight-reservedSlots)),
		pongs:   make(chan protocol.RequestID, 16),
		pending: make(map[protocol.RequestID]*call),
		retire:  newSignal(),
		dead:    make(chan struct{}),
	}, nil
}

// reader cuts frames out of a stream.
type reader struct {
	buf        []byte
	start, end int
}

// frame returns the next whole frame; it is valid until the next call.
func (r *reader) frame(conn io.Reader, max int) ([]byte, error) {
	for {
		n, err := protocol.Split(r.buf[r.start:r.end], max)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			frame := r.buf[r.start : r.start+n]
			r.start += n
			return frame, nil
		}
		if r.start > 0 {
			r.end = copy(r.buf, r.buf[r.start:r.end])
			r.start = 0
		}
		if r.end == len(r.buf) {
			r.buf = append(r.buf, make([]byte, len(r.buf)+16<<10)...)
		}
		n, err = conn.Read(r.buf[r.end:])
		r.end += n
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

func (s *session) keepalive() time.Duration {
	if s.welcome.Keepalive > 0 {
		return s.welcome.Keepalive
	}
	return defaultKeepalive
}

// run serves the session until it is lost (the error says how), ctx ends, or it has
// retired and every request is answered (nil). It joins the reader.
func (s *session) run(ctx context.Context) error {
	go s.read()
	err := s.keep(ctx)
	s.retireNow(0)
	_ = s.conn.Close()
	<-s.dead
	return err
}

// keep pings, answers pings, and retires the session in time.
func (s *session) keep(ctx context.Context) error {
	ping := time.NewTicker(s.keepalive() / 2)
	defer ping.Stop()
	age := time.NewTimer(sessionAge - rand.N(sessionAge/10))
	defer age.Stop()
	// The first record tells the server that this end is alive; what changes in its rules is
	// told to us as long as the session lasts.
	if err := s.send(&protocol.Message{Op: protocol.OpSubscribe, RequestID: s.wire.RequestID()}); err != nil {
		return err
	}
	var giveUp <-chan time.Time
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.dead:
			return s.err
		case id := <-s.pongs:
			err = s.send(&protocol.Message{Op: protocol.OpPing, RequestID: id, Body: &protocol.PingReply{ClockMs: s.opts.Clock().UnixMilli()}})
		case <-ping.C:
			err = s.send(&protocol.Message{Op: protocol.OpPing, RequestID: s.wire.RequestID()})
		case <-age.C:
			s.retireNow(requestTimeout)
		case <-giveUp:
			return fmt.Errorf("%w: requests unanswered when the session had to end", errLost)
		case <-s.retire:
			retired, idle, grace := s.drained()
			if retired && idle {
				return nil
			}
			if retired && giveUp == nil {
				giveUp = time.After(grace)
			}
		}
		if err != nil {
			return err
		}
	}
}

// retireNow lets no further request in; those in flight have grace to be answered.
func (s *session) retireNow(grace time.Duration) {
	s.mu.Lock()
	if !s.retired {
		s.retired, s.grace = true, grace
	}
	s.mu.Unlock()
	s.retire.raise()
}

func (s *session) drained() (retired, idle bool, grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired, len(s.pending) == 0, s.grace
}

// do makes one request, numbered unless it comes with a number, and hands every reply to each, in order, until the last one. An
// error of each gives the request up; later replies to it are dropped.
func (s *session) do(ctx context.Context, m *protocol.Message, each func(*protocol.Message) error) error {
	select {
	case s.slots <- struct{}{}:
	case <-s.dead:
		return errRetired
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.slots }()
	numbered := *m
	m = &numbered
	if m.RequestID == (protocol.RequestID{}) {
		m.RequestID = s.wire.RequestID()
	}
	c := &call{replies: make(chan *protocol.Message, 4), gone: make(chan struct{})}
	s.mu.Lock()
	if s.retired {
		s.mu.Unlock()
		return errRetired
	}
	s.pending[m.RequestID] = c
	s.mu.Unlock()
	defer s.forget(m.RequestID, c)
	if err := s.send(m); err != nil {
		return err
	}
	timeout := time.NewTimer(requestTimeout)
	defer timeout.Stop()
	for {
		select {
		case reply := <-c.replies:
			s.answered.Store(true)
			if err := each(reply); err != nil {
				return err
			}
			if reply.Flags&protocol.FlagMore == 0 {
				return nil
			}
			timeout.Reset(requestTimeout)
		case <-s.dead:
			return fmt.Errorf("%w: %w", errLost, s.err)
		case <-timeout.C:
			_ = s.conn.Close()
			return fmt.Errorf("%w: no reply within %v", errLost, requestTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *session) forget(id protocol.RequestID, c *call) {
	close(c.gone)
	s.mu.Lock()
	delete(s.pending, id)
	s.mu.Unlock()
	s.retire.raise()
}

// send seals and writes one message. A message that can't be sealed harms nobody else; a
// write that fails ends the session, because the counter has moved on.
func (s *session) send(m *protocol.Message) error {
	s.write.Lock()
	defer s.write.Unlock()
	frame, err := s.wire.AppendSeal(s.out[:0], m)
	if err != nil {
		return err
	}
	s.out = frame
	if s.records++; s.records == sessionRecords {
		s.retireNow(requestTimeout)
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.conn.Write(frame); err != nil {
		_ = s.conn.Close()
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return nil
}

// read hands each reply to its request until the connection ends. A request that is slow
// to take its replies stops the reading, and so, through TCP, the server.
func (s *session) read() {
	defer close(s.dead)
	var records int
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(2 * s.keepalive()))
		frame, err := s.in.frame(s.conn, s.wire.MaxFrame())
		if err == nil {
			err = s.dispatch(frame)
		}
		if err != nil {
			s.err = err
			return
		}
		if records++; records == sessionRecords {
			s.retireNow(requestTimeout)
		}
	}
}

func (s *session) dispatch(frame []byte) error {
	m, err := s.wire.Receive(frame)
	if err != nil || m == nil {
		return err
	}
	s.mu.Lock()
	c := s.pending[m.RequestID]
	s.mu.Unlock()
	if c != nil {
		select {
		case c.replies <- m:
		case <-c.gone:
		}
		return nil
	}
	return s.unasked(m)
}

// unasked takes what the server says of its own accord, and answers to our pings.
// Replies to requests that were given up are dropped.
func (s *session) unasked(m *protocol.Message) error {
	switch {
	case m.Op == protocol.OpGoAway:
		g, err := m.GoAway()
		if err != nil {
			return err
		}
		s.retireNow(time.Duration(g.GraceMs) * time.Millisecond)
	case m.Op == protocol.OpPing && m.RequestID.Epoch() == 0:
		select {
		case s.pongs <- m.RequestID:
		default: // the keeper is busy writing; the server sees that traffic
		}
	case m.Status != protocol.StatusOK:
	case m.Op == protocol.OpPing, m.Op == protocol.OpSubscribe:
		p, err := m.PingReply()
		if err != nil {
			return err
		}
		s.onNotice(p.RulesVersion)
	}
	return nil
}
