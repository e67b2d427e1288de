package business

import (
	"context"
	"errors"
	"reflect"
	"time"

	"syncgate/rule"
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
	e := &Entry{Row: row, latest: row, status: RuleStatus{RuleID: row.ID, CheckedAt: c.now}}
	unchanged := last != nil && last.latest == row
	switch {
	case unchanged && (!c.recheck || row.User == rule.Client || !row.Enabled):
		return last, nil
	case !row.Enabled:
		e.State = RuleDisabled
		return e, nil
	case row.User == rule.Client:
		// The point's tables are at the point, so that only what can be seen without them is looked at here.
		if row.SQL != "" {
			_, e.Diagnostics = rule.Compile(row, nil)
		}
	default:
		t, err := c.table(ctx, row.Table)
		if err != nil {
			return nil, err
		}
		if unchanged && last.State == RuleOK && reflect.DeepEqual(t, last.facts) {
			return last, nil
		}
		e.facts = t
		if err := c.plan(ctx, e, t); err != nil {
			return nil, err
		}
	}
	if e.status.Problem = e.problem(); e.status.Problem != nil {
		e.keep(last)
	}
	e.status.State = e.State
	return e, nil
}

// plan compiles e.Row and has every statement prepared.
func (c *compiler) plan(ctx context.Context, e *Entry, t *rule.Table) error {
	if t == nil && e.Row.SQL == "" {
		e.Diagnostics = []rule.Diagnostic{{Code: rule.UnknownTable, Severity: rule.Error, RuleID: e.Row.ID, Column: "sync_table",
			Message: "the table " + e.Row.Table + " is not in the database"}}
		return nil
	}
	plan, diagnostics := rule.Compile(e.Row, t)
	e.Plan, e.Diagnostics = plan, diagnostics
	if plan == nil {
		return nil
	}
	refused, err := c.source.CheckPlan(ctx, plan, t)
	e.Diagnostics = append(e.Diagnostics, refused...)
	return err
}

// keep makes e, whose row has an error, the last good version, where there is one.
func (e *Entry) keep(last *Entry) {
	e.State, e.Plan = RuleBroken, nil
	if last != nil && (last.State == RuleOK || last.State == RuleStale) {
		e.State, e.Plan, e.Row = RuleStale, last.Plan, last.Row
	}
}

func (c *compiler) table(ctx context.Context, name string) (*rule.Table, error) {
	if t, ok := c.facts[name]; ok {
		return t, nil
	}
	t, err := c.source.Table(ctx, name)
	if errors.Is(err, ErrNoTable) {
		t, err = nil, nil
	}
	if err == nil {
		c.facts[name] = t
	}
	return t, err
}
