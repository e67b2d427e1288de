package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"syncgate/business"
	"syncgate/internal/account"
	"syncgate/protocol"
	"syncgate/reactor"
	"syncgate/store"
)

// Reasons for which the gateway ends connections.
var (
	errRejected = errors.New("gateway: rejected")
	errRevoked  = errors.New("gateway: the point's key was revoked")
	errConns    = errors.New("gateway: the point has too many connections")
	errAged     = errors.New("gateway: the session is over and its client did not leave")
)

// legacyExpansion is how many bytes a packet of the v1 wire takes beside itself while it is read, for each of its own.
const legacyExpansion = 6

// firstPacket is the time for the first packet of an agent of the v1 wire, once its beginning has shown it. The server
// also ends a packet of which nothing more comes.
const firstPacket = time.Hour

// grace is the time for a client to leave after GOAWAY.
const grace = time.Minute

// handler is the reactor.Handler of one listener. Its own work takes microseconds. Longer work goes to the pool or to
// the reply queue.
type handler struct {
	g      *Gateway
	legacy *protocol.Legacy // nil: the v2 wire
	name   string           // of the wire, for metrics and the log
}

var _ reactor.Handler = (*handler)(nil)

// Open implements reactor.Handler.
func (h *handler) Open(c *reactor.Conn) error {
	s := &session{g: h.g, id: c.ID()}
	if h.legacy == nil {
		s.modern = h.g.server.NewSession(c.Remote().Addr())
		s.wire = s.modern
	} else {
		w, err := h.legacy.NewSession(c.Remote().Addr())
		if err != nil {
			h.g.sampledLog.Warn().Err(err).Msg("connection refused")
			return err
		}
		s.wire = w
	}
	c.Data = s
	c.SetMaxFrame(s.wire.MaxFrame())
	return nil
}

// Frame implements reactor.Handler.
func (h *handler) Frame(c *reactor.Conn, frame []byte) error {
	s := c.Data.(*session)
	if h.legacy != nil {
		return h.decode(c, s, frame)
	}
	e, err := s.wire.Receive(frame)
	if err != nil {
		return err
	}
	if served := h.event(c, s, e); served && e.Message != nil {
		c.Begin()
		if e.Refused != nil {
			r := h.asked(c, s, e.Message)
			h.g.replies.add(s.point, func() { r.Refuse(e.Refused) })
			return nil
		}
		h.request(c, s, e.Message)
	}
	if e.Answer != nil {
		h.g.news.answered(s, e.Answer)
	}
	return nil
}

// decode has a packet of the v1 wire read by another goroutine: its text is a Python literal, which may take long. The
// packet counts as in flight, so that nothing is read behind it. What is made of it is charged beside it.
func (h *handler) decode(c *reactor.Conn, s *session, packet []byte) error {
	payer, size := c.Holder(), legacyExpansion*int64(len(packet))
	if len(packet) > account.Floor && !payer.MayTake(size) {
		h.g.noteShare(payer.Name(), "a request was refused")
		c.Write(h.legacy.Refusal(protocol.StatusBusy, "the point uses its share of the server; send it again later"))
		return nil
	}
	payer.Add(size)
	packet = bytes.Clone(packet)
	c.Begin()
	h.g.decoding.add(payer.Name(), func() {
		e, err := s.wire.Receive(packet)
		h.g.reactor.Do(s.id, func(c *reactor.Conn) {
			if err != nil {
				c.Close(err)
				return
			}
			if served := h.event(c, s, e); served && e.Message != nil {
				h.request(c, s, e.Message)
			} else {
				c.Done()
			}
		})
		payer.Add(-size)
	})
	return nil
}

// peek implements reactor.Listener.Peek for the v1 wire. Who has the key may send a whole packet; it is charged to the
// address, since the point is not known before the packet is read.
func (h *handler) peek(c *reactor.Conn, part []byte) error {
	s := c.Data.(*session)
	if e, ok := s.wire.(*protocol.LegacySession).Peek(part); !ok {
		h.reject(c, s, e)
		return nil
	}
	c.SetHolder(h.g.ledger.Point("agents at " + c.Remote().Addr().String()))
	c.Extend(firstPacket)
	return nil
}

// overrun is the answer to an agent of the v1 wire whose packet meets a bound. It names the bound, which is a setting.
func (h *handler) overrun(c *reactor.Conn, err error) []byte {
	switch {
	case c.Data.(*session).reject != nil:
		return nil
	case errors.Is(err, protocol.ErrTooLarge), errors.Is(err, reactor.ErrFrameTooLarge):
		return h.legacy.Refusal(protocol.StatusTooLarge,
			fmt.Sprintf("the packet has more than %d bytes, see legacy.max_packet; send fewer rows",
				h.legacy.MaxPacket()))
	}
	return h.legacy.Refusal(protocol.StatusMalformed,
		"the packet is not as documented, or its bytes did not come in time")
}

// refusal is the answer to a connection of the v1 wire for which there is no room.
func (h *handler) refusal(err error) []byte {
	if !errors.Is(err, reactor.ErrConnLimit) && !errors.Is(err, reactor.ErrAddressLimit) {
		return nil // a stranger
	}
	return h.legacy.Refusal(protocol.StatusBusy,
		"too many connections, see max_connections and max_connections_per_address")
}

// event acts on what a session made of a frame, but for its request. It returns false when the connection ends.
func (h *handler) event(c *reactor.Conn, s *session, e protocol.Event) bool {
	if e.Reply != nil {
		c.Write(e.Reply)
	}
	if e.Reject != nil {
		h.reject(c, s, e)
		return false
	}
	return !e.Established || h.establish(c, s)
}

// reject sends a refusal at once, or after the delay, which is the same for every reason.
func (h *handler) reject(c *reactor.Conn, s *session, e protocol.Event) {
	h.g.metrics.rejected.WithLabelValues(h.name).Inc()
	h.g.sampledLog.Warn().Str("wire", h.name).Stringer("remote", c.Remote()).AnErr("cause", s.wire.Cause()).
		Msg("rejected")
	s.reject = e.Reject
	if e.RejectAfter > 0 {
		c.SetTimer(e.RejectAfter)
		return
	}
	h.Timer(c)
}

func (h *handler) establish(c *reactor.Conn, s *session) bool {
	s.point = s.wire.Point()
	ok, heldBack := h.g.visits.Allow("connected " + s.point)
	log := h.g.o.Logger.Info()
	if !ok {
		log = nil // zerolog drops it
	}
	log = leftOut(log, heldBack).Str("point", s.point).Str("wire", h.name).Stringer("remote", c.Remote())
	if s.modern != nil {
		s.keyID = s.modern.KeyID()
		log = log.Uint32("key_id", s.keyID).Str("software", s.modern.Software())
		c.SetTimer(protocol.SessionLifetime)
	}
	c.SetHolder(h.g.ledger.Point(s.point))
	c.Establish()
	if h.g.activity.connected(s.point, c.Remote().String()) > h.g.o.PointConns {
		h.g.noteShare(s.point, "a connection was closed")
		if h.legacy == nil {
			c.Close(errConns)
		} else {
			c.Write(h.legacy.Refusal(protocol.StatusBusy,
				"the point has too many connections, see max_connections_per_point"))
			c.CloseAfterFlush(errConns)
		}
		return false
	}
	c.SetMaxFrame(s.wire.MaxFrame())
	s.seen()
	h.g.metrics.established.WithLabelValues(h.name).Inc()
	log.Msg("connected")
	return true
}

// asked is the request of a message.
func (h *handler) asked(c *reactor.Conn, s *session, m *protocol.Message) *business.Request {
	return &business.Request{Point: s.point, Message: m, Client: s, Payer: c.Holder(), Context: context.Background(),
		Arrived: h.g.o.Clock()}
}

// request hands m to the pool, to the reply queue, or refuses it. It counts as in flight.
func (h *handler) request(c *reactor.Conn, s *session, m *protocol.Message) {
	g := h.g
	r := h.asked(c, s, m)
	switch m.Op {
	case protocol.OpHeld:
		g.replies.add(s.point, func() {
			if asks, err := m.HeldRequest(); err != nil {
				r.Refuse(err)
			} else {
				r.Answer(s.modern.Held(asks))
			}
		})
		return
	case protocol.OpPing:
		m.Payload = nil
		g.replies.add(s.point, func() { r.Answer(g.handler.Notice()) })
		return
	case protocol.OpSubscribe:
		g.replies.add(s.point, func() { g.news.subscribe(r, s) })
		return
	case protocol.OpUpload, protocol.OpDownload, protocol.OpRules, protocol.OpCompare, protocol.OpResync,
		protocol.OpReport:
		if s.goAwaySent.Load() {
			m.Forget()
			g.replies.add(s.point, func() { r.Refuse(business.ErrGoingAway) })
			return
		}
	default:
		m.Payload = nil
		g.replies.add(s.point, func() { r.Refuse(business.ErrUnsupported) })
		return
	}
	if m.Op == protocol.OpDownload {
		r.Context = s.downloads()
		g.news.downloading(s, m.Table())
	}
	if s.modern != nil {
		r.MaxPayload = s.modern.MaxPayload()
	}
	if g.pool.Submit(r) {
		return
	}
	refusal := business.ErrBusy
	switch {
	case g.draining.Load():
		refusal = business.ErrGoingAway
	case g.trouble.away.Load():
		refusal = store.ErrUnavailable
	default:
		g.noteShare(s.point, "a request was refused")
	}
	m.Forget()
	g.replies.add(s.point, func() { r.Refuse(refusal) })
}

// noteShare logs, once a minute for each point, that a point has as much as it may have, and what it holds.
func (g *Gateway) noteShare(point, what string) {
	ok, heldBack := g.shares.Allow(point)
	if !ok {
		return
	}
	g.o.Logger.Warn().Str("point", point).Int64("bytes", g.ledger.Held(point)).Int("held_back", heldBack).
		Msg("the point uses its share of the server: " + what)
}

// downloads is the context of the connection's downloads. The first download makes it, because most connections have
// none.
func (s *session) downloads() context.Context {
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
	return s.ctx
}

// Timer implements reactor.Handler. A connection waits for one event at a time: its refusal, then the end of its
// session, then the departure of its client.
func (h *handler) Timer(c *reactor.Conn) {
	s := c.Data.(*session)
	switch {
	case s.reject != nil:
		c.Write(s.reject)
		c.CloseAfterFlush(errRejected)
	case s.goAwaySent.Load():
		c.CloseAfterFlush(errAged)
	default:
		c.SetTimer(grace)
		h.g.replies.add(s.point, func() { s.sendGoAway("the session is at its end", grace) })
	}
}

// Close implements reactor.Handler.
func (h *handler) Close(c *reactor.Conn, err error) {
	s := c.Data.(*session)
	if s.cancel != nil {
		s.cancel()
	}
	if s.point != "" {
		h.g.activity.disconnected(s.point)
		s.seen()
		h.g.news.leave(s)
	}
	log := h.g.o.Logger.Debug()
	reason := reactor.Reason(err)
	if s.point != "" {
		if ok, heldBack := h.g.visits.Allow(reason + " " + s.point); ok {
			log = leftOut(h.g.o.Logger.Info(), heldBack)
		}
	}
	var fault interface{ Status() protocol.Status }
	switch {
	case errors.As(err, &fault): // the peer broke the protocol
		log = h.g.sampledLog.Warn().Stringer("status", fault.Status())
	case errors.Is(err, errRevoked):
		log = h.g.o.Logger.Warn()
	case s.point == "" && !errors.Is(err, errRejected):
		log = h.g.sampledLog.Info()
	}
	log.Str("point", s.point).Str("wire", h.name).Stringer("remote", c.Remote()).Err(err).
		Str("reason", reason).Msg("disconnected")
}

// leftOut says in a line how many like it were left out before it.
func leftOut(e *zerolog.Event, n int) *zerolog.Event {
	if n > 0 {
		e = e.Int("left_out", n)
	}
	return e
}

// idle is called when a connection has been silent for half of its time.
func (h *handler) idle(c *reactor.Conn) {
	if s := c.Data.(*session); s.modern != nil && s.point != "" {
		h.g.replies.add(s.point, s.ping)
	}
}

// drain is called for every connection when the server stops. The GOAWAY counts as in flight, so that the
// connection stays until it has left.
func (h *handler) drain(c *reactor.Conn) {
	s := c.Data.(*session)
	if s.modern == nil || s.point == "" {
		return
	}
	c.Begin()
	h.g.replies.add(s.point, func() {
		s.sendGoAway("the server is stopping", h.g.o.Pool.Drain)
		_ = h.g.reactor.Send(s.id, nil, true) // gone: it has left first
	})
}

// closeRevoked ends the sessions whose points or keys are no longer good.
func (g *Gateway) closeRevoked() {
	g.reactor.Each(func(c *reactor.Conn) {
		s := c.Data.(*session)
		switch {
		case s.modern != nil:
			// The session has these from its WELCOME on, before its first record establishes it.
			point, id := s.modern.Point(), s.modern.KeyID()
			if _, ok := g.points.key(point, id); !ok && point != "" {
				c.Close(fmt.Errorf("%w: key %d of %s", errRevoked, id, point))
			}
		case s.point == "":
		case !g.points.legacyAllowed(s.point):
			c.Close(fmt.Errorf("%w: %s on the v1 wire", errRevoked, s.point))
		}
	})
}
