package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"syncgate/protocol"
)

// link keeps a connection to the server and lends it to whoever has a request. Requests
// wait while there is none.
type link struct {
	opts *Options
	log  zerolog.Logger
	// onNotice learns the server's rules version at every welcome and ping.
	onNotice func(version uint64)

	mu      sync.Mutex
	current *session
	changed chan struct{} // closed and replaced when current changes
}

func newLink(o *Options, onNotice func(uint64)) *link {
	return &link{opts: o, log: o.Log, onNotice: onNotice, changed: make(chan struct{})}
}

// run connects, serves the session to its end, and connects again, until ctx ends. With
// patient false the first connection that cannot be made, and is not merely put off by a
// busy server, is returned as the error.
func (l *link) run(ctx context.Context, patient bool) error {
	wait := backoff{first: l.opts.ReconnectMin, limit: l.opts.ReconnectMax}
	var since time.Time // offline since; zero while online
	for {
		s, err := connect(ctx, l.opts, l.onNotice)
		if err == nil {
			since = time.Time{}
			if err = l.serve(ctx, s, &wait); err != nil && !patient && wait.tries > onceTries {
				return err
			}
		} else if busy := retryAfter(err); !patient && (busy == 0 || wait.tries > onceTries) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if since.IsZero() {
			since = l.opts.Clock()
		}
		rest := max(wait.next(), retryAfter(err))
		l.offline(err, since, rest)
		if !pause(ctx, rest, nil) {
			return ctx.Err()
		}
	}
}

// offline tells an operator. A session that ended in order has no error.
func (l *link) offline(err error, since time.Time, rest time.Duration) {
	if err == nil {
		l.log.Info().Dur("retry_in_ms", rest).Msg("session at its end, connecting anew")
		return
	}
	e := l.log.Warn().Err(err).Time("offline_since", since).Dur("retry_in_ms", rest)
	status := protocol.StatusOf(err)
	var reject *protocol.RejectError
	if errors.As(err, &reject) {
		status = reject.Status
	}
	if status != protocol.StatusInternal {
		e = e.Stringer("status", status).Str("remedy", status.Info().Remedy)
	}
	e.Msg("offline; what is collected waits in the outbox")
}

// onceTries bounds how often a busy server is asked again when not patient.
const onceTries = 5

// serve lends s until it ends. A session that got as far as an answer makes the next
// connection prompt again; one that is cut at once does not, or two ends that disagree
// would reconnect as fast as they can.
func (l *link) serve(ctx context.Context, s *session, wait *backoff) error {
	l.log.Info().Str("server", l.opts.Server).Str("server_id", s.welcome.ServerID).
		Uint64("rules_version", s.welcome.RulesVersion).Dur("server_clock_ahead_ms", s.welcome.Clock.Sub(l.opts.Clock())).Msg("connected")
	l.onNotice(s.welcome.RulesVersion)
	l.lend(s)
	err := s.run(ctx)
	l.lend(nil)
	if s.answered.Load() {
		wait.reset()
	}
	return err
}

func (l *link) lend(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = s
	close(l.changed)
	l.changed = make(chan struct{})
}

// call makes a request on the connection there is, waiting for one if need be. It
// returns errLost when the connection ended in between; the caller asks again.
func (l *link) call(ctx context.Context, m *protocol.Message, each func(*protocol.Message) error) error {
	for {
		l.mu.Lock()
		s, changed := l.current, l.changed
		l.mu.Unlock()
		if s != nil {
			if err := s.do(ctx, m, each); !errors.Is(err, errRetired) {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask is call for requests that have one reply and no number of their own.
func (l *link) ask(ctx context.Context, op protocol.Op, body any) (*protocol.Message, error) {
	var reply *protocol.Message
	err := l.call(ctx, &protocol.Message{Op: op, Body: body}, func(m *protocol.Message) error {
		reply = m
		return refusal(m)
	})
	return reply, err
}

// Refusal is the server's answer to a request that it did not carry out.
type Refusal struct {
	Status     protocol.Status
	Message    string
	RetryAfter time.Duration
}

func (r *Refusal) Error() string {
	name := r.Status.Info().Name
	if r.Message == "" {
		return fmt.Sprintf("%s %s", r.Status, name)
	}
	return fmt.Sprintf("%s %s: %s", r.Status, name, r.Message)
}

// refusal is nil for a reply with status OK.
func refusal(m *protocol.Message) error {
	if m.Status == protocol.StatusOK {
		return nil
	}
	r := &Refusal{Status: m.Status}
	if e, err := m.ErrorReply(); err == nil {
		r.Message, r.RetryAfter = e.Message, time.Duration(e.RetryAfterMs)*time.Millisecond
	}
	return r
}

// retryAfter is how long a busy server wants to be left alone, 0 when that is not why the
// connection failed. Anybody on the path can make a REJECT, so it may not ask for ever.
func retryAfter(err error) time.Duration {
	var reject *protocol.RejectError
	if errors.As(err, &reject) && reject.Status == protocol.StatusBusy {
		return min(max(reject.RetryAfter, time.Millisecond), maxRetryAfter)
	}
	return 0
}
