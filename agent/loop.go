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

// loop repeats one job: read a rule's rows, send them, download a table, or read the rules. Each turn says how long the
// loop rests. While turns fail, the rests grow. The loop logs a failure once and logs its end.
type loop struct {
	*Agent
	name       ruleName
	log        zerolog.Logger
	work       signal // raised when there is something to do; nil when only time decides
	edited     signal // raised when other rules are in force, so that a failed turn is tried again
	now        signal // raised when a turn was asked for
	wait       backoff
	lastLogged string        // text of the last failure in the log
	held       protocol.Held // what came of a reply before its connection was lost
}

func (a *Agent) loop(name ruleName, work signal) *loop {
	return &loop{Agent: a, name: name, work: work, edited: newSignal(), now: newSignal(),
		wait: backoff{first: a.opts.RetryMin, limit: a.opts.RetryMax},
		log:  a.opts.Log.With().Str("table", name.table).Str("type", name.direction).Logger()}
}

// turn does a loop's job once. rest is the pause until the next turn.
type turn func(context.Context) (rest time.Duration, err error)

// start runs the loop in a goroutine of wg. It ends with ctx.
func (l *loop) start(ctx context.Context, wg *sync.WaitGroup, do turn) *loop {
	wg.Go(func() { _ = l.run(ctx, do) })
	return l
}

// run takes turns until ctx ends. In a round of Once it ends with the first turn that succeeds or fails for good; it
// repeats a turn with a transient error a few times.
func (l *loop) run(ctx context.Context, do turn) error {
	l.active.add(l.name, 1)
	defer l.active.add(l.name, -1)
	for {
		l.runs.begin(l)
		rest, err := do(ctx)
		l.runs.end(l, err)
		l.say()
		work, edited := l.work, l.edited
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isTurn(err) && l.active.has(l.other()):
			rest, work = l.opts.RetryMin/5, nil // the other direction is at work
		case err == nil:
			l.recovered()
			if l.once {
				if l.name != fetched && l.name != jobs {
					l.progress.finish(l.name)
				}
				return nil
			}
		case l.once && (!transient(err) || l.wait.tries > onceTries):
			l.progress.fail(l.name, err)
			return err
		default:
			rest, work = l.failed(err), nil
			if transient(err) {
				edited = nil // other rules may cure a refusal, but not a busy server
			}
		}
		pause(ctx, rest, work, edited, l.now)
	}
}

// say logs what the rule has moved since the last such line, at most once a second.
func (l *loop) say() {
	if moved, ok := l.progress.unsaid(l.name); ok {
		l.log.Info().Int64("rows", moved.Rows).Int64("batches", moved.Batches).Int64("quarantined", moved.Quarantined).
			Msg("rows moved")
	}
}

// active counts the loops of each rule that run.
type active struct {
	mu sync.Mutex
	n  map[ruleName]int
}

func (a *active) add(name ruleName, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n == nil {
		a.n = map[ruleName]int{}
	}
	a.n[name] += n
}

func (a *active) has(name ruleName) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.n[name] > 0
}

// recovered records a success, and logs it after a failure.
func (l *loop) recovered() {
	l.wait.tries = 0
	if l.lastLogged != "" {
		l.lastLogged = ""
		l.progress.fail(l.name, nil)
		l.log.Info().Msg("rule recovered")
	}
}

// failed records err for the report, logs it when it is new, and returns the pause before the next turn. The pause is
// shorter for a transient error than for one that needs a person.
func (l *loop) failed(err error) (rest time.Duration) {
	if !errors.Is(err, ErrLost) && !isTurn(err) { // link logs the one, the other is no failure
		l.progress.fail(l.name, err)
		l.opts.count(ruleFailures, l.name.direction, 1)
		if text := err.Error(); text != l.lastLogged {
			l.lastLogged = text
			explain(l.log.Warn(), err).Msg("rule failing, will retry")
		}
	}
	rest = l.wait.next()
	if transient(err) {
		rest = max(rest/8, retryAfter(err))
	}
	if errors.Is(err, ErrLost) {
		rest = min(rest, lostPause) // the next request waits for a connection anyway
	}
	return rest
}

// transient reports whether err may soon disappear by itself.
func transient(err error) bool {
	var refused *Refusal
	return errors.Is(err, ErrLost) || isTurn(err) || errors.Is(err, store.ErrRetry) ||
		errors.Is(err, store.ErrUnavailable) || errors.As(err, &refused) && refused.Transient()
}

// backoff gives growing pauses with jitter: the n-th is between half and all of first·2ⁿ, at most limit. Jitter keeps a
// thousand points from reconnecting in the same instant after an outage.
type backoff struct {
	first, limit time.Duration
	tries        int // 0 starts from first
}

func (b *backoff) next() time.Duration {
	d := min(b.first<<min(b.tries, 30), b.limit)
	b.tries++
	return d/2 + rand.N(d/2+1)
}

// signal is an edge that stays raised until a receiver takes it.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// taken takes the edge and reports whether it was raised.
func (s signal) taken() bool {
	select {
	case <-s:
		return true
	default:
		return false
	}
}

// pause waits for d or one of up to three signals. It returns false when ctx ends first.
func pause(ctx context.Context, d time.Duration, wake ...signal) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	wake = append(wake, nil, nil, nil)
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-wake[0]:
	case <-wake[1]:
	case <-wake[2]:
	}
	return true
}

// Refusal is the server's answer to a request that it refused.
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

// Transient reports whether the same request may succeed later without any action. The catalogue also allows a retry
// for a broken or a disabled rule, but there a person has to act.
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

// maxRetryAfter bounds the pause that a server may ask for. Anybody on the path can forge a REJECT.
const maxRetryAfter = 5 * time.Minute

// retryAfter is the pause that a busy server asks for in err; 0 when err asks for none.
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

// explain adds err to a log line, with its number and remedy from the catalogue.
func explain(e *zerolog.Event, err error) *zerolog.Event {
	e = e.Err(err)
	if status := protocol.StatusOf(err); status != protocol.StatusInternal {
		e = e.Stringer("status", status).Str("remedy", status.Info().Remedy)
	}
	return e
}
