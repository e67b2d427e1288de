package gateway

import (
	"context"
	"errors"
	"fmt"

	"syncgate/business"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// centre makes a store what business asks for: its types, and errors that have a number.
type centre struct{ *store.Store }

var (
	_ business.Store      = centre{}
	_ business.RuleSource = centre{}
	_ business.StatusSink = centre{}
)

// Apply implements business.Store.
func (c centre) Apply(ctx context.Context, uploads []*business.Upload) []business.Outcome {
	all := make([]*store.Upload, len(uploads))
	for i, u := range uploads {
		all[i] = (*store.Upload)(u)
	}
	outcomes := make([]business.Outcome, len(all))
	for i, o := range c.Store.Apply(ctx, all) {
		outcomes[i] = business.Outcome{Applied: o.Applied, ByOp: o.ByOp, Duplicate: o.Duplicate, Err: numbered(o.Err)}
		for _, q := range o.Quarantined {
			outcomes[i].Quarantined = append(outcomes[i].Quarantined, business.Quarantined{Row: q.Row, Code: q.Code})
		}
	}
	return outcomes
}

// Read implements business.Store.
func (c centre) Read(ctx context.Context, p *rule.Plan, e rule.Env, sink business.Sink) (business.Page, error) {
	page, err := c.Store.Read(ctx, p, e, reader{sink})
	return business.Page(page), numbered(err)
}

type reader struct{ business.Sink }

// Begin implements store.Sink.
func (r reader) Begin(statement int, columns []store.ColumnInfo) error {
	all := make([]protocol.Column, len(columns))
	for i, c := range columns {
		all[i] = protocol.Column(c)
	}
	return r.Sink.Begin(statement, all)
}

// Row implements store.Sink.
func (r reader) Row(values []any) error {
	err := r.Sink.Row(values)
	if errors.Is(err, business.ErrEnough) {
		return store.ErrEnough
	}
	return err
}

// RulesVersion implements business.RuleSource.
func (c centre) RulesVersion(ctx context.Context) (uint64, error) {
	version, err := c.Store.RulesVersion(ctx)
	return version, numbered(err)
}

// Rules implements business.RuleSource.
func (c centre) Rules(ctx context.Context) ([]rule.Row, error) {
	rows, err := c.Store.Rules(ctx)
	return rows, numbered(err)
}

// Table implements business.RuleSource.
func (c centre) Table(ctx context.Context, name string) (*rule.Table, error) {
	t, err := c.Store.Table(ctx, name)
	return t, numbered(err)
}

// CheckPlan implements business.RuleSource.
func (c centre) CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error) {
	ds, err := c.Store.CheckPlan(ctx, p, t)
	return ds, numbered(err)
}

// RecordStates implements business.StatusSink.
func (c centre) RecordStates(ctx context.Context, states []business.RuleStatus) error {
	all := make([]store.RuleStatus, len(states))
	for i, s := range states {
		all[i] = store.RuleStatus{RuleID: s.RuleID, State: store.RuleState(s.State.String()), CheckedAt: s.CheckedAt}
		if p := s.Problem; p != nil {
			all[i].Code, all[i].Column, all[i].Section, all[i].Line, all[i].Col = p.Code.String(), p.Column, p.Section, p.Line, p.Col
			all[i].Text = p.Message
			if p.Fix != "" {
				all[i].Text += "; " + p.Fix
			}
		}
	}
	return numbered(c.Store.SaveRuleStatus(ctx, all))
}

// RecordRuns implements business.StatusSink.
func (c centre) RecordRuns(ctx context.Context, runs []business.RuleRun) error {
	all := make([]store.RuleRuns, len(runs))
	for i, r := range runs {
		all[i] = store.RuleRuns(r)
	}
	return numbered(c.Store.AddRuleRuns(ctx, all))
}

// numbered gives an error of store the error of business that it amounts to.
func numbered(err error) error {
	var sql *store.SQLError
	var row *store.RowError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &sql):
		text := sql.Message
		if sql.Statement != "" {
			text += " in " + sql.Statement
		}
		return &business.SQLError{Number: sql.Code, Text: text}
	case errors.As(err, &row):
		return &business.RowError{Row: row.Row, Number: row.Code, Text: row.Reason}
	case errors.Is(err, store.ErrMismatch):
		return &business.MismatchError{Reason: err.Error()}
	}
	for _, known := range [...]struct{ of, is error }{
		{store.ErrUnavailable, business.ErrUnavailable},
		{store.ErrReadOnly, business.ErrReadOnly},
		{store.ErrRetry, business.ErrDeadlock},
		{store.ErrReused, business.ErrReused},
		{store.ErrNoTable, business.ErrNoTable},
	} {
		if errors.Is(err, known.of) {
			return fmt.Errorf("%w (%w)", known.is, err)
		}
	}
	return err
}
