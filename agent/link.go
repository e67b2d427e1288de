package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"syncgate/protocol"
)

// link keeps a connection to the server and lends it to whoever has a request. Requests
// wait while there is none.
type link struct {
	opts     *Options
	sessions chan *session // given away by the session there is, as long as it takes requests
	news     signal        // the server has said which version its rules have
}

func newLink(o *Options) *link {
	return &link{opts: o, sessions: make(chan *session), news: newSignal()}
}

// onceTries bounds how often what passes by itself is tried again when not patient.
const onceTries = 5

// run connects, serves the session to its end, and connects again, until ctx ends. With
// patient false the first connection that cannot be made, and is not merely put off by a
// busy server, is returned as the error.
func (l *link) run(ctx context.Context, patient bool) error {
	wait := backoff{first: l.opts.ReconnectMin, limit: l.opts.ReconnectMax}
	for {
		s, err := l.connect(ctx)
		if s != nil {
			// A session that got as far as an answer makes the next connection prompt again; one that is
			// cut at once does not, or two ends that disagree would reconnect as fast as they can.
			if err = s.run(ctx); s.answered.Load() {
				wait.tries = 0
			}
		}
		busy := retryAfter(err)
		rest := max(wait.next(), busy)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			l.opts.Log.Info().Dur("retry_in_ms", rest).Msg("session at its end, connecting anew")
		case !patient && (s == nil && busy == 0 || wait.tries > onceTries):
			return err
		default:
			explain(l.opts.Log.Warn(), err).Dur("retry_in_ms", rest).Msg("offline; what is collected waits in the outbox")
		}
		pause(ctx, rest, nil, nil)
	}
}

// do makes a request on the connection there is, waiting for one if need be, and hands
// every reply to each, in order, until the last one. An error of each gives the request
// up. A *Refusal is the server's no. errLost: the connection ended in between and the
// caller asks again.
func (l *link) do(ctx context.Context, m *protocol.Message, each func(*protocol.Message) error) error {
	select {
	case s := <-l.sessions:
		return s.do(ctx, m, each)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Refusal is the server's answer to a request that it did not carry out.
type Refusal struct {
	Code protocol.Status
	protocol.ErrorReply
}

// Status is the refusal's number, for protocol.StatusOf.
func (r *Refusal) Status() protocol.Status { return r.Code }

func (r *Refusal) Error() string {
	text := fmt.Sprintf("%s %s", r.Code, r.Code.Info().Name)
	if r.Message != "" {
		text += ": " + r.Message
	}
	return text
}

// Passing says that the same request may succeed later without anybody's doing.
func (r *Refusal) Passing() bool {
	switch r.Code {
	case protocol.StatusRuleBroken, protocol.StatusRuleDisabled:
		return false // a person has to act
	}
	return r.Code.Info().Retry
}

// refusal is nil for a reply with status OK.
func refusal(m *protocol.Message) error {
	if m.Status == protocol.StatusOK {
		return nil
	}
	r := &Refusal{Code: m.Status}
	if e, err := m.ErrorReply(); err == nil {
		r.ErrorReply = *e
	}
	return r
}

// maxRetryAfter bounds what a server may ask for, and anybody on the path, who can make a
// REJECT.
const maxRetryAfter = 5 * time.Minute

// retryAfter is how long a busy server wants to be left alone, 0 when that is not what err
// says.
func retryAfter(err error) (d time.Duration) {
	var reject *protocol.RejectError
	var refused *Refusal
	switch {
	case errors.As(err, &reject) && reject.Status == protocol.StatusBusy:
		d = max(reject.RetryAfter, time.Millisecond)
	case errors.As(err, &refused) && refused.Passing():
		d = time.Duration(refused.RetryAfterMs) * time.Millisecond
	}
	return min(d, maxRetryAfter)
}

// explain adds err to a line of the log, with its number and what to do about it where
// the catalogue knows it.
func explain(e *zerolog.Event, err error) *zerolog.Event {
	e = e.Err(err)
	if status := protocol.StatusOf(err); status != protocol.StatusInternal {
		e = e.Stringer("status", status).Str("remedy", status.Info().Remedy)
	}
	return e
}
