package ruleset

import (
	"context"
	"fmt"
	"reflect"

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
		states = append(states, r.status)
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
