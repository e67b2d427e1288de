package protocol

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// LegacySession is the server's side of one connection of the seed-era wire. It has the methods of ServerSession that a
// connection needs, and they mean the same:
//
//	new ── a request whose token fits ──> established ── another ──> established
//	 └───────────────── one that is refused ──┴──> the one answer, RejectAfter, close
//
// Requests have no ids on the wire, so one is answered before the next is received: the listener has one in flight.
//
// Receive is called by one goroutine; the other methods by any.
type LegacySession struct {
	legacy *Legacy

	mu      sync.Mutex // guards what follows
	point   string
	cause   error
	pending *legacyReply // to the request that is being answered
}

// Point is the point that all requests of the connection are of; empty before the first.
func (s *LegacySession) Point() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.point
}

// MaxFrame is the most hex digits a payload may have, for SplitLegacy.
func (s *LegacySession) MaxFrame() int { return legacyFrame }

// Expired is false: a seed-era connection has no end of its own.
func (s *LegacySession) Expired(time.Time) bool { return false }

// Cause is why the connection was rejected, nil when it was not: for log and metric, never for the wire.
func (s *LegacySession) Cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// Receive takes one packet, when the one before it was answered. packet is not kept.
//
// A request of an agent gives Event.Message; its Body is an *UploadRequest, whose columns have empty names, or a
// *DownloadRequest. One of an agent that does not fit, or can't be taken now, gives the answer in Event.Reply instead.
// Everything else gives the same Event.Reject, the same time after Receive was called, whatever was wrong and however
// long it took to find out. An error means: close the connection, say nothing.
func (s *LegacySession) Receive(packet []byte) (Event, error) {
	l := s.legacy
	begun := l.opts.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil || s.pending != nil {
		return Event{}, errUnexpected
	}
	r, err := s.authenticate(packet, begun)
	if r == nil {
		s.cause = err
		reply := l.refusal(err)
		return Event{Reject: reply, RejectAfter: max(0, legacyRejectDelay-l.opts.Clock().Sub(begun))}, nil
	}
	e := Event{Established: s.point == ""}
	s.point = r.point
	if err == nil {
		e.Message, err = r.message(l.names)
	}
	if err != nil {
		e.Reply = l.failed(r, err)
		return e, nil
	}
	s.pending = &legacyReply{legacyRequest: r, id: e.Message.RequestID, op: e.Message.Op, statement: -1}
	return e, nil
}

// authenticate reads a packet and admits its request. No request is a stranger's; one with an error is an agent's all
// the same, and can't be taken now.
func (s *LegacySession) authenticate(packet []byte, now time.Time) (*legacyRequest, error) {
	l := s.legacy
	text, err := openLegacy(packet, l.cbc)
	if err != nil {
		return nil, err
	}
	r, err := l.request(text)
	if err != nil {
		return nil, err
	}
	if d := now.Sub(r.time); d > l.opts.Window || d < -l.opts.Window {
		return nil, fmt.Errorf("%w: it is %v from ours", errLegacyTime, d)
	}
	if !validPoint(r.point) || s.point != "" && s.point != r.point || !l.opts.Allow(r.point) {
		return nil, fmt.Errorf("%w: %.64q", errLegacyPoint, r.point)
	}
	// A byte-identical upload may come again: it has the same id, and the ledger has its reply.
	err = l.memory.admit(r.token, r.digest, r.time, now, r.typ == l.names["UPLOAD_DB"])
	if err != nil && !errors.Is(err, errLegacyFull) {
		return nil, err
	}
	if r.shown {
		l.memory.shown(r.point, r.dialect)
	}
	return r, err
}

// refusal is the one answer to a request that is not known to be an agent's, which says nothing of what came. A packet
// that is damaged is told so: that much everybody can see.
func (l *Legacy) refusal(cause error) []byte {
	stranger := &legacyRequest{legacyPrinter: legacyPrinter{neutral: true}}
	if errors.Is(cause, errLegacyMD5) || errors.Is(cause, errLegacyPacket) {
		return l.packet(stranger, []byte(legacyNone), l.names["Receive_Data_Error"], "the packet could not be read")
	}
	return l.packet(stranger, []byte(legacyNone), l.names["Info_Certification_Error"], "refused")
}

// Send takes the reply to the request, in parts or whole, and calls write with the packet once it is whole, under the
// session's lock. The packet is not used again afterwards. When rows are too many for a reply the agent is told so and
// Send returns an error with StatusTooLarge; further parts find no request. GOAWAY and PING have no form here and are
// nothing.
func (s *LegacySession) Send(m *Message, write func(packet []byte) error) error {
	if m.Op == OpGoAway || m.Op == OpPing {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.pending
	if e == nil || e.id != m.RequestID {
		return errState
	}
	packet, err := s.legacy.reply(e, m)
	if err != nil {
		packet = s.legacy.failed(e.legacyRequest, err)
	}
	if packet == nil {
		return nil
	}
	s.pending = nil
	return errors.Join(err, write(packet))
}
