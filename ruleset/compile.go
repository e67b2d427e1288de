package ruleset

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"syncgate/rule"
	"syncgate/store"
)

// compiler makes the rules of one reload. It describes each table once.
type compiler struct {
	o       *Options
	now     time.Time
	recheck bool // look again at what did not change
	facts   map[string]*rule.Table
}

// rule is what row means after last, which may be nil. An error means that the database could not be asked; what is
// wrong with the row itself is in the Rule.
func (c *compiler) rule(ctx context.Context, row rule.Row, last *Rule) (*Rule, error) {
	r := &Rule{State: store.RuleOK, Row: row, current: row, fits: &fits{}, checked: c.now}
	unchanged := last != nil && last.current == row
	switch {
	case unchanged && (!c.recheck || !row.Enabled):
		return last, nil
	case !row.Enabled:
		r.State = store.RuleDisabled
		return r, nil
	}
	var err error
	if r.facts, err = c.table(ctx, row.Table); err != nil {
		return nil, err
	}
	if unchanged && last.State == store.RuleOK && reflect.DeepEqual(r.facts, last.facts) {
		return last, nil
	}
	if err = c.compile(ctx, r); err != nil {
		return nil, err
	}
	if r.Problem() != nil {
		r.keep(last)
	}
	if unchanged && last.Plan == r.Plan && sameState(last, r) {
		return last, nil // as broken as before
	}
	return r, nil
}

// compile makes r's plan. Where the rule reads changes that nothing records, it has them recorded first.
func (c *compiler) compile(ctx context.Context, r *Rule) (err error) {
	r.Plan, r.Diagnostics, err = Compile(ctx, c.o.Source, c.o.Side, r.current, r.facts)
	i := slices.IndexFunc(r.Diagnostics, func(d rule.Diagnostic) bool { return d.Code == rule.NotRecorded })
	if err != nil || i < 0 || c.o.Record == nil || r.facts == nil {
		return err
	}
	if err := c.o.Record(ctx, r.facts); err != nil {
		r.Diagnostics[i].Message += "; they could not be recorded: " + err.Error()
		return nil
	}
	delete(c.facts, r.current.Table)
	if r.facts, err = c.table(ctx, r.current.Table); err == nil {
		r.Plan, r.Diagnostics, err = Compile(ctx, c.o.Source, c.o.Side, r.current, r.facts)
	}
	return err
}

// PlanChecker has the database PREPARE every statement of a plan and says what it refuses.
type PlanChecker interface {
	CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error)
}

// Compile is what a row means at a side (rule.Server or rule.Client), the same to a Set and to `rules check`: its plan,
// and the diagnostics about it. t is nil when there is no such table. The other side's tables are not here. Of its rows
// Compile checks what can be seen without a table, takes the warnings and remarks of the table of that name here for
// what they are worth, and makes no plan. An error means that the database could not be asked.
func Compile(ctx context.Context, db PlanChecker, side string, row rule.Row, t *rule.Table) (
	*rule.Plan, []rule.Diagnostic, error) {
	switch {
	case row.User != side:
		return nil, otherSide(row, t), nil
	case row.SQL == "" && t == nil:
		return nil, []rule.Diagnostic{{Code: rule.UnknownTable, Severity: rule.Error, RuleID: row.ID,
			Column: "sync_table", Message: "there is no table " + row.Table,
			Fix: "create it, or correct the name"}}, nil
	}
	plan, ds := rule.Draft(row, t)
	refused, err := db.CheckPlan(ctx, plan, t)
	if worst, _ := rule.Worst(ds); worst == rule.Error {
		plan = nil
	}
	return plan, append(ds, refused...), err
}

// otherSide is what can be said here about a row of the other side.
func otherSide(row rule.Row, t *rule.Table) []rule.Diagnostic {
	_, ds := rule.Compile(row, nil)
	needsTable := func(d rule.Diagnostic) bool { return d.Code == rule.NoTableFacts }
	if t == nil || !slices.ContainsFunc(ds, needsTable) {
		return slices.DeleteFunc(ds, needsTable)
	}
	alike := *t
	alike.Unseen = false // the privilege is that of the other side's account
	_, likely := rule.Compile(row, &alike)
	ds = slices.DeleteFunc(ds, needsTable)
	for _, d := range likely {
		if d.Severity < rule.Error {
			d.Message += ", if the table there is like the one here"
			ds = append(ds, d)
		}
	}
	return ds
}

// keep puts the last good version of r, whose row has an error, in force where there is one. It is made anew when the
// table has been altered since.
func (r *Rule) keep(last *Rule) {
	r.State, r.Plan = store.RuleBroken, nil
	if last == nil || last.State != store.RuleOK && last.State != store.RuleStale {
		return
	}
	r.State, r.Row, r.Plan = store.RuleStale, last.Row, last.Plan
	if reflect.DeepEqual(r.facts, last.facts) {
		return
	}
	if plan, _ := rule.Compile(r.Row, r.facts); plan != nil {
		r.Plan = plan
		return
	}
	plan := *last.Plan
	r.Plan, plan.Table = &plan, r.facts
}

func (c *compiler) table(ctx context.Context, name string) (*rule.Table, error) {
	if t, ok := c.facts[name]; ok {
		return t, nil
	}
	t, err := c.o.Source.Table(ctx, name)
	if errors.Is(err, store.ErrNoTable) {
		t, err = nil, nil
	}
	if err == nil {
		c.facts[name] = t
	}
	return t, err
}
