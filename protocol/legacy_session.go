package protocol

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// LegacySession is the server's side of one connection of the seed-era wire. It has the methods of ServerSession that a
// connection needs, and they mean the same:
//
//	new ── a request whose token fits ──> established ── another ──> established
//	 └───────────────── one that is refused ──┴──> the one answer, RejectAfter, close
//
// Requests have no ids on the wire, so replies leave in the order of their requests: one that is ready early waits for
// those before it.
//
// Receive is called by one goroutine; the other methods by any.
type LegacySession struct {
	legacy *Legacy

	mu      sync.Mutex // guards what follows
	point   string
	cause   error
	waiting []*legacyReply // to be answered, in the order of the requests
}

// Point is the point that all requests of the connection are of; empty before the first.
func (s *LegacySession) Point() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.point
}

// MaxFrame is the most hex digits a payload may have, for SplitLegacy.
func (s *LegacySession) MaxFrame() int { return s.legacy.opts.MaxFrame }

// Expired is false: a seed-era connection has no end of its own.
func (s *LegacySession) Expired(time.Time) bool { return false }

// Cause is why the connection was rejected, nil when it was not: for log and metric, never for the wire.
func (s *LegacySession) Cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// Receive takes one packet, in the order of arrival. packet is not kept.
//
// A request of an agent gives Event.Message; its Body is an *UploadRequest, whose columns have empty names, or a
// *DownloadRequest. One of an agent that does not fit, or can't be taken now, gives the answer in Event.Reply instead,
// or nothing when replies before it are still to be sent. Everything else gives the same Event.Reject, the same time
// after Receive was called, whatever was wrong and however long it took to find out. An error means: close the
// connection, say nothing.
func (s *LegacySession) Receive(packet []byte) (Event, error) {
	l := s.legacy
	begun := l.opts.Clock()
	if s.Cause() != nil {
		return Event{}, ErrUnexpected
	}
	r, first, err := s.authenticate(packet, begun)
	if err != nil && !errors.Is(err, ErrLegacyFull) {
		return s.reject(err, begun), nil
	}
	m, unfit := r.message(&l.names, l.opts.MaxRows)
	if err == nil {
		err = unfit
	}
	e := l.newReply(r, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, e)
	if err == nil {
		return Event{Established: first, Message: m}, nil
	}
	status := StatusOf(err)
	e.fail(l, l.names.word(status), fmt.Sprintf("%v: %s", status, errText(err)))
	var reply []byte
	_ = s.flush(func(packet []byte) error { // can't fail
		reply = append(reply, packet...)
		return nil
	})
	return Event{Established: first, Reply: reply}, nil
}

// authenticate reads a packet and admits its request. With ErrLegacyFull the request is an agent's all the same.
func (s *LegacySession) authenticate(packet []byte, now time.Time) (r *legacyRequest, first bool, err error) {
	l := s.legacy
	text, err := openLegacy(packet, l.cbc)
	if err != nil {
		return nil, false, err
	}
	if r, err = l.request(text); err != nil {
		return nil, false, err
	}
	if d := now.Sub(r.time); d > l.opts.Window || d < -l.opts.Window {
		return nil, false, fmt.Errorf("%w: it is %v from ours", ErrLegacyTime, d)
	}
	s.mu.Lock()
	first = s.point == ""
	same := first || s.point == r.point
	s.mu.Unlock()
	if r.point == "" || len(r.point) > 64 || !same || !l.opts.Allow(r.point) {
		return nil, false, fmt.Errorf("%w: %.64q", ErrLegacyPoint, r.point)
	}
	// A byte-identical upload may come again: it has the same id, and the ledger has its reply.
	err = l.memory.admit(r.token, r.text, r.time, now, r.typ == l.names.upload)
	if err != nil && !errors.Is(err, ErrLegacyFull) {
		return nil, false, err
	}
	if r.shown {
		l.memory.shown(r.point, r.dialect)
	}
	s.mu.Lock()
	s.point = r.point
	s.mu.Unlock()
	return r, first, err
}

// reject is the one answer to a request that is not known to be an agent's. A packet that is damaged is told so: that
// much everybody can see.
func (s *LegacySession) reject(cause error, begun time.Time) Event {
	l := s.legacy
	s.mu.Lock()
	s.cause = cause
	s.mu.Unlock()
	e := l.newRefusal()
	if errors.Is(cause, ErrLegacyMD5) || errors.Is(cause, ErrLegacyPacket) {
		e.fail(l, l.names.unreadable, "the packet could not be read")
	} else {
		e.fail(l, l.names.refused, "refused")
	}
	return Event{Reject: e.packet, RejectAfter: max(0, l.opts.RejectDelay-l.opts.Clock().Sub(begun))}
}

// Send takes the reply to a request, in parts or whole, and calls write with the packets that can leave now, in the
// order of their requests, under the session's lock. A packet is not used again afterwards. When rows are too many for
// a reply the agent is told so and Send returns ErrLegacyReply; further parts find no request (ErrState). GOAWAY and
// PING have no form here and are nothing.
func (s *LegacySession) Send(m *Message, write func(packet []byte) error) error {
	if m.Op == OpGoAway || m.Op == OpPing {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.waiting {
		if e.id != m.RequestID || e.packet != nil {
			continue
		}
		err := s.take(e, m)
		if err != nil {
			status := StatusOf(err)
			e.fail(s.legacy, s.legacy.names.word(status), fmt.Sprintf("%v: %s", status, errText(err)))
		}
		return errors.Join(err, s.flush(write))
	}
	return ErrState
}

// take adds a message to the reply it is of.
func (s *LegacySession) take(e *legacyReply, m *Message) error {
	l := s.legacy
	if m.Status != StatusOK {
		r, err := m.ErrorReply()
		if err != nil {
			return err
		}
		e.fail(l, l.names.word(m.Status), fmt.Sprintf("%v: %s", m.Status, r.Message))
		return nil
	}
	if e.op == OpUpload {
		r, err := m.UploadReply()
		if err != nil {
			return err
		}
		note := ""
		if n := len(r.Quarantined); n > 0 {
			note = fmt.Sprintf("%v: %d rows were put aside", StatusRowRefused, n)
		}
		e.finish(l, note)
		return nil
	}
	r, err := m.DownloadReply()
	if err != nil {
		return err
	}
	if err := e.add(r, l.opts.MaxReply); err != nil {
		return err
	}
	if !m.More() {
		e.finish(l, "")
	}
	return nil
}

// flush writes the replies that are whole, up to the first that is not.
func (s *LegacySession) flush(write func([]byte) error) error {
	for len(s.waiting) > 0 && s.waiting[0].packet != nil {
		packet := s.waiting[0].packet
		s.waiting = s.waiting[1:]
		if err := write(packet); err != nil {
			return err
		}
	}
	return nil
}

// errText is err for the agent, when it is one of this package, whose texts hold no values.
func errText(err error) string {
	var w *wireError
	if errors.As(err, &w) {
		return strings.TrimPrefix(err.Error(), "protocol: ")
	}
	return "the server failed"
}
