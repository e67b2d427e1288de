package agent

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"syncgate/rule"
)

// A loop wakes when there is something to do. The centre tells which tables have rows to download; for rows to upload
// the tables are looked at, all of them in one query. A loop asks on its own where nobody can tell it, and now and then
// everywhere.

const (
	// lookEvery is how often changes without a number are looked for, unless Options.Interval is shorter.
	lookEvery = 100 * time.Millisecond
	// unaidedFactor is how many times Options.Interval a loop rests that nobody wakes.
	unaidedFactor = 10
	// toldRest is how long the loop of a download rests whose news the centre tells.
	toldRest = 15 * time.Minute
	// settled is how long after its lag a table is read again that was written to.
	settled = 3 * time.Second
)

// news wakes the loops of rules.
type news struct {
	mu   sync.Mutex
	wake map[ruleName]signal
	told map[string]bool // tables whose news the centre tells
}

// of is raised when a rule has something to do.
func (n *news) of(name ruleName) signal {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wake == nil {
		n.wake = map[ruleName]signal{}
	}
	if n.wake[name] == nil {
		n.wake[name] = newSignal()
	}
	return n.wake[name]
}

// subscribed begins a session, in which nothing has been told yet.
func (n *news) subscribed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.told = nil
}

// tell takes in what the centre says about tables. all: it cannot tell news, so every table is asked for once.
func (n *news) tell(tables, polled []string, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.told == nil {
		n.told = map[string]bool{}
	}
	for _, table := range tables {
		n.told[table] = !slices.Contains(polled, table)
		if s := n.wake[ruleName{rule.Download, table}]; s != nil {
			s.raise()
		}
	}
	for name, s := range n.wake {
		if all && name.direction == rule.Download {
			s.raise()
		}
	}
}

func (n *news) tells(table string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told[table]
}

// rest is how long a download rests that reads on from its state.
func (l *loop) rest() time.Duration {
	if l.news.tells(l.name.table) {
		return toldRest/2 + rand.N(toldRest/2) // points do not ask together
	}
	return unaidedFactor * l.opts.Interval
}

// rest is how long a reading loop rests whose rule reads on from its state.
func (u *uploads) rest(plan *rule.Plan) time.Duration {
	if plan != nil {
		if glance, _ := plan.Glance(); glance != "" {
			return max(u.opts.FullInterval, u.opts.Interval)
		}
	}
	return unaidedFactor * u.opts.Interval
}

// watch looks at the tables of upload rules until ctx ends, and wakes the loops of those that have rows. Tables whose
// changes get numbers are looked at often, the others at each Interval.
func (a *Agent) watch(ctx context.Context, numbered bool) {
	period := a.opts.Interval
	if numbered {
		period = min(period, lookEvery)
	}
	seen := map[ruleName]glimpse{}
	var names []ruleName
	var plans []*rule.Plan
	var expressions []string
	var listed time.Time
	for pause(ctx, period) {
		if time.Since(listed) >= a.opts.RulesEvery { // to list a hundred rules costs more than to look
			names, plans, expressions = a.glanced(numbered)
			listed = time.Now()
		}
		if len(names) == 0 {
			continue
		}
		values, err := a.opts.Store.Glance(ctx, expressions)
		for i, name := range names {
			wake := true
			switch {
			case err != nil: // each loop finds out by itself what is wrong
				delete(seen, name)
			case numbered:
				wake = values[i] != "0"
			default:
				g := seen[name]
				wake = a.unread(ctx, &g, values[i], plans[i])
				seen[name] = g
			}
			if wake {
				a.news.of(name).raise()
			}
		}
		if err != nil && !pause(ctx, unaidedFactor*period) {
			return
		}
	}
}

// glimpse is what a look at a table showed, and since when.
type glimpse struct {
	value string
	at    time.Time
	read  bool // what it showed has been read since
}

// unread reports whether a table that is read by time or key may have rows that its loop has not read. Rows by time are
// read some time after they were written, and no transaction may be open then that is older.
func (a *Agent) unread(ctx context.Context, g *glimpse, value string, plan *rule.Plan) bool {
	switch {
	case g.value != value || g.at.IsZero():
		*g = glimpse{value: value, at: time.Now()}
	case g.read:
		return false
	case plan.Mark == nil:
		g.read = true
	case time.Since(g.at) > plan.Lag+settled:
		held, err := a.opts.Store.HeldBack(ctx)
		g.read = err == nil && held <= plan.Lag
	}
	return true
}

// glanced are the upload rules whose tables a look can tell about, each with what is looked at.
func (a *Agent) glanced(numbered bool) (names []ruleName, plans []*rule.Plan, expressions []string) {
	all := a.rules.enabled()
	for _, name := range slices.SortedFunc(maps.Keys(all), ruleName.compare) {
		plan, _ := a.rules.plan(name) // the loop reports why there is none
		if plan == nil || name.direction != rule.Upload {
			continue
		}
		if glance, by := plan.Glance(); glance != "" && by == numbered {
			names, plans, expressions = append(names, name), append(plans, plan), append(expressions, glance)
		}
	}
	return names, plans, expressions
}

// downloads are the tables that this point downloads.
func (a *Agent) downloads() (tables []string) {
	for name := range a.rules.enabled() {
		if name.direction == rule.Download {
			tables = append(tables, name.table)
		}
	}
	slices.Sort(tables)
	return tables
}
