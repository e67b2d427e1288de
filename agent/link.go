package agent

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"syncgate/protocol"
)

// link keeps one connection to the server and lends it to requests. Requests wait while there is no connection.
type link struct {
	opts      *Options
	servers   *servers
	sessions  chan *session // the present session offers itself here while it takes requests
	online    atomic.Bool
	rulesNews signal                 // the server has sent another version of its rules
	at        atomic.Pointer[string] // address of the last server that answered
	patience  time.Duration          // how long a round looks for a server before it gives up

	resubscribe signal                                             // other tables may be downloaded
	downloads   func() []string                                    // tables; nil: none
	runRule     func(context.Context, *session, *protocol.Message) // answers a RUN; nil: there are no rules
	news        *news

	pace  pace
	holds *protocol.Holds // replies that were cut off
	begun begun
	now   atomic.Pointer[session] // the last one
}

func newLink(o *Options, n *news) (*link, error) {
	servers, err := newServers(o.Server)
	if err != nil {
		return nil, fmt.Errorf("agent: Options.Server: %w", err)
	}
	return &link{opts: o, servers: servers, sessions: make(chan *session), rulesNews: newSignal(),
		resubscribe: newSignal(), news: n, holds: protocol.NewHolds(o.MaxMessage, nil, o.Clock)}, nil
}

const onceTries = 5 // tries after transient errors in a round of Once

// run connects, serves the session to its end and connects again, until ctx ends. When persistent is false, run returns
// the error of the first connection that fails after the link's patience, unless the server was only busy.
func (l *link) run(ctx context.Context, persistent bool) error {
	wait, reached := backoff{first: l.opts.ReconnectMin, limit: l.opts.ReconnectMax}, time.Now()
	for {
		s, err := l.connect(ctx)
		if s != nil {
			// After a session with at least one answer the next connection is prompt again. After a session that
			// was cut at once it is not; else two ends that disagree would reconnect without a pause.
			if err = s.run(ctx); s.answered.Load() {
				wait.tries, reached = 0, time.Now()
				l.servers.worked()
			}
		}
		busy := retryAfter(err)
		rest := max(min(wait.next(), longestPause(err, s != nil)), busy)
		if l.servers.more() {
			rest = wait.first
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			l.opts.Log.Info().Dur("retry_in_ms", rest).Msg("session at its end, connecting again")
		case !persistent && !l.servers.more() && (s == nil && busy == 0 || wait.tries > onceTries) &&
			(time.Since(reached) >= l.patience || protocol.StatusOf(err) == protocol.StatusRejected):
			return err
		default:
			phase := "handshake"
			if s != nil {
				phase = "session"
			}
			l.opts.count(connectionsLost, phase, 1)
			explain(l.opts.Log.Warn(), err).Dur("retry_in_ms", rest).Msg("offline; rows wait until the server answers")
		}
		pause(ctx, rest)
	}
}

// longestPause is the most that the agent waits before it connects again. A link that is down, or a proxy without a server
// behind it, may be back at any moment, and a try costs nobody much. A server that has refused is asked less and less often.
func longestPause(err error, connected bool) time.Duration {
	_, refused := errors.AsType[*protocol.RejectError](err)
	switch {
	case refused:
		return maxRetryAfter
	case errors.Is(err, errNoAnswer):
		return probeEvery/2 + rand.N(probeEvery/2)
	case connected:
		return maxPause
	}
	return probeEvery + rand.N(probeEvery)
}

// Bounds of one connection. The server allows a frame 30 s from its first byte to its last, and ends a session after an
// hour or 2^20 records. The agent leaves a little earlier and at a random age, so that it chooses the moment and points
// do not reconnect together.
const (
	handshakeTimeout = 10 * time.Second
	leaveServer      = 4 * time.Second        // the same where there is another server
	writeTimeout     = 30 * time.Second       // without a byte that leaves
	maxPause         = 5 * time.Second        // after a session; the other end has shown that it knows the key
	lostPause        = 500 * time.Millisecond // of a rule whose connection was lost
	requestTimeout   = 10 * time.Minute       // the keepalive notices a dead peer sooner
	leaveEarly       = 5 * time.Minute        // or up to twice that
	defaultKeepalive = 60 * time.Second
	// reservedSlots of the requests in flight are for the subscription and for a ping, so that a server that is busy
	// with all others can still answer a ping.
	reservedSlots = 2
)

// ErrLost means that the connection ended before the reply. The server may have run the request, so the agent sends it
// again under the same number.
var ErrLost = errors.New("connection lost")

// ErrNotReached means that no session with a server could be made.
var ErrNotReached = errors.New("the server is not reached")

// errNoAnswer is an ErrNotReached without a connection: nothing answers at the address, or the link is down.
var errNoAnswer = fmt.Errorf("no answer: %w", ErrNotReached)

// ErrData says that the input of Push is wrong, or that rows of it were refused.
var ErrData = errors.New("wrong data")

// session is one authenticated connection. One goroutine reads. One serves: it lends the session to requests, pings,
// and ends the session in time. Each request is written by its own goroutine under a lock, so that records leave in the
// order of their counter.
type session struct {
	*link
	address string // of the server
	conn    *steady
	frames  *bufio.Scanner // the handshake's, then the reading goroutine's
	wire    *protocol.Client

	returned chan struct{}           // a request returns the session
	pongs    chan protocol.RequestID // pings of the server that need an answer
	goAway   chan time.Duration      // GOAWAY: the time for the requests in flight
	closed   chan struct{}           // closed with err set when the reader ends
	err      error

	write    sync.Mutex
	out      []byte       // guarded by write
	pending  sync.Map     // requests in flight: protocol.RequestID to *call
	answered atomic.Bool  // a request has got a reply
	heard    atomic.Int64 // ns since 1970 of the last frame
	large    protocol.Pace

	ctx     context.Context // of runs that the centre asked for: ends with the session
	running sync.WaitGroup  // these

	subscription atomic.Pointer[protocol.RequestID] // the last one
	version      uint64                             // of the centre's rules, as the reader was told
	first        protocol.RequestID                 // the last subscription that was answered
}

// call is one request waiting for its replies.
type call struct {
	replies chan *protocol.Message
	gone    <-chan struct{} // closed when the request has ended
	size    int             // bytes of its payload
}

// connect dials and shakes hands within ctx and handshakeTimeout.
func (l *link) connect(ctx context.Context) (*session, error) {
	limit := handshakeTimeout
	if len(l.servers.all) > 1 {
		limit = leaveServer
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	address := l.servers.next()
	conn, err := dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	l.holds.Sweep()
	s := &session{link: l, address: address, conn: &steady{Conn: conn, stuck: writeTimeout},
		returned: make(chan struct{}), pongs: make(chan protocol.RequestID, 16),
		goAway: make(chan time.Duration, 1), closed: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := s.handshake(); err != nil || !stop() {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: handshake with %s: %w", ErrNotReached, address, cmp.Or(ctx.Err(), err))
	}
	return s, nil
}

func (s *session) handshake() (err error) {
	o := s.opts
	s.wire, err = protocol.NewClient(protocol.ClientOptions{
		Point: o.Point, KeyID: o.KeyID, Key: o.Key, Software: o.Software, Clock: o.Clock, Rand: o.Rand,
		Holds: s.holds, Packs: !o.Uncompressed,
	})
	if err != nil {
		return err
	}
	s.frames = newFrames(s.conn, s.wire.MaxFrame)
	frame, err := s.wire.Hello()
	if err == nil {
		_, err = s.conn.Write(frame)
	}
	if err == nil {
		frame, err = next(s.frames)
	}
	if err == nil {
		_, err = s.wire.Receive(frame)
	}
	return err
}

// newFrames cuts frames out of a stream. It calls max for the largest body each time.
func newFrames(stream io.Reader, max func() int) *bufio.Scanner {
	frames := bufio.NewScanner(stream)
	frames.Buffer(nil, protocol.HardMaxFrame+1<<10)
	frames.Split(func(buf []byte, _ bool) (int, []byte, error) {
		n, err := protocol.Split(buf, max())
		if err != nil || n == 0 {
			return 0, nil, err
		}
		return n, buf[:n], nil
	})
	return frames
}

// next returns the next whole frame, which is valid until the next call.
func next(frames *bufio.Scanner) ([]byte, error) {
	if frames.Scan() {
		return frames.Bytes(), nil
	}
	return nil, cmp.Or(frames.Err(), io.EOF)
}

func (s *session) keepalive() time.Duration {
	return cmp.Or(s.wire.Welcome().Keepalive, defaultKeepalive)
}

// run serves the session and joins the reader. It returns nil when the session's time is over and every request is
// answered, and an error when the connection is lost or ctx ends.
func (s *session) run(ctx context.Context) error {
	w := s.wire.Welcome()
	s.opts.Log.Info().Str("server", s.address).Str("server_id", w.ServerID).Uint64("rules_version", w.RulesVersion).
		Int64("server_clock_ahead_ms", w.ClockMs-s.opts.Clock().UnixMilli()).Msg("connected")
	s.at.Store(&s.address)
	s.rulesNews.raise()
	s.conn.silence = 2 * s.keepalive()
	s.now.Store(s)
	s.online.Store(true)
	defer s.online.Store(false)
	s.version = w.RulesVersion
	s.news.subscribed()
	var over context.CancelFunc
	s.ctx, over = context.WithCancel(ctx)
	go s.read()
	err := s.serve(ctx, max(1, w.MaxInFlight-reservedSlots))
	_ = s.conn.Close()
	<-s.closed
	over()
	s.running.Wait()
	under := 0
	s.pending.Range(func(_, c any) bool {
		under += c.(*call).size
		return true
	})
	s.pace.cut(under)
	return err
}

// serve lends the session to at most slots requests at once, pings, answers pings, and ends the session in time.
func (s *session) serve(ctx context.Context, slots int) error {
	ping := time.NewTicker(s.keepalive() / 2)
	defer ping.Stop()
	early := leaveEarly + rand.N(leaveEarly)
	// The first record proves to the server that this HELLO is no replay. The subscription reports changes of the rules
	// and news of tables for the whole session.
	tables, err := s.subscribe(nil)
	var giveUp <-chan time.Time // not nil when no further request may begin
	for lent := 0; err == nil; {
		if giveUp == nil && s.wire.Expired(s.opts.Clock().Add(early)) {
			giveUp = time.After(requestTimeout)
		}
		offer := s.sessions
		switch {
		case giveUp != nil && lent == 0:
			return nil
		case giveUp != nil || lent == slots:
			offer = nil
		}
		select {
		case offer <- s:
			lent++
		case <-s.returned:
			lent--
		case <-s.resubscribe:
			tables, err = s.subscribe(tables)
		case id := <-s.pongs:
			reply := &protocol.PingReply{ClockMs: s.opts.Clock().UnixMilli()}
			err = s.send(&protocol.Message{Op: protocol.OpPing, RequestID: id, Body: reply})
		case <-ping.C:
			err = s.send(&protocol.Message{Op: protocol.OpPing, RequestID: s.wire.RequestID()})
		case grace := <-s.goAway:
			giveUp = time.After(grace)
		case <-giveUp:
			err = fmt.Errorf("%w: requests unanswered when the session had to end", ErrLost)
		case <-s.closed:
			err = s.err
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return err
}

// subscribe asks to be told of the tables that this point downloads, unless it was asked for these already.
func (s *session) subscribe(asked []string) ([]string, error) {
	var tables []string
	if s.downloads != nil {
		tables = s.downloads()
	}
	if asked != nil && slices.Equal(asked, tables) {
		return asked, nil
	}
	id := s.wire.RequestID()
	s.subscription.Store(&id)
	m := &protocol.Message{Op: protocol.OpSubscribe, RequestID: id,
		Body: &protocol.SubscribeRequest{Tables: tables, Runs: s.runRule != nil}}
	return append([]string{}, tables...), s.send(m)
}

// do waits for a session, sends m and passes every reply to each, in order. It gives m a number when m has none. An
// error of each ends the request. A *Refusal is the server's refusal. ErrLost means that the connection ended and that
// the caller should ask again.
func (l *link) do(ctx context.Context, m *protocol.Message, each func(*protocol.Message) error) error {
	wait, err := l.post(ctx, m, nil)
	if err != nil {
		return err
	}
	return wait(each)
}

// post is the part of do up to the sending of m. Requests that are posted one after the other arrive in this order, as
// long as the connection stays. wait is the rest of do and has to be called. With on set, m is for that connection
// alone.
func (l *link) post(ctx context.Context, m *protocol.Message, on *session,
) (wait func(each func(*protocol.Message) error) error, err error) {
	var s *session
	select {
	case s = <-l.sessions:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-on.over():
		return nil, ErrLost
	}
	if on != nil && s != on {
		s.giveBack()
		return nil, ErrLost
	}
	ctx, cancel := context.WithCancel(ctx)
	if m.RequestID == (protocol.RequestID{}) {
		m.RequestID = s.wire.RequestID()
	}
	c := &call{replies: make(chan *protocol.Message, 4), gone: ctx.Done()}
	o, err := s.wire.Prepare(m)
	if err == nil {
		c.size = o.Size()
	}
	s.pending.Store(m.RequestID, c)
	end := func() {
		s.pending.Delete(m.RequestID)
		cancel()
		s.giveBack()
	}
	if err == nil {
		err = s.sendCall(ctx, o, c)
	}
	if err != nil {
		end()
		return nil, err
	}
	return func(each func(*protocol.Message) error) error {
		defer end()
		err := s.replies(ctx, c, each)
		if errors.Is(err, ErrLost) {
			m.Have = s.wire.Held(m.RequestID)
		}
		return err
	}, nil
}

// giveBack ends the use of a session by a request.
func (s *session) giveBack() {
	select {
	case s.returned <- struct{}{}:
	case <-s.closed:
	}
}

// over is closed when the session has ended.
func (s *session) over() <-chan struct{} {
	if s == nil {
		return nil
	}
	return s.closed
}

// replies passes the replies of a request to each until the last one has come.
func (s *session) replies(ctx context.Context, c *call, each func(*protocol.Message) error) error {
	for {
		select {
		case reply := <-c.replies:
			s.answered.Store(true)
			if err := refusal(reply); err != nil {
				return err
			}
			if err := each(reply); err != nil || !reply.More() {
				return err
			}
		case <-s.closed:
			return fmt.Errorf("%w: %w", ErrLost, s.err)
		case <-time.After(requestTimeout):
			if s.opts.Clock().UnixNano()-s.heard.Load() < int64(requestTimeout) {
				continue // a piece of something has come
			}
			_ = s.conn.Close()
			return fmt.Errorf("%w: no reply within %v", ErrLost, requestTimeout)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask is do for a request with one reply.
func ask[T any](ctx context.Context, l *link, m *protocol.Message,
	decode func(*protocol.Message) (T, error)) (reply T, err error) {
	err = l.do(ctx, m, func(m *protocol.Message) (err error) {
		reply, err = decode(m)
		return err
	})
	return reply, err
}

// send writes a small message.
func (s *session) send(m *protocol.Message) error {
	o, err := s.wire.Prepare(m)
	for more := true; err == nil && more; {
		more, err = s.sendRecord(o)
	}
	return err
}

// sendCall writes a request. A large one leaves in pieces, between which others have their turn. When it was begun on
// an earlier connection, the server is asked how much of it has come. A reply before the end is a refusal.
func (s *session) sendCall(ctx context.Context, o *protocol.Outgoing, c *call) error {
	if o.Size() > s.large.Piece() {
		if s.begun.again(string(o.Digest())) {
			have, err := s.held(ctx, o.Digest())
			if err != nil {
				return err
			}
			o.Skip(have)
		}
	}
	began := time.Now()
	for more := true; more && len(c.replies) == 0; {
		var err error
		if more, err = s.sendRecord(o); err == nil {
			err = ctx.Err()
		}
		if more && err == nil {
			s.conn.settle(ctx)
		}
		if err != nil {
			return err
		}
	}
	s.pace.sent(o.Unpacked(), time.Since(began))
	return nil
}

// held asks how much the server has of a message.
func (s *session) held(ctx context.Context, digest []byte) (n uint64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	id := s.wire.RequestID()
	c := &call{replies: make(chan *protocol.Message, 1), gone: ctx.Done()}
	s.pending.Store(id, c)
	defer s.pending.Delete(id)
	err = s.send(&protocol.Message{Op: protocol.OpHeld, RequestID: id, Body: &protocol.HeldRequest{Digest: digest}})
	if err != nil {
		return 0, err
	}
	err = s.replies(ctx, c, func(m *protocol.Message) error {
		r, err := m.HeldReply()
		if err == nil {
			n = r.Bytes
		}
		return err
	})
	return n, err
}

// sendRecord seals and writes the next record of a message. One that cannot be sealed leaves the session as it was. A
// failed write ends the session, because the record counter has moved on.
func (s *session) sendRecord(o *protocol.Outgoing) (more bool, err error) {
	s.write.Lock()
	defer s.write.Unlock()
	began := time.Now()
	s.out, more, err = s.wire.Next(s.out[:0], o, s.large.Piece())
	if err != nil {
		return false, err
	}
	if _, err := s.conn.Write(s.out); err != nil {
		_ = s.conn.Close()
		return false, fmt.Errorf("%w: %w", ErrLost, err)
	}
	s.large.Took(len(s.out), time.Since(began))
	s.pace.left(len(s.out))
	return more, nil
}

// read passes each reply to its request until the connection ends. A request that takes its replies slowly stops the
// reading, and thus, through TCP, the server.
func (s *session) read() {
	defer close(s.closed)
	for s.err == nil {
		var m *protocol.Message
		frame, err := next(s.frames)
		if err == nil {
			m, err = s.wire.Receive(frame)
		}
		if err == nil && m != nil {
			err = s.dispatch(m)
		}
		s.heard.Store(s.opts.Clock().UnixNano())
		s.err = err
	}
}

// dispatch handles replies and the server's own messages. It drops replies to requests that have ended.
func (s *session) dispatch(m *protocol.Message) error {
	if c, ok := s.pending.Load(m.RequestID); ok {
		select {
		case c.(*call).replies <- m:
		case <-c.(*call).gone:
		}
		return nil
	}
	switch {
	case m.Op == protocol.OpGoAway:
		g, err := m.GoAway()
		if err != nil {
			return err
		}
		select {
		case s.goAway <- time.Duration(g.GraceMs) * time.Millisecond:
		default: // an earlier GOAWAY is still waiting
		}
	case m.Op == protocol.OpPing && m.RequestID.Epoch() == 0:
		select {
		case s.pongs <- m.RequestID:
		default: // serve is busy writing, and the server sees that traffic
		}
	case m.Op == protocol.OpRun && m.RequestID.Epoch() == 0 && s.runRule != nil:
		s.running.Go(func() { s.runRule(s.ctx, s, m) })
	case m.Op == protocol.OpPing, m.Op == protocol.OpSubscribe:
		return s.told(m)
	}
	return nil
}

// told takes in an answer to the subscription, or to a ping.
func (s *session) told(m *protocol.Message) error {
	reply, err := m.SubscribeReply()
	if err != nil || m.Status != protocol.StatusOK {
		return err
	}
	if reply.RulesVersion != s.version {
		s.version = reply.RulesVersion
		s.rulesNews.raise() // refresh asks for them
	}
	first := m.Op == protocol.OpSubscribe && m.RequestID == *s.subscription.Load() && s.first != m.RequestID
	if first {
		s.first = m.RequestID
	}
	s.news.tell(reply.News, reply.Polled, first && len(reply.News) == 0)
	return nil
}
