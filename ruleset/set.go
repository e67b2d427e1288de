package ruleset

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"syncgate/rule"
	"syncgate/store"
)

// Source is where a Set reads rules and the facts about their tables. It is a *store.Store, or one whose rules are in
// another table.
type Source interface {
	// RulesVersion changes with every edit of the rules, and is cheap to ask.
	RulesVersion(ctx context.Context) (uint64, error)
	Rules(ctx context.Context) ([]rule.Row, error)
	Table(ctx context.Context, name string) (*rule.Table, error)
	// SameColumns reports whether a table still has the columns that Table has told. It is cheap to ask.
	SameColumns(ctx context.Context, t *rule.Table) (bool, error)
	PlanChecker
}

// Sink keeps what is known about each rule where a DBA sees it. It is a *store.Store.
type Sink interface {
	SaveRuleStatus(ctx context.Context, states []store.RuleStatus) error
	AddRuleRuns(ctx context.Context, runs []store.RuleRuns) error
	RuleDifferences(ctx context.Context) ([]store.Difference, error)
	SaveRuleDifferences(ctx context.Context, all []store.Difference) error
}

// Why no version of a rule is in force. The third reason is a *BrokenError.
var (
	ErrNotRead  = fmt.Errorf("%w: the rules have not been read yet", store.ErrUnavailable)
	ErrNoRule   = errors.New("no rule for this table, direction and point")
	ErrDisabled = errors.New("the rule is switched off")
)

// BrokenError says that the rule does not compile, and that no version of it has compiled before.
type BrokenError struct{ Problem rule.Diagnostic }

func (e *BrokenError) Error() string { return "the rule is broken: " + e.Problem.String() }

// Rule is one row of sync_control and what is in force for it. It is immutable.
type Rule struct {
	State       store.RuleState
	Row         rule.Row   // the version in force; when none is, the row as it stands
	Plan        *rule.Plan // nil when nothing is in force, and for the other side's rules, which are compiled there
	Diagnostics []rule.Diagnostic

	current rule.Row    // the row as it stands
	facts   *rule.Table // what current was compiled against
	checked time.Time
	fits    *fits
}

// Err says why no version of the rule is in force; nil when one is. A nil Rule is ErrNoRule.
func (r *Rule) Err() error {
	switch {
	case r == nil:
		return ErrNoRule
	case r.State == store.RuleDisabled:
		return ErrDisabled
	case r.Plan == nil:
		return &BrokenError{Problem: *r.Problem()}
	}
	return nil
}

// Problem is the first error of the row as it stands, or nil. The last good version may be in force all the same.
func (r *Rule) Problem() *rule.Diagnostic {
	if i := slices.IndexFunc(r.Diagnostics, func(d rule.Diagnostic) bool { return d.Severity == rule.Error }); i >= 0 {
		return &r.Diagnostics[i]
	}
	return nil
}

// warnings are the warnings of the row as it stands.
func (r *Rule) warnings() (all []rule.Diagnostic) {
	for _, d := range r.Diagnostics {
		if d.Severity == rule.Warning {
			all = append(all, d)
		}
	}
	return all
}

// Options make a Set. Source and Side are required.
type Options struct {
	Source Source
	Sink   Sink   // nil: states and runs are not kept
	Side   string // rule.Server or rule.Client: whose rules run here

	Poll    time.Duration // how often the version is asked; 1 s
	Recheck time.Duration // how often tables, and rules that did not compile, are looked at again; 15 polls
	// Record makes what records the changes of a table, for a rule that reads them where nothing does. nil: a person
	// makes it.
	Record  func(ctx context.Context, t *rule.Table) error
	Changed func() // called after other rules or another version came into force; may be nil

	Clock  func() time.Time // time.Now
	Logger zerolog.Logger
}

// Set holds the rules in force. Reading it takes no lock and asks no database; Run keeps it up to date.
type Set struct {
	o     Options
	now   atomic.Pointer[snapshot]
	ready chan struct{} // closed when the first rules came into force
	read  atomic.Int64  // nanoseconds since 1970 of the last answer to RulesVersion

	mu   sync.Mutex
	runs map[uint64]*store.RuleRuns // since the last flush

	differ differences

	refreshing    sync.Mutex // guards what follows
	checked       time.Time  // the last recheck
	statusPending bool       // some state has not been recorded
}

// snapshot is the set of rules at one version.
type snapshot struct {
	version uint64
	byID    map[uint64]*Rule
	alone   map[uint64]*Rule // the same without regard to other rows of the same key
	here    map[key]*Rule    // those that run at this side
	folded  map[key]*Rule    // those of here whose table is not written as fold writes it
	there   map[key]*Rule    // those of the other side
	counts  map[store.RuleState]int

	elsewhere []store.RuleStatus // of the server's rules at a point
}

type key struct{ table, direction, point string }

// fold is a table's name as the database compares names of rules: without case and blanks at the end.
func fold(table string) string { return strings.ToLower(strings.TrimRight(table, " ")) }

// New checks o and makes an empty set.
func New(o Options) (*Set, error) {
	if o.Source == nil || o.Side != rule.Server && o.Side != rule.Client {
		return nil, errors.New("ruleset: Source and Side are required")
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Recheck <= 0 {
		o.Recheck = 15 * o.Poll
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	return &Set{o: o, ready: make(chan struct{}), runs: map[uint64]*store.RuleRuns{},
		differ: differences{known: map[differs]store.Difference{}, unsaved: map[differs]store.Difference{}}}, nil
}

// Ready is closed when rules are in force for the first time.
func (s *Set) Ready() <-chan struct{} { return s.ready }

// Version is the version of the rules in force; 0 before there are any.
func (s *Set) Version() uint64 {
	if now := s.now.Load(); now != nil {
		return now.version
	}
	return 0
}

// LastRead is when the database last told the version of the rules.
func (s *Set) LastRead() time.Time { return time.Unix(0, s.read.Load()) }

// Count is the number of rules in a state.
func (s *Set) Count(state store.RuleState) int {
	if now := s.now.Load(); now != nil {
		return now.counts[state]
	}
	return 0
}

// Find returns this side's rule in force for a table, a direction (rule.Upload or rule.Download) and a point. The error
// is ErrNotRead or that of Rule.Err.
func (s *Set) Find(table, direction, point string) (*Rule, error) {
	if s.now.Load() == nil {
		return nil, ErrNotRead
	}
	r := s.Lookup(table, direction, point)
	if err := r.Err(); err != nil {
		return nil, err
	}
	return r, nil
}

// Lookup is Find for a caller that wants the rule whatever its state; nil when there is none.
func (s *Set) Lookup(table, direction, point string) *Rule {
	now := s.now.Load()
	if now == nil {
		return nil
	}
	if r := now.here[key{table, direction, point}]; r != nil {
		return r
	}
	return now.here[key{table, direction, rule.AnyPoint}]
}

// Spelled is a table as the rule writes it that the database would take for the one of that name; the name itself when
// a rule has it or none comes near.
func (s *Set) Spelled(table, direction, point string) string {
	if now := s.now.Load(); now != nil && s.Lookup(table, direction, point) == nil {
		for _, rules := range [...]map[key]*Rule{now.here, now.folded} {
			for _, point := range [...]string{point, rule.AnyPoint} {
				if r := rules[key{fold(table), direction, point}]; r != nil {
					return r.Row.Table
				}
			}
		}
	}
	return table
}

// ForPoint returns the rules of this side that count for a point, in the order of id: its own rows, and those of every
// point where it has none. Some may be broken or switched off.
func (s *Set) ForPoint(point string) []*Rule {
	if now := s.now.Load(); now != nil {
		return forPoint(now.here, point)
	}
	return nil
}

// Client returns, at the centre, the rules that a point runs itself, and their version. It leaves out what is broken or
// switched off.
func (s *Set) Client(point string) (uint64, []rule.Row, error) {
	now := s.now.Load()
	if now == nil {
		return 0, nil, ErrNotRead
	}
	var rows []rule.Row
	for _, r := range forPoint(now.there, point) {
		if r.State != store.RuleDisabled && r.State != store.RuleBroken {
			rows = append(rows, r.Row)
		}
	}
	return now.version, rows, nil
}

func forPoint(rules map[key]*Rule, point string) (all []*Rule) {
	for k, r := range rules {
		if k.point == point || k.point == rule.AnyPoint && rules[key{k.table, k.direction, point}] == nil {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *Rule) int { return cmp.Compare(a.current.ID, b.current.ID) })
	return all
}

// Run polls until ctx ends, and records the last runs then.
func (s *Set) Run(ctx context.Context) {
	tick := time.NewTicker(s.o.Poll)
	defer tick.Stop()
	for sourceDown := false; ; {
		err := s.refreshInTime(ctx)
		if ctx.Err() == nil && (err != nil) != sourceDown {
			if sourceDown = err != nil; sourceDown {
				s.o.Logger.Warn().Err(err).Msg("rules cannot be read; those in force stay in force")
			} else {
				s.o.Logger.Info().Msg("rules can be read again")
			}
		}
		select {
		case <-ctx.Done():
			s.Flush(context.WithoutCancel(ctx))
			return
		case <-tick.C:
		}
	}
}

// A connection that has gone silent must not end the reading of rules: versionTimeout bounds the query that every round
// of Run begins with, refreshTimeout the round, which may compile very many rules.
const (
	versionTimeout = 10 * time.Second
	refreshTimeout = 2 * time.Minute
)

func (s *Set) refreshInTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	return s.Refresh(ctx)
}

func (s *Set) version(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	return s.o.Source.RulesVersion(ctx)
}

// Refresh does one round of Run: it brings an edit into force and records what there is to record.
func (s *Set) Refresh(ctx context.Context) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	version, err := s.version(ctx)
	if err != nil {
		return err
	}
	s.read.Store(s.o.Clock().UnixNano())
	old := s.now.Load()
	recheck := s.o.Clock().Sub(s.checked) >= s.o.Recheck
	if old == nil || version != old.version || recheck {
		if err := s.reload(ctx, version, old, recheck); err != nil {
			return err
		}
	}
	if s.statusPending {
		if err := s.recordStates(ctx, s.now.Load(), nil); err != nil {
			return err
		}
	}
	if err := s.recordDifferences(ctx); err != nil {
		return err
	}
	return s.recordRuns(ctx)
}

// reload makes a new snapshot of rows that did not change and of those that did, compiled anew, and swaps it in.
func (s *Set) reload(ctx context.Context, version uint64, old *snapshot, recheck bool) error {
	rows, err := s.o.Source.Rules(ctx)
	if err == nil && old == nil {
		err = s.loadDifferences(ctx)
	}
	if err != nil {
		return err
	}
	slices.SortFunc(rows, func(a, b rule.Row) int { return cmp.Compare(a.ID, b.ID) })
	next := &snapshot{version: version, byID: map[uint64]*Rule{}, alone: map[uint64]*Rule{}, here: map[key]*Rule{},
		folded: map[key]*Rule{}, there: map[key]*Rule{}, counts: map[store.RuleState]int{}}
	c := &compiler{o: &s.o, now: s.o.Clock(), recheck: recheck, facts: map[string]*rule.Table{}}
	changed := old == nil || old.version != version
	for _, row := range rows {
		if s.o.Side == rule.Client && row.User != rule.Client {
			next.elsewhere = append(next.elsewhere, store.RuleStatus{RuleID: row.ID, State: store.RuleElsewhere,
				CheckedAt: c.now})
			continue // a point runs no rules of the server
		}
		var last *Rule
		if old != nil {
			last = old.alone[row.ID]
		}
		r, err := c.rule(ctx, row, last)
		if err != nil {
			return err // the database went away in between; the next round begins again
		}
		changed = changed || r != last
		next.add(r, s.o.Side)
	}
	s.now.Store(next)
	if recheck {
		s.checked = c.now
	}
	if old == nil {
		close(s.ready)
	}
	if changed {
		s.o.Changed()
	}
	s.logStates(old, next)
	return s.recordStates(ctx, next, old)
}

// add puts r where Find looks. Of two rows for one key the one with the lower id is in force. The other gets a
// diagnostic.
func (n *snapshot) add(r *Rule, side string) {
	in := n.there
	if r.Row.User == side {
		in = n.here
	}
	n.alone[r.current.ID] = r
	k := key{r.Row.Table, r.Row.Type, r.Row.PointNo}
	switch other := in[k]; {
	case other == nil || other.State == store.RuleDisabled:
		in[k] = r
		if like := fold(k.table); r.Row.User == side && like != k.table {
			if k.table = like; n.folded[k] == nil || n.folded[k].State == store.RuleDisabled {
				n.folded[k] = r
			}
		}
	case r.State != store.RuleDisabled:
		r = r.duplicateOf(other.current.ID)
	}
	n.byID[r.current.ID] = r
	n.counts[r.State]++
}

// duplicateOf is r while another row for the same key is in force.
func (r *Rule) duplicateOf(id uint64) *Rule {
	d := rule.Diagnostic{Code: rule.DuplicateRule, Severity: rule.Error, RuleID: r.current.ID, Column: "sync_table",
		Message: fmt.Sprintf("row %d is for the same table, direction, side and point, and is the one in force", id),
		Fix:     "keep one of them"}
	return &Rule{State: store.RuleBroken, Row: r.current, Diagnostics: []rule.Diagnostic{d},
		current: r.current, checked: r.checked}
}
