package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// rules are those in force at the point. The point's own rows of sync_control count first, then the rows that the
// centre gave. A row that is switched off counts, too: it keeps the rules after it from running.
type rules struct {
	point          string
	local, fetched *ruleset.Set
	changed        signal // raised when other rules are in force
}

func newRules(o *Options) (*rules, error) {
	r := &rules{point: o.Point, changed: newSignal()}
	set := ruleset.Options{Source: o.Store, Sink: o.Store, Side: rule.Client, Poll: o.RulesEvery,
		Record: o.Store.RecordChanges, Changed: r.changed.raise, Clock: o.Clock, Logger: o.Log}
	var err error
	if r.local, err = ruleset.New(set); err != nil {
		return nil, err
	}
	// The state of a rule is kept in the database where the rule is edited.
	set.Source, set.Sink = fetchedRules{o.Store}, nil
	set.Logger = o.Log.With().Bool("fetched", true).Logger()
	r.fetched, err = ruleset.New(set)
	return r, err
}

// refresh reads what was edited.
func (r *rules) refresh(ctx context.Context) error {
	return errors.Join(r.local.Refresh(ctx), r.fetched.Refresh(ctx))
}

// ruleName identifies a rule at a point.
type ruleName struct{ direction, table string }

func (n ruleName) key() string { return n.direction + ":" + n.table }

func (n ruleName) compare(other ruleName) int { return cmp.Compare(n.key(), other.key()) }

// enabled lists the rules that are switched on.
func (r *rules) enabled() map[ruleName]*ruleset.Rule {
	all := make(map[ruleName]*ruleset.Rule)
	for _, set := range []*ruleset.Set{r.fetched, r.local} {
		for _, x := range set.ForPoint(r.point) {
			all[ruleName{x.Row.Type, x.Row.Table}] = x
		}
	}
	maps.DeleteFunc(all, func(_ ruleName, x *ruleset.Rule) bool { return x.State == store.RuleDisabled })
	return all
}

// find is the rule that counts; nil when there is none.
func (r *rules) find(n ruleName) *ruleset.Rule {
	if x := r.local.Lookup(n.table, n.direction, r.point); x != nil {
		return x
	}
	return r.fetched.Lookup(n.table, n.direction, r.point)
}

// plan is the plan in force for a rule. Without an error it is nil when the rule is switched off or gone.
func (r *rules) plan(n ruleName) (*rule.Plan, error) {
	x := r.find(n)
	if x == nil || x.State == store.RuleDisabled {
		return nil, nil
	}
	return x.Plan, x.Err()
}

// set is the one that the rule in force comes from.
func (r *rules) set(n ruleName) *ruleset.Set {
	if r.local.Lookup(n.table, n.direction, r.point) != nil {
		return r.local
	}
	return r.fetched
}

// altered reports whether err may come from an ALTER of the rule's table that plan does not know of. Then another plan
// is in force.
func (r *rules) altered(ctx context.Context, n ruleName, plan *rule.Plan, err error) bool {
	if refused := (*store.SQLError)(nil); !errors.As(err, &refused) && !errors.Is(err, store.ErrAltered) {
		return false
	}
	x := r.find(n)
	if x == nil || x.Plan == nil {
		return false
	}
	now, err := r.set(n).Recheck(ctx, x)
	return err == nil && now.Plan != plan
}

// fit is how rows with these columns that the centre has sent go through the rule in force.
func (r *rules) fit(ctx context.Context, n ruleName, columns []string) (*ruleset.Fit, error) {
	x := r.find(n)
	if err := x.Err(); err != nil {
		return nil, err
	}
	f, err := r.set(n).Fit(ctx, x, columns)
	if err == nil {
		r.set(n).RecordFit(&f, "the centre")
	}
	return &f, err
}

// count counts a run of a rule in the view sync_control_status.
func (r *rules) count(n ruleName, rows int, failure error) {
	if x := r.local.Lookup(n.table, n.direction, r.point); x != nil {
		r.local.RecordRun(x.Row.ID, uint64(rows), failure)
	}
}

// fetchedRules are the rules that the centre gave, as the source of a ruleset.Set.
type fetchedRules struct{ *store.Store }

// RulesVersion implements ruleset.Source.
func (f fetchedRules) RulesVersion(ctx context.Context) (uint64, error) {
	stored, err := loadState(ctx, f.Store, fetched)
	if err != nil || len(stored) == 0 {
		return 0, err
	}
	version, _ := stored[0].Value.(int64)
	return uint64(version), nil
}

// Rules implements ruleset.Source.
func (f fetchedRules) Rules(ctx context.Context) ([]rule.Row, error) {
	return f.FetchedRules(ctx)
}

// refresh is the turn of the loop that follows the centre's rules: it fetches them if
// their version is not that of the stored ones.
func (a *Agent) refresh(ctx context.Context) (time.Duration, error) {
	ping, err := ask(ctx, a.link, &protocol.Message{Op: protocol.OpPing}, (*protocol.Message).PingReply)
	if err == nil {
		err = a.lock.claim(ctx, *a.link.at.Load())
	}
	if err != nil {
		return 0, err
	}
	a.asked.raise()
	a.progress.news.raise()
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
	err = a.rules.fetched.Refresh(ctx)
	a.rules.changed.raise() // what the centre has refused it may take now
	return a.opts.FullInterval, err
}

// saveFetched replaces the fetched rules and their version within tx.
func saveFetched(ctx context.Context, tx *store.Tx, reply *protocol.RulesReply) error {
	if err := tx.SaveFetchedRules(ctx, reply.Rules); err != nil {
		return err
	}
	return saveState(ctx, tx, fetched, []rowset.StateItem{{Name: "version", Value: int64(reply.Version)}})
}
