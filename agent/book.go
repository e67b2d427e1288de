package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"syncgate/rule"
	"syncgate/store"
)

// book is the rules in force: the point's own rows of sync_control and those that the
// centre gave it. For one direction and table the local row wins, and in each place the
// row that names the point wins over the one for every point. A row that is switched off
// counts: it keeps the rules it wins over from running.
type book struct {
	opts    *Options
	log     zerolog.Logger
	changed signal // the rules in force are others now: for the collector
	lanes   signal // and for the lanes

	loading sync.Mutex // one reload at a time
	version uint64     // of the local rows; guarded by loading, as read
	read    time.Time  // when all was last read

	mu      sync.RWMutex
	entries map[ruleName]*entry
}

// ruleName identifies a rule at a point.
type ruleName struct{ direction, table string }

// entry is one rule. plan is the last version that compiled, nil when none did.
type entry struct {
	row    rule.Row
	plan   *rule.Plan
	broken string
}

func newBook(o *Options) *book {
	return &book{opts: o, log: o.Log, changed: newSignal(), lanes: newSignal(), entries: make(map[ruleName]*entry)}
}

// A rule depends on its table, too, which may come or change without a word in the rules:
// they are compiled again now and then, and sooner while one of them is broken.
const rereadEvery = time.Minute

// reload reads the rules again if the local rows have changed, it is time to, or force is
// set, and signals if other plans are in force then.
func (b *book) reload(ctx context.Context, force bool) error {
	b.loading.Lock()
	defer b.loading.Unlock()
	version, err := b.opts.Store.RulesVersion(ctx)
	if err != nil {
		return err
	}
	if !force && version == b.version && len(b.broken()) == 0 && time.Since(b.read) < rereadEvery {
		return nil
	}
	local, err := b.opts.Store.Rules(ctx)
	if err != nil {
		return err
	}
	fetched, err := fetchedRules(ctx, b.opts.Store)
	if err != nil {
		return err
	}
	entries := make(map[ruleName]*entry)
	for _, rows := range [][]rule.Row{local, fetched} {
		for name, row := range choose(rows, b.opts.Point) {
			if _, taken := entries[name]; taken {
				continue
			}
			if entries[name], err = b.compile(ctx, name, row); err != nil {
				return err
			}
		}
	}
	b.version, b.read = version, time.Now()
	b.mu.Lock()
	same := maps.EqualFunc(b.entries, entries, func(x, y *entry) bool { return x.plan == y.plan })
	b.entries = entries
	b.mu.Unlock()
	if !same {
		b.changed.raise()
		b.lanes.raise()
	}
	return nil
}

// choose picks the client rules of a point, one a direction and table.
func choose(rows []rule.Row, point string) map[ruleName]rule.Row {
	chosen := make(map[ruleName]rule.Row)
	for _, r := range rows {
		if r.User != rule.Client || r.PointNo != point && r.PointNo != rule.AnyPoint {
			continue
		}
		name := ruleName{r.Type, r.Table}
		if old, ok := chosen[name]; !ok || old.PointNo == rule.AnyPoint && r.PointNo == point {
			chosen[name] = r
		}
	}
	return chosen
}

// compile makes the entry of a row. A row that does not compile keeps the last good
// version in force, and is named in the log.
func (b *book) compile(ctx context.Context, name ruleName, row rule.Row) (*entry, error) {
	b.mu.RLock()
	old := b.entries[name]
	b.mu.RUnlock()
	e := &entry{row: row}
	if !row.Enabled {
		return e, nil
	}
	facts, err := b.opts.Store.Table(ctx, row.Table)
	if err != nil && !errors.Is(err, store.ErrNoTable) {
		return nil, err
	}
	plan, diagnostics := rule.Compile(row, facts)
	if plan != nil {
		// The same row and facts give the same plan; keeping the old one shows that nothing changed.
		e.plan = plan
		if old != nil && reflect.DeepEqual(old.plan, plan) {
			e.plan = old.plan
		}
		return e, nil
	}
	var said []string
	for _, d := range diagnostics {
		if d.Severity == rule.Error {
			said = append(said, d.String())
		}
	}
	e.broken = strings.Join(said, "; ")
	if old != nil {
		e.plan = old.plan
	}
	if old == nil || old.broken != e.broken {
		b.log.Error().Str("table", row.Table).Str("type", row.Type).Uint64("rule", row.ID).Bool("last_good_in_force", e.plan != nil).
			Str("error", e.broken).Msg("rule does not compile")
	}
	return e, nil
}

// find is the plan in force and the row it should be of; nil and a zero row when there is
// none.
func (b *book) find(direction, table string) (*rule.Plan, rule.Row) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.entries[ruleName{direction, table}]
	if e == nil {
		return nil, rule.Row{}
	}
	return e.plan, e.row
}

// plans lists the plans of a direction in order of table.
func (b *book) plans(direction string) []*rule.Plan {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var plans []*rule.Plan
	for name, e := range b.entries {
		if name.direction == direction && e.plan != nil {
			plans = append(plans, e.plan)
		}
	}
	slices.SortFunc(plans, func(a, b *rule.Plan) int { return strings.Compare(a.Row.Table, b.Row.Table) })
	return plans
}

// broken lists the rules that have no version in force.
func (b *book) broken() map[ruleName]error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	failed := make(map[ruleName]error)
	for name, e := range b.entries {
		if e.broken != "" {
			failed[name] = fmt.Errorf("%w: %s", errBrokenRule, e.broken)
		}
	}
	return failed
}
