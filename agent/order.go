package agent

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Tables that refer to each other are loaded parents first, so that their rows need not wait for one another. After its
// first round a rule is no longer held back: rows whose parent comes later wait in sync_quarantine.

// order knows which rules have had their first round.
type order struct {
	done sync.Map // by ruleName: a chan struct{}, closed after the first round
}

func (o *order) of(name ruleName) chan struct{} {
	done, _ := o.done.LoadOrStore(name, make(chan struct{}))
	return done.(chan struct{})
}

// finished notes the first round of a rule. Only the rule's own loop calls it.
func (o *order) finished(name ruleName) {
	done := o.of(name)
	select {
	case <-done:
	default:
		close(done)
	}
}

// inOrder makes a turn that waits for the first rounds of the parents' rules. A round that fails counts, unless the
// server cannot be reached: then none can go on.
func (l *loop) inOrder(do turn) turn {
	return func(ctx context.Context) (rest time.Duration, err error) {
		for _, parent := range l.parents(l.name) {
			if l.before(l.name, parent, nil) { // each would wait for the other
				continue
			}
			select {
			case <-l.order.of(parent):
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		rest, err = do(ctx)
		var refused *Refusal
		if l.once || !errors.Is(err, ErrLost) && !(errors.As(err, &refused) && refused.Transient()) {
			l.order.finished(l.name)
		}
		return rest, err
	}
}

// parents are the enabled rules of the tables that a rule's table refers to.
func (a *Agent) parents(name ruleName) (all []ruleName) {
	plan, _ := a.rules.plan(name) // the turn reports why there is none
	if plan == nil || len(plan.Parents) == 0 {
		return nil
	}
	enabled := a.rules.enabled()
	for _, table := range plan.Parents {
		if parent := (ruleName{name.direction, table}); parent != name && enabled[parent] != nil {
			all = append(all, parent)
		}
	}
	return all
}

// before reports whether the parents of name, or theirs, lead to want.
func (a *Agent) before(want, name ruleName, seen map[ruleName]bool) bool {
	if seen == nil {
		seen = map[ruleName]bool{}
	}
	seen[name] = true
	for _, parent := range a.parents(name) {
		if parent == want || !seen[parent] && a.before(want, parent, seen) {
			return true
		}
	}
	return false
}
