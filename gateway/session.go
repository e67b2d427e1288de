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
	"syncgate/store"
)

// wire is a session of either wire.
type wire interface {
	Receive(frame []byte) (protocol.Event, error)
	Send(m *protocol.Message, write func(frame []byte) error) error
	Point() string
	Cause() error
	MaxFrame() int
	Expired(now time.Time) bool
}

// session is the gateway's state of one connection. Its fields belong to the connection's loop, except id, wire,
// modern and goAwaySent, which any goroutine may use. It is the business.Client of the connection's requests.
type session struct {
	g      *Gateway
	id     reactor.ConnID
	wire   wire
	modern *protocol.ServerSession // nil on the v1 wire

	point string // once established
	keyID uint32

	reject []byte          // to be sent when the timer runs out
	ctx    context.Context // of downloads: ends with the connection; nil before the first
	cancel context.CancelFunc
	left   bool // the connection is closed; guarded by news.mu

	goAwaySent atomic.Bool   // or about to be sent
	large      protocol.Pace // of messages that leave piece by piece
	sent       atomic.Int64  // bytes since its last look
}

// seen records that the point is connected now, when it is known which.
func (s *session) seen() {
	wire := store.Legacy
	if s.modern != nil {
		wire = store.Modern
	}
	if s.point != "" {
		s.g.points.noteSession(s.point, s.keyID, wire, s.g.o.Clock())
	}
}

// send seals m and hands it to the reactor, which never blocks. done ends the request's Begin, also when sending fails.
// send is not called on a loop: to seal a megabyte takes a millisecond, and the lock may be held by another goroutine.
func (s *session) send(m *protocol.Message, done bool) error {
	ended := false
	write := func(frame []byte, last bool) error {
		ended = done && last
		s.sent.Add(int64(len(frame)))
		return s.g.reactor.Send(s.id, frame, ended)
	}
	var err error
	if s.modern == nil {
		err = s.wire.Send(m, func(packet []byte) error { return write(packet, true) })
	} else { // the reactor keeps what it is given, and this buffer is used again
		err = s.modern.SendPaced(m, s.pace, func(frame []byte, last bool) error {
			return write(bytes.Clone(frame), last)
		})
	}
	if done && !ended {
		_ = s.g.reactor.Send(s.id, nil, true) // gone: nothing to end
	}
	switch {
	case err == nil:
		if s.modern != nil && done && s.wire.Expired(s.g.o.Clock()) {
			s.sendGoAway("the session is at its end", grace)
		}
	case errors.Is(err, reactor.ErrConnGone), errors.Is(err, reactor.ErrOverflow):
		return fmt.Errorf("%w: %w", context.Canceled, err) // the client is gone
	case errors.Is(err, protocol.ErrExpired):
		s.g.reactor.Close(s.id, err)
	}
	return err
}

// pace waits until most of what was sent has left, so that other messages may go before the next piece of a large one.
// It returns how many bytes that may have. It ends with the connection.
func (s *session) pace() (int, error) { return s.drained(context.Background()) }

func (s *session) drained(ctx context.Context) (int, error) {
	began := time.Now()
	err := s.g.reactor.SendWait(ctx, s.id, nil, false, s.large.Piece()/2)
	s.large.Took(int(s.sent.Swap(0)), time.Since(began))
	return s.large.Piece(), err
}

// sendGoAway asks the client to open another connection. The replies to its requests still come on this one.
func (s *session) sendGoAway(reason string, grace time.Duration) {
	if s.modern == nil || !s.goAwaySent.CompareAndSwap(false, true) {
		return
	}
	_ = s.send(&protocol.Message{Op: protocol.OpGoAway, Body: &protocol.GoAway{
		Reason: reason, GraceMs: uint32(grace / time.Millisecond),
	}}, false) // gone: it has left by itself
}

// ping checks that the client still answers.
func (s *session) ping() { _ = s.send(s.modern.Ping(), false) } // gone: no

// readPatience is how long a part of a download waits for its client to read those before it. Then a page ends early,
// and what comes whole is given up: no reader holds a worker and a cursor of the database for as long as it likes.
const readPatience = 10 * time.Second

// Reply implements business.Client. A part of a download waits until the client has read what was sent before. It waits
// before it takes the session's lock, so that others may send meanwhile.
func (s *session) Reply(r *business.Request, m *protocol.Message) error {
	r.Sent += uint64(len(m.Payload))
	s.g.tap.sample(r, m)
	if m.More() {
		ctx, cancel := context.WithTimeout(r.Context, readPatience)
		defer cancel()
		_, err := s.drained(ctx)
		slow := errors.Is(err, context.DeadlineExceeded)
		if err != nil && !slow {
			return fmt.Errorf("%w: %w", context.Canceled, err)
		}
		if err = s.send(m, false); err == nil && slow {
			err = business.ErrSlow
		}
		return err
	}
	err := s.send(m, true)
	if unsendable(err) && m.Status == protocol.StatusOK {
		// The work is done, but its reply does not fit a frame. The client still needs an answer.
		m = business.Refusal(r.Message, err)
		err = errors.Join(err, s.send(m, false))
	}
	now := s.g.o.Clock()
	s.g.metrics.answered(r.Message.Op, m.Status, now.Sub(r.Arrived))
	s.g.activity.answered(r, m, now)
	s.g.log.answered(r, m, now)
	s.g.tap.answered(r, m, now)
	if r.Message.Op == protocol.OpUpload && r.Rows > 0 {
		s.g.news.uploaded(r.Message.Table(), r.Point)
	}
	return err
}

func unsendable(err error) bool {
	return errors.Is(err, protocol.ErrTooLarge) || errors.Is(err, protocol.ErrLimit) ||
		errors.Is(err, protocol.ErrValue)
}
