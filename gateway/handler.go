package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"syncgate/business"
	"syncgate/protocol"
	"syncgate/reactor"
	"syncgate/store"
)

// Reasons for which the gateway ends connections.
var (
	errRejected = errors.New("gateway: rejected")
	errRevoked  = errors.New("gateway: the point's key was revoked")
	errAged     = errors.New("gateway: the session is over and its client did not leave")
)

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
	e, err := s.wire.Receive(frame)
	if err != nil {
		return err
	}
	if e.Reply != nil {
		c.Write(e.Reply)
	}
	if e.Reject != nil {
		h.reject(c, s, e)
		return nil
	}
	if e.Established {
		h.establish(c, s)
	}
	if e.Message != nil {
		h.request(c, s, e.Message)
	}
	return nil
}

// reject sends a refusal at once, or after the delay, which is the same for every reason.
func (h *handler) reject(c *reactor.Conn, s *session, e protocol.Event) {
	h.g.metrics.rejected.WithLabelValues(h.name).Inc()
	log := h.g.sampledLog.Warn().Str("wire", h.name).Stringer("remote", c.Remote())
	if w, ok := s.wire.(interface{ Cause() error }); ok {
		log = log.AnErr("cause", w.Cause())
	}
	log.Msg("rejected")
	s.reject = e.Reject
	if e.RejectAfter > 0 {
		c.SetTimer(e.RejectAfter)
		return
	}
	h.Timer(c)
}

func (h *handler) establish(c *reactor.Conn, s *session) {
	s.point = s.wire.Point()
	wire := store.Legacy
	log := h.g.o.Logger.Debug().Str("point", s.point).Str("wire", h.name).Stringer("remote", c.Remote())
	if s.modern != nil {
		wire, s.keyID = store.Modern, s.modern.KeyID()
		log = log.Uint32("key_id", s.keyID).Str("software", s.modern.Software())
		c.SetTimer(protocol.SessionLifetime)
	}
	c.Establish()
	c.SetMaxFrame(s.wire.MaxFrame())
	h.g.points.noteSession(s.point, s.keyID, wire, h.g.o.Clock())
	h.g.activity.connected(s.point, c.Remote().String())
	h.g.metrics.established.WithLabelValues(h.name).Inc()
	log.Msg("connected")
}

// request hands m to the pool, to the reply queue, or refuses it.
func (h *handler) request(c *reactor.Conn, s *session, m *protocol.Message) {
	c.Begin()
	g := h.g
	r := &business.Request{Point: s.point, Message: m, Client: s, Context: context.Background(), Arrived: g.o.Clock()}
	switch m.Op {
	case protocol.OpPing:
		g.replies.add(func() { r.Answer(g.handler.Notice()) })
		return
	case protocol.OpSubscribe:
		s.subscribed, s.subscription = true, m.RequestID
		g.replies.add(func() { s.notifyRules(m.RequestID, true) })
		return
	case protocol.OpUpload, protocol.OpDownload, protocol.OpRules:
	default:
		g.replies.add(func() { r.Refuse(business.ErrUnsupported) })
		return
	}
	if m.Op == protocol.OpDownload {
		r.Context = s.downloads()
	}
	if s.modern != nil {
		r.MaxFrame = s.wire.MaxFrame()
	}
	if g.pool.Submit(r) {
		return
	}
	refusal := business.ErrBusy
	if g.draining.Load() {
		refusal = business.ErrGoingAway
	}
	g.replies.add(func() { r.Refuse(refusal) })
}

// downloads is the context of the connection's downloads. The first download makes it, because most connections have
// none.
func (s *session) downloads() context.Context {
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(context.Background())
	}
	return s.ctx
}

// notifyRules tells a subscriber which rules are in force.
func (s *session) notifyRules(id protocol.RequestID, first bool) {
	m := &protocol.Message{
		Op: protocol.OpSubscribe, Flags: protocol.FlagMore, RequestID: id, Body: s.g.handler.Notice(),
	}
	_ = s.send(m, first) // gone: no subscriber any more
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
		h.g.replies.add(func() { s.sendGoAway("the session is at its end") })
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
	}
	log := h.g.o.Logger.Debug()
	var fault interface{ Status() protocol.Status }
	switch {
	case errors.As(err, &fault): // the peer broke the protocol
		log = h.g.sampledLog.Warn().Stringer("status", fault.Status())
	case errors.Is(err, errRevoked):
		log = h.g.o.Logger.Info()
	case s.point == "" && !errors.Is(err, errRejected):
		log = h.g.sampledLog.Info()
	}
	log.Str("point", s.point).Str("wire", h.name).Stringer("remote", c.Remote()).Err(err).
		Str("reason", reactor.Reason(err)).Msg("disconnected")
}

// idle is called when a connection has been silent for half of its time.
func (h *handler) idle(c *reactor.Conn) {
	if s := c.Data.(*session); s.modern != nil && s.point != "" {
		h.g.replies.add(s.ping)
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
	h.g.replies.add(func() {
		s.sendGoAway("the server is stopping")
		_ = h.g.reactor.Send(s.id, nil, true) // gone: it has left first
	})
}

// broadcast notifies every subscriber of the rules now in force.
func (g *Gateway) broadcast() {
	g.reactor.Each(func(c *reactor.Conn) {
		if s := c.Data.(*session); s.subscribed {
			id := s.subscription
			g.replies.add(func() { s.notifyRules(id, false) })
		}
	})
}

// closeRevoked ends the sessions whose points or keys are no longer good.
func (g *Gateway) closeRevoked() {
	g.reactor.Each(func(c *reactor.Conn) {
		s := c.Data.(*session)
		switch {
		case s.point == "":
		case s.modern != nil:
			if _, ok := g.points.keyring.Lookup(s.point, s.keyID); !ok {
				c.Close(fmt.Errorf("%w: key %d of %s", errRevoked, s.keyID, s.point))
			}
		case !g.points.legacyAllowed(s.point):
			c.Close(fmt.Errorf("%w: %s on the v1 wire", errRevoked, s.point))
		}
	})
}
