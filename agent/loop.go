package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"syncgate/protocol"
	"syncgate/store"
)

// loop does one thing again and again: read a rule's rows, send them, download a table,
// look after the rules. It rests as long as its turn says, longer and longer while the
// turn fails, and tells an operator of a failure once and when it is over.
type loop struct {
	*Agent
	name       ruleName
	log        zerolog.Logger
	work       signal // there is something to do; nil where only time brings it
	rules      signal // other rules are in force: what failed may go now
	wait       backoff
	lastLogged string // the failure the operator knows of
}

func (a *Agent) loop(name ruleName, work signal) *loop {
	return &loop{Agent: a, name: name, work: work, rules: newSignal(), wait: backoff{first: a.opts.RetryMin, limit: a.opts.RetryMax},
		log: a.opts.Log.With().Str("table", name.table).Str("type", name.direction).Logger()}
}

// turn is a loop's work, once; rest is how long it may rest after that.
type turn func(context.Context) (rest time.Duration, err error)

// start runs the loop in a goroutine of wg. It ends with ctx.
func (l *loop) start(ctx context.Context, wg *sync.WaitGroup, do turn) *loop {
	wg.Go(func() { _ = l.run(ctx, do) })
	return l
}

// run takes turns until ctx ends. In a round of Once it ends with the first turn that
// succeeds or fails for good; what passes by itself is tried a few times.
func (l *loop) run(ctx context.Context, do turn) error {
	for {
		rest, err := do(ctx)
		work, rules := l.work, l.rules
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			l.recovered()
			if l.once {
				return nil
			}
		case l.once && (!transient(err) || l.wait.tries > onceTries):
			l.progress.fail(l.name, err)
			return err
		default:
			rest, work = l.failed(err), nil
			if transient(err) {
				rules = nil // other rules may cure a refusal, but a busy server means what it says
			}
		}
		pause(ctx, rest, work, rules)
	}
}

// recovered says that the loop gets on.
func (l *loop) recovered() {
	l.wait.tries = 0
	if l.lastLogged != "" {
		l.lastLogged = ""
		l.progress.fail(l.name, nil)
		l.log.Info().Msg("rule recovered")
	}
}

// failed says that it does not, and how long it rests: what passes by itself is tried
// sooner than what needs a person. The report of what moved shows err as long as it lasts.
func (l *loop) failed(err error) (rest time.Duration) {
	if !errors.Is(err, errLost) { // that is the link's to tell
		l.progress.fail(l.name, err)
		if text := err.Error(); text != l.lastLogged {
			l.lastLogged = text
			explain(l.log.Warn(), err).Msg("rule failing, will retry")
		}
	}
	rest = l.wait.next()
	if transient(err) {
		rest = max(rest/8, retryAfter(err))
	}
	return rest
}

// transient says that err may go away by itself soon.
func transient(err error) bool {
	var refused *Refusal
	return errors.Is(err, errLost) || errors.Is(err, store.ErrRetry) || errors.Is(err, store.ErrUnavailable) ||
		errors.As(err, &refused) && refused.Transient()
}

// backoff gives growing pauses with jitter: the n-th is between half and all of
// first·2ⁿ, at most limit. Jitter keeps a thousand points, all cut off by the same
// outage, from coming back in the same instant.
type backoff struct {
	first, limit time.Duration
	tries        int // 0 begins anew
}

func (b *backoff) next() time.Duration {
	d := min(b.first<<min(b.tries, 30), b.limit)
	b.tries++
	return d/2 + rand.N(d/2+1)
}

// signal is an edge that is remembered until somebody takes it.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// pause waits for d or a signal; false when ctx ended first.
func pause(ctx context.Context, d time.Duration, one, other signal) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-one:
	case <-other:
	}
	return true
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

// Transient says that the same request may succeed later without anybody's doing. A broken or
// disabled rule the catalogue calls worth a retry, but here a person has to act.
func (r *Refusal) Transient() bool {
	return r.Code.Info().Retry && r.Code != protocol.StatusRuleBroken && r.Code != protocol.StatusRuleDisabled
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
	case errors.As(err, &refused) && refused.Transient():
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
