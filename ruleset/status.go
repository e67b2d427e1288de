package ruleset

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"syncgate/rule"
	"syncgate/store"
)

func (s *Set) logStates(old, next *snapshot) {
	for id, r := range next.byID {
		if old != nil && sameState(old.byID[id], r) {
			continue
		}
		p := r.Problem()
		log := s.o.Logger.Info()
		if p != nil {
			log = s.o.Logger.Error().Str("code", p.Code.String()).Str("problem", p.String())
		}
		log.Uint64("rule", id).Str("table", r.current.Table).Str("type", r.current.Type).
			Str("point", r.current.PointNo).Str("state", string(r.State)).Msg("rule")
		for _, w := range r.warnings() {
			s.o.Logger.Warn().Uint64("rule", id).Str("table", r.current.Table).Str("code", w.Code.String()).
				Str("warning", w.String()).Msg("rule runs with a warning")
		}
	}
	if old == nil {
		return
	}
	for id, r := range old.byID {
		if next.byID[id] == nil {
			s.o.Logger.Info().Uint64("rule", id).Str("table", r.current.Table).Msg("rule deleted")
		}
	}
}

// sameState reports whether b adds nothing to a, which may be nil.
func sameState(a, b *Rule) bool {
	return a == b || a != nil && a.State == b.State && a.current == b.current &&
		reflect.DeepEqual(a.Problem(), b.Problem()) && reflect.DeepEqual(a.warnings(), b.warnings())
}

// recordStates hands the sink every state that differs from old's. What could not be recorded is recorded in a later
// round, all states together.
func (s *Set) recordStates(ctx context.Context, next, old *snapshot) error {
	if s.o.Sink == nil {
		return nil
	}
	if old == nil {
		old = &snapshot{}
	}
	gone := old.byID == nil // rules that went while no server ran
	for id := range old.byID {
		gone = gone || next.byID[id] == nil
	}
	var states []store.RuleStatus
	for id, r := range next.byID {
		if r.State == store.RuleDisabled || !s.statusPending && sameState(old.byID[id], r) {
			continue
		}
		states = append(states, store.RuleStatus{RuleID: id, State: r.State, Problem: r.Problem(),
			Warnings: r.warnings(), CheckedAt: r.checked})
	}
	if old.byID == nil || s.statusPending || next.version != old.version {
		states = append(states, next.elsewhere...)
	}
	s.statusPending = len(states) > 0 || gone
	if !s.statusPending {
		return nil
	}
	if err := s.o.Sink.SaveRuleStatus(ctx, states); err != nil {
		return fmt.Errorf("record the states of rules: %w", err)
	}
	s.statusPending = false
	return nil
}

// RecordRun counts one run of a rule. The sums go to the sink once a round, so that a busy rule costs one write a
// second.
func (s *Set) RecordRun(id, rows uint64, failure error) {
	if s.o.Sink == nil {
		return
	}
	run := &store.RuleRuns{RuleID: id, Runs: 1, Rows: rows, At: s.o.Clock()}
	if failure != nil {
		run.Failures, run.LastFailure, run.FailedAt = 1, failure.Error(), run.At
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addRuns(run)
}

// addRuns adds to the sums. With mu held.
func (s *Set) addRuns(r *store.RuleRuns) {
	sum := s.runs[r.RuleID]
	if sum == nil {
		s.runs[r.RuleID] = r
		return
	}
	sum.Runs += r.Runs
	sum.Rows += r.Rows
	sum.Failures += r.Failures
	if r.At.After(sum.At) {
		sum.At = r.At
	}
	if r.LastFailure != "" && !r.FailedAt.Before(sum.FailedAt) {
		sum.LastFailure, sum.FailedAt = r.LastFailure, r.FailedAt
	}
}

// Flush records the runs that are not recorded yet, before a process ends.
func (s *Set) Flush(ctx context.Context) {
	if err := s.recordRuns(ctx); err != nil {
		s.o.Logger.Warn().Err(err).Msg("the last runs of rules are not recorded")
	}
}

// recordRuns hands the sink the sums. What could not be recorded is added to what comes.
func (s *Set) recordRuns(ctx context.Context) error {
	s.mu.Lock()
	pending := s.runs
	s.runs = map[uint64]*store.RuleRuns{}
	s.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	runs := make([]store.RuleRuns, 0, len(pending))
	for _, r := range pending {
		runs = append(runs, *r)
	}
	err := s.o.Sink.AddRuleRuns(ctx, runs)
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range pending {
		s.addRuns(r)
	}
	return fmt.Errorf("record the runs of rules: %w", err)
}

// Fit is how rows with the columns of a request or reply go through a rule.
type Fit struct {
	Rule    *Rule
	Plan    *rule.Plan // what applies them
	Columns []string   // of the rows
	Extra   []string   // columns that are no fields of the rule
	Missing []string   // fields that do not come
}

// exact reports whether the columns are the rule's fields.
func (f *Fit) exact() bool { return len(f.Extra) == 0 && len(f.Missing) == 0 }

// Fit finds how rows with these columns go through r. Where they differ from r's fields it first looks at the table
// anew, which may have been altered since it was looked at. An error means that the database could not be asked, or
// that a column of the key does not come. Columns without names have the order of the fields.
func (s *Set) Fit(ctx context.Context, r *Rule, columns []string) (Fit, error) {
	if !slices.ContainsFunc(columns, func(c string) bool { return c != "" }) {
		return Fit{Rule: r, Plan: r.Plan, Columns: columns}, nil
	}
	f, err := r.Fit(columns)
	if err != nil || !f.exact() {
		if r, err = s.Recheck(ctx, r); err == nil {
			f, err = r.Fit(columns)
		}
	}
	return f, err
}

// Recheck looks at the table of r at once, and returns the rule that is in force afterwards for r's row.
func (s *Set) Recheck(ctx context.Context, r *Rule) (*Rule, error) {
	if r.facts == nil {
		return r, nil
	}
	same, err := s.o.Source.SameColumns(ctx, r.facts)
	if err != nil || same {
		return r, err
	}
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	old := s.now.Load()
	if old.alone[r.current.ID] == r { // nobody else has been here meanwhile
		if err := s.reload(ctx, old.version, old, true); err != nil {
			return r, err
		}
	}
	if now := s.now.Load().byID[r.current.ID]; now.Err() == nil {
		return now, nil
	}
	return r, nil
}

// maxFits bounds the plans that are kept for one rule. Points of one rule rarely have more than two schemas at a time.
const maxFits = 8

// fits keeps what Fit has found, newest last.
type fits struct {
	mu  sync.Mutex
	all []Fit
}

// Fit finds how rows with these columns go through the rule, whose plan is not nil.
func (r *Rule) Fit(columns []string) (Fit, error) {
	r.fits.mu.Lock()
	defer r.fits.mu.Unlock()
	for _, known := range r.fits.all {
		if slices.Equal(known.Columns, columns) {
			return known, nil
		}
	}
	f := Fit{Rule: r, Columns: slices.Clone(columns)}
	var err error
	if f.Plan, f.Extra, f.Missing, err = r.Plan.Fit(columns); err != nil {
		return f, &store.MismatchError{Reason: err.Error()}
	}
	if len(r.fits.all) == maxFits {
		r.fits.all = slices.Delete(r.fits.all, 0, 1)
	}
	r.fits.all = append(r.fits.all, f)
	return f, nil
}

// difference is what the sink keeps about the columns of peer; no columns when they are the rule's fields.
func (f *Fit) difference(peer string) store.Difference {
	return store.Difference{RuleID: f.Rule.current.ID, Peer: peer,
		Here: strings.Join(f.Extra, ", "), There: strings.Join(f.Missing, ", ")}
}

// differences are those known of each rule and peer.
type differences struct {
	mu      sync.Mutex
	known   map[differs]store.Difference
	unsaved map[differs]store.Difference // the sink does not have them
}

type differs struct {
	rule uint64
	peer string
}

// RecordFit keeps how the columns of peer differ from the fields of a rule. A change is logged, and reaches the sink in
// the next round.
func (s *Set) RecordFit(f *Fit, peer string) {
	now, at := f.difference(peer), differs{f.Rule.current.ID, peer}
	s.differ.mu.Lock()
	last := s.differ.known[at]
	same := last.Here == now.Here && last.There == now.There
	if !same {
		s.differ.known[at], s.differ.unsaved[at] = now, now
	}
	s.differ.mu.Unlock()
	if same {
		return
	}
	log := s.o.Logger.Warn()
	says := "columns differ at the two ends; the values of those that one end lacks are left out"
	if f.exact() {
		log, says = s.o.Logger.Info(), "the columns are the same at both ends again"
	}
	log.Uint64("rule", at.rule).Str("table", f.Rule.Row.Table).Str("type", f.Rule.Row.Type).Str("peer", peer).
		Str("missing_here", now.Here).Str("missing_there", now.There).Msg(says)
}

// loadDifferences takes over what the sink has from before the start.
func (s *Set) loadDifferences(ctx context.Context) error {
	if s.o.Sink == nil {
		return nil
	}
	all, err := s.o.Sink.RuleDifferences(ctx)
	s.differ.mu.Lock()
	defer s.differ.mu.Unlock()
	for _, d := range all {
		s.differ.known[differs{d.RuleID, d.Peer}] = d
	}
	return err
}

// recordDifferences hands the sink the differences that have changed.
func (s *Set) recordDifferences(ctx context.Context) error {
	s.differ.mu.Lock()
	unsaved := s.differ.unsaved
	s.differ.unsaved = map[differs]store.Difference{}
	s.differ.mu.Unlock()
	if len(unsaved) == 0 || s.o.Sink == nil {
		return nil
	}
	err := s.o.Sink.SaveRuleDifferences(ctx, slices.Collect(maps.Values(unsaved)))
	if err == nil {
		return nil
	}
	s.differ.mu.Lock()
	defer s.differ.mu.Unlock()
	maps.Copy(unsaved, s.differ.unsaved) // what has changed since is newer
	s.differ.unsaved = unsaved
	return fmt.Errorf("record where columns differ: %w", err)
}
