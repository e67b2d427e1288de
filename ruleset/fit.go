package ruleset

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"syncgate/rule"
	"syncgate/store"
)

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
// anew, which may have been altered since it was looked at. An error means that the database could not be asked, or that
// a column of the key does not come. Columns without names have the order of the fields.
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
	if old.byID[r.current.ID].alone() == r { // nobody else has been here meanwhile
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
	unsaved map[differs]bool // the sink does not have them
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
		s.differ.unsaved[at] = true
		if s.differ.known[at] = now; f.exact() {
			delete(s.differ.known, at)
		}
	}
	s.differ.mu.Unlock()
	if same {
		return
	}
	log, says := s.o.Logger.Warn(), "columns differ at the two ends; the values of those that one end lacks are left out"
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
	s.differ.unsaved = map[differs]bool{}
	var all []store.Difference
	for at := range unsaved {
		d := s.differ.known[at]
		d.RuleID, d.Peer = at.rule, at.peer
		all = append(all, d)
	}
	s.differ.mu.Unlock()
	if len(all) == 0 || s.o.Sink == nil {
		return nil
	}
	err := s.o.Sink.SaveRuleDifferences(ctx, all)
	if err == nil {
		return nil
	}
	s.differ.mu.Lock()
	defer s.differ.mu.Unlock()
	maps.Copy(s.differ.unsaved, unsaved)
	return fmt.Errorf("record where columns differ: %w", err)
}
