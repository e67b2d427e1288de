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

// longestPause is the most that the agent waits before it connects again. A link that is down, or a proxy without a
// server behind it, may be back at any moment, and a try costs nobody much. A server that has refused is asked less and
// less often.
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
