package business

import (
	"context"
	"errors"
	"reflect"
	"time"

	"syncgate/rule"
	"syncgate/store"
)

// compiler makes the entries of one reload. Tables are described once a reload.
type compiler struct {
	source  RuleSource
	now     time.Time
	recheck bool // look again at what did not change
	facts   map[string]*rule.Table
}

// entry is what row means after last, which may be nil. An error means that the database could not be asked; anything
// that is wrong with the row itself is in the entry.
func (c *compiler) entry(ctx context.Context, row rule.Row, last *Entry) (*Entry, error) {
	e := &Entry{State: store.RuleOK, Row: row, latest: row, status: store.RuleStatus{RuleID: row.ID, CheckedAt: c.now}}
	unchanged := last != nil && last.latest == row
	switch {
	case unchanged && (!c.recheck || row.User == rule.Client || !row.Enabled):
		return last, nil
	case !row.Enabled:
		e.State = store.RuleDisabled
		return e, nil
	}
	var err error
	if row.User == rule.Server {
		if e.facts, err = c.table(ctx, row.Table); err != nil {
			return nil, err
		}
		if unchanged && last.State == store.RuleOK && reflect.DeepEqual(e.facts, last.facts) {
			return last, nil
		}
	}
	if e.Plan, e.Diagnostics, err = Compile(ctx, c.source, row, e.facts); err != nil {
		return nil, err
	}
	if e.status.Problem = e.problem(); e.status.Problem != nil {
		e.keep(last)
	}
	e.status.State = e.State
	return e, nil
}

// PlanChecker has the database PREPARE every statement of a plan and says what it refuses.
type PlanChecker interface {
	CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error)
}

// Compile is what a row means at the centre, the same to the server and to `rules check`: its plan, and what is to be
// said about it. t is nil when there is no such table. A point's tables are at the point, so that of its rows only what
// can be seen without them is looked at, and there is no plan. An error means that the database could not be asked.
func Compile(ctx context.Context, db PlanChecker, row rule.Row, t *rule.Table) (*rule.Plan, []rule.Diagnostic, error) {
	switch {
	case row.User == rule.Client && row.SQL == "":
		return nil, nil, nil
	case row.User == rule.Client:
		_, ds := rule.Compile(row, nil)
		return nil, ds, nil
	case row.User == rule.Server && row.SQL == "" && t == nil:
		return nil, []rule.Diagnostic{{Code: rule.UnknownTable, Severity: rule.Error, RuleID: row.ID, Column: "sync_table",
			Message: "there is no table " + row.Table, Fix: "create it, or correct the name"}}, nil
	}
	plan, ds := rule.Draft(row, t)
	refused, err := db.CheckPlan(ctx, plan, t)
	if worst, _ := rule.Worst(ds); worst == rule.Error {
		plan = nil
	}
	return plan, append(ds, refused...), err
}

// keep makes e, whose row has an error, the last good version, where there is one.
func (e *Entry) keep(last *Entry) {
	e.State, e.Plan = store.RuleBroken, nil
	if last != nil && (last.State == store.RuleOK || last.State == store.RuleStale) {
		e.State, e.Plan, e.Row = store.RuleStale, last.Plan, last.Row
	}
}

func (c *compiler) table(ctx context.Context, name string) (*rule.Table, error) {
	if t, ok := c.facts[name]; ok {
		return t, nil
	}
	t, err := c.source.Table(ctx, name)
	if errors.Is(err, store.ErrNoTable) {
		t, err = nil, nil
	}
	if err == nil {
		c.facts[name] = t
	}
	return t, err
}
