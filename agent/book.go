package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// book is the rules in force: the point's own rows of sync_control and those that the
// centre gave it. For one direction and table the local row wins, and in each place the
// row that names the point wins over the one for every point. A row that is switched off
// counts: it keeps the rules it wins over from running.
type book struct {
	opts    *Options
	changed signal // the rules in force are others now

	loading sync.Mutex // one reload at a time
	version uint64     // of the local rows; guarded by loading, as read
	read    time.Time  // when all was last read

	mu      sync.RWMutex
	entries map[ruleName]entry
}

// ruleName identifies a rule at a point.
type ruleName struct{ direction, table string }

func (n ruleName) key() string { return n.direction + ":" + n.table }

// entry is one rule. plan is the last version that compiled, nil when none did or the
// rule is switched off; broken says why row does not.
type entry struct {
	row    rule.Row
	plan   *rule.Plan
	broken error
}

// errBrokenRule says that the point's own rule does not compile.
var errBrokenRule = errors.New("the point's rule does not compile")

// A rule depends on its table, too, which may come or change without a word in the rules:
// they are compiled again now and then, and sooner while one of them is broken.
const rereadEvery = time.Minute

// reload is the turn of the loop that looks at the local rules and their tables.
func (a *Agent) reload(ctx context.Context) (time.Duration, error) {
	return a.opts.RulesEvery, a.book.reload(ctx, false)
}

// reload reads the rules again if the local rows have changed, it is time to, or force is
// set, and signals if other plans are in force then.
func (b *book) reload(ctx context.Context, force bool) error {
	b.loading.Lock()
	defer b.loading.Unlock()
	version, err := b.opts.Store.RulesVersion(ctx)
	if err != nil {
		return err
	}
	for _, e := range b.entries { // only a reload changes them
		force = force || e.broken != nil
	}
	if !force && version == b.version && time.Since(b.read) < rereadEvery {
		return nil
	}
	local, err := b.opts.Store.Rules(ctx)
	if err != nil {
		return err
	}
	given, err := b.opts.Store.FetchedRules(ctx)
	if err != nil {
		return err
	}
	entries := make(map[ruleName]entry)
	for name, row := range choose(b.opts.Point, local, given) {
		if entries[name], err = b.compile(ctx, name, row); err != nil {
			return err
		}
	}
	b.version, b.read = version, time.Now()
	b.mu.Lock()
	same := maps.EqualFunc(b.entries, entries, func(x, y entry) bool { return x.plan == y.plan })
	b.entries = entries
	b.mu.Unlock()
	if !same {
		b.changed.raise()
	}
	return nil
}

// choose picks the client rules of a point, one a direction and table: of the first list
// that has one, and there the one that names the point.
func choose(point string, lists ...[]rule.Row) map[ruleName]rule.Row {
	chosen := make(map[ruleName]rule.Row)
	for _, rows := range lists {
		for _, of := range []string{point, rule.AnyPoint} {
			for _, r := range rows {
				name := ruleName{r.Type, r.Table}
				if _, taken := chosen[name]; !taken && r.User == rule.Client && r.PointNo == of {
					chosen[name] = r
				}
			}
		}
	}
	return chosen
}

// compile makes the entry of a row. A row that does not compile keeps the last good
// version in force, and is named in the log.
func (b *book) compile(ctx context.Context, name ruleName, row rule.Row) (entry, error) {
	if !row.Enabled {
		return entry{row: row}, nil
	}
	facts, err := b.opts.Store.Table(ctx, row.Table)
	if err != nil && !errors.Is(err, store.ErrNoTable) {
		return entry{}, err
	}
	old := b.find(name)
	plan, diagnostics := rule.Draft(row, facts)
	refused, err := b.opts.Store.CheckPlan(ctx, plan, facts)
	if err != nil {
		return entry{}, err
	}
	diagnostics = append(diagnostics, refused...)
	if worst, _ := rule.Worst(diagnostics); worst != rule.Error {
		// The same row and facts give the same plan; keeping the old one shows that nothing changed.
		if reflect.DeepEqual(old.plan, plan) {
			plan = old.plan
		}
		return entry{row: row, plan: plan}, nil
	}
	var said []string
	for _, d := range diagnostics {
		if d.Severity == rule.Error {
			said = append(said, d.String())
		}
	}
	e := entry{row, old.plan, fmt.Errorf("%w: %s", errBrokenRule, strings.Join(said, "; "))}
	if old.broken == nil || old.broken.Error() != e.broken.Error() {
		b.opts.Log.Error().Str("table", row.Table).Str("type", row.Type).Uint64("rule", row.ID).
			Bool("last_good_in_force", e.plan != nil).Err(e.broken).Msg("rule does not compile")
	}
	return e, nil
}

// find is a rule of the book, zero when there is none.
func (b *book) find(name ruleName) entry {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.entries[name]
}

// names lists the rules that are switched on.
func (b *book) names() (names []ruleName) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for name, e := range b.entries {
		if e.row.Enabled {
			names = append(names, name)
		}
	}
	return names
}

// refresh is the turn of the loop that follows the centre's rules: it fetches them if
// their version is not that of the stored ones.
func (a *Agent) refresh(ctx context.Context) (time.Duration, error) {
	ping, err := ask(ctx, a.link, &protocol.Message{Op: protocol.OpPing}, (*protocol.Message).PingReply)
	if err != nil {
		return 0, err
	}
	stored, err := loadState(ctx, a.opts.Store, fetched)
	if err != nil || len(stored) == 1 && stored[0].Value == int64(ping.RulesVersion) {
		return a.opts.FullInterval, err
	}
	reply, err := ask(ctx, a.link, &protocol.Message{Op: protocol.OpRules}, (*protocol.Message).RulesReply)
	if err == nil {
		err = a.opts.Store.InTx(ctx, func(tx *store.Tx) error { return saveFetched(ctx, tx, reply) })
	}
	if err != nil {
		return 0, fmt.Errorf("fetch the rules: %w", err)
	}
	a.opts.Log.Info().Uint64("version", reply.Version).Int("rules", len(reply.Rules)).Msg("rules fetched")
	err = a.book.reload(ctx, true)
	a.book.changed.raise() // what the centre has refused it may take now
	return a.opts.FullInterval, err
}

// saveFetched replaces the fetched rules and their version within tx.
func saveFetched(ctx context.Context, tx *store.Tx, reply *protocol.RulesReply) error {
	if err := tx.SaveFetchedRules(ctx, reply.Rules); err != nil {
		return err
	}
	return saveState(ctx, tx, fetched, []rowset.StateItem{{Name: "version", Value: int64(reply.Version)}})
}
