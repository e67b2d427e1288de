package business

import (
	"context"
	"fmt"

	"syncgate/store"
)

// ran counts one run of a rule. The sums go to the sink once a round, so that a busy rule costs one write a second.
func (g *Registry) ran(id, rows uint64, failure error) {
	now := g.o.Clock()
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.runs[id]
	if r == nil {
		r = &store.RuleRuns{RuleID: id}
		g.runs[id] = r
	}
	r.Runs++
	r.Rows += rows
	r.At = now
	if failure != nil {
		r.Failures++
		r.LastFailure, r.FailedAt = failure.Error(), now
	}
}

// flush records the sums. What could not be recorded is added to what comes.
func (g *Registry) flush(ctx context.Context) error {
	g.mu.Lock()
	pending := g.runs
	g.runs = map[uint64]*store.RuleRuns{}
	g.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	runs := make([]store.RuleRuns, 0, len(pending))
	for _, r := range pending {
		runs = append(runs, *r)
	}
	err := g.o.Sink.AddRuleRuns(ctx, runs)
	if err == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, r := range g.runs {
		if old := pending[id]; old != nil {
			addRuns(r, old)
		}
		pending[id] = r
	}
	g.runs = pending
	return fmt.Errorf("record the runs of rules: %w", err)
}

// addRuns adds an older sum to r.
func addRuns(r, old *store.RuleRuns) {
	r.Runs += old.Runs
	r.Rows += old.Rows
	r.Failures += old.Failures
	if r.LastFailure == "" {
		r.LastFailure, r.FailedAt = old.LastFailure, old.FailedAt
	}
}
