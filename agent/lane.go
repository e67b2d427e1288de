package agent

import (
	"errors"
	"time"

	"github.com/rs/zerolog"

	"syncgate/protocol"
	"syncgate/store"
)

var (
	// errLocal says that the local database did not do its part; nothing was changed.
	errLocal = errors.New("local database")
	// errBrokenRule says that the point's own rule does not compile.
	errBrokenRule = errors.New("the point's rule does not compile")
)

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = 5 * time.Minute

// lanePause reports err and says how long its lane rests: what passes by itself is tried
// sooner than what needs a person.
func lanePause(err error, wait *backoff, trouble *trouble) time.Duration {
	trouble.report(err)
	d := wait.next()
	if !passing(err) {
		return d
	}
	var refused *Refusal
	if errors.As(err, &refused) {
		return max(d/8, min(refused.RetryAfter, maxRetryAfter))
	}
	return d / 8
}

// passing says that err may go away by itself soon.
func passing(err error) bool {
	var refused *Refusal
	return errors.Is(err, errLost) || errors.Is(err, store.ErrRetry) || errors.Is(err, store.ErrUnavailable) ||
		errors.As(err, &refused) && refused.Passing()
}

// unlessPassing is what may cut the rest after err short: other rules may cure a refusal,
// but a busy server means what it says.
func unlessPassing(err error, retry signal) signal {
	if err != nil && passing(err) {
		return nil
	}
	return retry
}

// Passing says that the same request may succeed later without anybody's doing.
func (r *Refusal) Passing() bool {
	switch r.Status {
	case protocol.StatusRuleBroken, protocol.StatusRuleDisabled:
		return false // a person has to act
	}
	return r.Status.Info().Retry
}

// trouble tells an operator of a failure once, and when it is over, however often it is
// met in between. The report of what moved shows it as long as it lasts.
type trouble struct {
	log   zerolog.Logger
	tally *tally
	name  ruleName
	said  string
}

func (a *Agent) trouble(direction, table string) trouble {
	return trouble{log: a.opts.Log.With().Str("table", table).Str("type", direction).Logger(), tally: &a.tally, name: ruleName{direction, table}}
}

func (t *trouble) report(err error) {
	if errors.Is(err, errLost) {
		return // the link's to tell
	}
	t.tally.fail(t.name, err)
	e := t.log.Debug()
	if text := err.Error(); text != t.said {
		t.said = text
		e = t.log.Warn()
	}
	e = e.Err(err)
	var refused *Refusal
	if errors.As(err, &refused) {
		e = e.Stringer("status", refused.Status).Str("remedy", refused.Status.Info().Remedy)
	}
	e.Msg("rule does not get on; it is tried again, the other rules go on")
}

func (t *trouble) clear() {
	if t.said != "" {
		t.said = ""
		t.tally.fail(t.name, nil)
		t.log.Info().Msg("rule gets on again")
	}
}
