package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"syncgate/business"
	"syncgate/protocol"
	"syncgate/reactor"
)

// wire is a session of either wire.
type wire interface {
	Receive(frame []byte) (protocol.Event, error)
	Send(m *protocol.Message, write func(frame []byte) error) error
	Point() string
	MaxFrame() int
	Expired(now time.Time) bool
}

// session is what the gateway knows of one connection. Its fields belong to the connection's loop, but for id, wire,
// modern and left, which any goroutine may use.
type session struct {
	g      *Gateway
	id     reactor.ConnID
	wire   wire
	modern *protocol.ServerSession // nil on the seed-era wire

	point string // once established
	keyID uint32

	reject       []byte // to be sent when the timer runs out
	subscribed   bool
	subscription protocol.RequestID
	gone         context.Context // of downloads; nil before the first
	cancel       context.CancelFunc

	left atomic.Bool // GOAWAY was sent, or is about to be
}

// send seals m and hands it to the reactor, which never blocks. done ends the request's Begin, whatever becomes of m. It
// is not called on a loop: sealing a megabyte takes a millisecond, and another goroutine's may be waited for.
func (s *session) send(m *protocol.Message, done bool) error {
	wrote := false
	err := s.wire.Send(m, func(frame []byte) error {
		if s.modern != nil {
			frame = bytes.Clone(frame) // the reactor keeps what it is given, and this buffer is used again
		}
		last := done && !wrote
		wrote = true
		return s.g.reactor.Send(s.id, frame, last)
	})
	if done && !wrote {
		_ = s.g.reactor.Send(s.id, nil, true) // gone: nothing to end
	}
	switch {
	case err == nil:
		if s.modern != nil && done && s.wire.Expired(s.g.o.Clock()) {
			s.leave("the session is at its end")
		}
	case errors.Is(err, reactor.ErrConnGone), errors.Is(err, reactor.ErrOverflow):
		return fmt.Errorf("%w: %w", context.Canceled, err) // nobody is left to be told
	case errors.Is(err, protocol.ErrExpired):
		s.g.reactor.Close(s.id, err)
	}
	return err
}

// leave tells the client to come again on another connection. Replies to what it has asked still come.
func (s *session) leave(reason string) {
	if s.modern == nil || !s.left.CompareAndSwap(false, true) {
		return
	}
	_ = s.send(&protocol.Message{Op: protocol.OpGoAway, Body: &protocol.GoAway{
		Reason: reason, GraceMs: uint32(grace / time.Millisecond),
	}}, false) // gone: it has left by itself
}

// ping asks whether the client is there.
func (s *session) ping() { _ = s.send(s.modern.Ping(), false) } // gone: no

// replier is the way back for one request.
type replier struct {
	s    *session
	op   protocol.Op
	from time.Time
	gone context.Context // of a download: ends with the connection
}

// Reply implements business.Replier. A part of a download waits until the client has read what was sent before; that
// is done before the session's lock is taken, so that others may send meanwhile.
func (r *replier) Reply(m *protocol.Message) error {
	if m.More() {
		if err := r.s.g.reactor.SendWait(r.gone, r.s.id, nil, false); err != nil {
			return fmt.Errorf("%w: %w", context.Canceled, err)
		}
		return r.s.send(m, false)
	}
	status := m.Status
	err := r.s.send(m, true)
	if unsendable(err) && status == protocol.StatusOK {
		// The work is done and its reply does not fit a frame. The client must hear something.
		refusal := business.Refusal(&protocol.Message{Op: r.op, RequestID: m.RequestID}, err)
		status = refusal.Status
		err = errors.Join(err, r.s.send(refusal, false))
	}
	r.s.g.metrics.answered(r.op, status, r.s.g.o.Clock().Sub(r.from))
	return err
}

func unsendable(err error) bool {
	return errors.Is(err, protocol.ErrTooLarge) || errors.Is(err, protocol.ErrLimit) || errors.Is(err, protocol.ErrValue)
}
