package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"syncgate/protocol"
)

// call is one request waiting for its replies.
type call struct {
	replies chan *protocol.Message
	gone    <-chan struct{} // closed when the request has ended
	size    int             // bytes of its payload
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
