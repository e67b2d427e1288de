package business

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"syncgate/rule"
	"syncgate/store"
)

// RuleSource is where rules and the facts about their tables are read.
type RuleSource interface {
	// RulesVersion changes with every edit of sync_control, and is cheap to ask.
	RulesVersion(ctx context.Context) (uint64, error)
	Rules(ctx context.Context) ([]rule.Row, error)
	// Table describes a table; store.ErrNoTable when it is not there.
	Table(ctx context.Context, name string) (*rule.Table, error)
	PlanChecker
}

// StatusSink keeps what is known about each rule where the DBA sees it.
type StatusSink interface {
	SaveRuleStatus(ctx context.Context, states []store.RuleStatus) error
	AddRuleRuns(ctx context.Context, runs []store.RuleRuns) error
}

// Entry is one rule in force. It is immutable.
type Entry struct {
	State       store.RuleState
	Row         rule.Row   // the version in force; for a broken or disabled rule the latest
	Plan        *rule.Plan // nil when nothing is in force, and for the point's own rules, which the point compiles
	Diagnostics []rule.Diagnostic

	of     *Entry      // the entry as it was before another row of the same key was found; nil: this one
	latest rule.Row    // the row as it stands
	facts  *rule.Table // what latest was compiled against
	status store.RuleStatus
}

// problem is the first error, or nil.
func (e *Entry) problem() *rule.Diagnostic {
	for i := range e.Diagnostics {
		if e.Diagnostics[i].Severity == rule.Error {
			return &e.Diagnostics[i]
		}
	}
	return nil
}

// RegistryOptions make a Registry. A zero field takes the default named beside it.
type RegistryOptions struct {
	Source RuleSource // required
	Sink   StatusSink // required

	Poll    time.Duration        // how often the version is asked; 1 s
	Recheck time.Duration        // how often tables are looked at again, and rules that did not compile; 15 polls
	Changed func(version uint64) // called after a new set came into force; may be nil

	Clock  func() time.Time // time.Now
	Logger zerolog.Logger
}

// Registry holds the rules in force. Reading it takes no lock and asks no database; Run keeps it up to date.
type Registry struct {
	o     RegistryOptions
	now   atomic.Pointer[snapshot]
	ready chan struct{} // closed when the first set came into force

	mu   sync.Mutex
	runs map[uint64]*store.RuleRuns // since the last flush

	// Of Run's goroutine alone.
	checked  time.Time
	away     bool // the last poll failed
	unstated bool // some state has not been recorded
}

// snapshot is the set of rules at one version.
type snapshot struct {
	version uint64
	byID    map[uint64]*Entry
	server  map[ruleKey]*Entry
	client  map[ruleKey]*Entry
	counts  map[store.RuleState]int
}

type ruleKey struct{ table, kind, point string }

// NewRegistry checks o and makes an empty registry.
func NewRegistry(o RegistryOptions) (*Registry, error) {
	if o.Source == nil || o.Sink == nil {
		return nil, errors.New("business: a registry needs a Source and a Sink")
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
		o.Changed = func(uint64) {}
	}
	return &Registry{o: o, ready: make(chan struct{}), runs: map[uint64]*store.RuleRuns{}}, nil
}

// Ready is closed when rules are in force for the first time.
func (g *Registry) Ready() <-chan struct{} { return g.ready }

// Version is the version of the rules in force; 0 before there are any.
func (g *Registry) Version() uint64 {
	if s := g.now.Load(); s != nil {
		return s.version
	}
	return 0
}

// Count is the number of rules in a state.
func (g *Registry) Count(s store.RuleState) int {
	if now := g.now.Load(); now != nil {
		return now.counts[s]
	}
	return 0
}

// Find returns the server's rule in force for a table, a direction (rule.Upload or rule.Download) and a point. A point's own row
// is taken, whatever its state, before the row of every point. The error is store.ErrUnavailable before rules were ever read,
// ErrNoRule, ErrRuleDisabled or *BrokenError.
func (g *Registry) Find(table, kind, point string) (*Entry, error) {
	now := g.now.Load()
	if now == nil {
		return nil, fmt.Errorf("%w: the rules have not been read yet", store.ErrUnavailable)
	}
	e := now.server[ruleKey{table, kind, point}]
	if e == nil {
		e = now.server[ruleKey{table, kind, rule.AnyPoint}]
	}
	switch {
	case e == nil:
		return nil, ErrNoRule
	case e.State == store.RuleDisabled:
		return nil, ErrRuleDisabled
	case e.Plan == nil:
		return nil, &BrokenError{Problem: *e.problem()}
	}
	return e, nil
}

// Client returns the rules the point runs itself, and their version: its own rows, and those of every point where it has
// none.
func (g *Registry) Client(point string) (uint64, []rule.Row, error) {
	now := g.now.Load()
	if now == nil {
		return 0, nil, fmt.Errorf("%w: the rules have not been read yet", store.ErrUnavailable)
	}
	var rows []rule.Row
	for k, e := range now.client {
		switch {
		case e.State == store.RuleDisabled || e.State == store.RuleBroken:
		case k.point == point:
			rows = append(rows, e.Row)
		case k.point == rule.AnyPoint && now.client[ruleKey{k.table, k.kind, point}] == nil:
			rows = append(rows, e.Row)
		}
	}
	slices.SortFunc(rows, func(a, b rule.Row) int { return int(int64(a.ID) - int64(b.ID)) })
	return now.version, rows, nil
}

// Run polls until ctx ends, and returns nil then. While the database is away the rules stay as they are.
func (g *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(g.o.Poll)
	defer tick.Stop()
	for {
		err := g.Refresh(ctx)
		if ctx.Err() == nil && (err != nil) != g.away {
			if g.away = err != nil; g.away {
				g.o.Logger.Warn().Err(err).Msg("rules cannot be read; those in force stay in force")
			} else {
				g.o.Logger.Info().Msg("rules can be read again")
			}
		}
		select {
		case <-ctx.Done():
			if err := g.flush(context.WithoutCancel(ctx)); err != nil {
				g.o.Logger.Warn().Err(err).Msg("the last runs of rules are not recorded")
			}
			return nil
		case <-tick.C:
		}
	}
}

// Refresh does one round of Run: it brings an edit into force and records what there is to record. Only one goroutine
// may call it at a time.
func (g *Registry) Refresh(ctx context.Context) error {
	version, err := g.o.Source.RulesVersion(ctx)
	if err != nil {
		return err
	}
	old := g.now.Load()
	recheck := g.o.Clock().Sub(g.checked) >= g.o.Recheck
	if old == nil || version != old.version || recheck {
		if err := g.reload(ctx, version, old, recheck); err != nil {
			return err
		}
	}
	if g.unstated {
		if err := g.recordStates(ctx, g.now.Load(), nil); err != nil {
			return err
		}
	}
	return g.flush(ctx)
}

// reload makes a new snapshot of rows that did not change and of those that did, compiled anew, and swaps it in.
func (g *Registry) reload(ctx context.Context, version uint64, old *snapshot, recheck bool) error {
	rows, err := g.o.Source.Rules(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(rows, func(a, b rule.Row) int { return int(int64(a.ID) - int64(b.ID)) })
	next := &snapshot{version: version, byID: map[uint64]*Entry{}, server: map[ruleKey]*Entry{}, client: map[ruleKey]*Entry{}, counts: map[store.RuleState]int{}}
	c := &compiler{source: g.o.Source, now: g.o.Clock(), recheck: recheck, facts: map[string]*rule.Table{}}
	for _, row := range rows {
		var last *Entry
		if old != nil {
			last = old.byID[row.ID].alone()
		}
		e, err := c.entry(ctx, row, last)
		if err != nil {
			return err // the database went away in between; the next round begins again
		}
		next.add(e)
	}
	g.now.Store(next)
	if recheck {
		g.checked = c.now
	}
	if old == nil {
		close(g.ready)
	}
	if old == nil || old.version != version {
		g.o.Changed(version)
	}
	g.logStates(old, next)
	return g.recordStates(ctx, next, old)
}

// add puts e where Find looks. Of two rows for one key the one with the lower id holds, and the other is told so.
func (s *snapshot) add(e *Entry) {
	in := s.server
	if e.Row.User == rule.Client {
		in = s.client
	}
	key := ruleKey{e.Row.Table, e.Row.Type, e.Row.PointNo}
	switch other := in[key]; {
	case other == nil || other.State == store.RuleDisabled:
		in[key] = e
	case e.State != store.RuleDisabled:
		e = e.shadowed(other.latest.ID)
	}
	s.byID[e.latest.ID] = e
	s.counts[e.State]++
}

// shadowed is e while another row for the same key is in force.
func (e *Entry) shadowed(by uint64) *Entry {
	d := rule.Diagnostic{Code: rule.DuplicateRule, Severity: rule.Error, RuleID: e.latest.ID, Column: "sync_table",
		Message: fmt.Sprintf("row %d is for the same table, direction, side and point, and is the one in force", by), Fix: "keep one of them"}
	s := &Entry{State: store.RuleBroken, Row: e.latest, Diagnostics: []rule.Diagnostic{d}, of: e, latest: e.latest, status: e.status}
	s.status.State, s.status.Problem = s.State, &s.Diagnostics[0]
	return s
}

// alone is the entry without regard to other rows; nil when there is none.
func (e *Entry) alone() *Entry {
	if e == nil || e.of == nil {
		return e
	}
	return e.of
}

func (g *Registry) logStates(old, next *snapshot) {
	for id, e := range next.byID {
		if old != nil && old.byID[id] != nil && sameState(old.byID[id], e) {
			continue
		}
		p := e.problem()
		log := g.o.Logger.Info()
		if p != nil {
			log = g.o.Logger.Error().Str("code", p.Code.String()).Str("problem", p.String())
		}
		log.Uint64("rule", id).Str("table", e.latest.Table).Str("type", e.latest.Type).Str("point", e.latest.PointNo).
			Str("state", string(e.State)).Msg("rule")
	}
	if old == nil {
		return
	}
	for id, e := range old.byID {
		if next.byID[id] == nil {
			g.o.Logger.Info().Uint64("rule", id).Str("table", e.latest.Table).Msg("rule deleted")
		}
	}
}

// sameState reports whether b says nothing that a has not said.
func sameState(a, b *Entry) bool {
	return a == b || a.State == b.State && a.latest == b.latest && reflect.DeepEqual(a.problem(), b.problem())
}

// recordStates hands the sink every state that differs from old's. What could not be recorded is recorded in a later
// round, all states together.
func (g *Registry) recordStates(ctx context.Context, next, old *snapshot) error {
	var states []store.RuleStatus
	for id, e := range next.byID {
		if e.State == store.RuleDisabled || old != nil && !g.unstated && old.byID[id] != nil && sameState(old.byID[id], e) {
			continue
		}
		states = append(states, e.status)
	}
	if len(states) == 0 {
		g.unstated = false
		return nil
	}
	g.unstated = true
	if err := g.o.Sink.SaveRuleStatus(ctx, states); err != nil {
		return fmt.Errorf("record the states of rules: %w", err)
	}
	g.unstated = false
	return nil
}
