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

// lanePause reports err and says how long its lane rests. A lost connection needs no rest
// here, the link waits before it connects again; what passes by itself is tried sooner
// than what needs a person.
func lanePause(err error, wait *backoff, trouble *trouble) time.Duration {
	if errors.Is(err, errLost) {
		return 0
	}
	trouble.report(err)
	d := wait.next()
	var refused *Refusal
	if errors.As(err, &refused) && refused.Passing() {
		return max(d/8, refused.RetryAfter)
	}
	return d
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
// met in between.
type trouble struct {
	log  zerolog.Logger
	said string
}

func (t *trouble) report(err error) {
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
		t.log.Info().Msg("rule gets on again")
	}
}
