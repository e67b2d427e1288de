package store

import (
	"context"
	"errors"
	"strings"

	"syncgate/rule"
)

// CheckPlan has the database PREPARE every statement of a plan and says what it refuses, with the place in sync_sql.
// Where only the database knows the type of a state, CheckPlan puts its smallest value into the plan. t may be nil. An
// error means that the database could not be asked.
func (s *Store) CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error) {
	ds, err := p.Check(t, func(sql string) (*rule.Refusal, error) {
		err := s.prepare(ctx, sql)
		if refused := (*SQLError)(nil); errors.As(err, &refused) {
			return &rule.Refusal{Number: uint16(refused.Code), Message: refused.Message}, nil
		}
		return nil, err
	})
	if err != nil || len(ds) > 0 {
		return ds, err
	}
	return p.InferStates(func(sql string, values []any) ([]rule.Column, error) { return s.result(ctx, sql, values) })
}

// result gives the columns of a select whose values let it give no rows.
func (s *Store) result(ctx context.Context, sql string, values []any) (all []rule.Column, err error) {
	err = s.retry(ctx, func(c *conn) error {
		c.args = append(c.args[:0], values...)
		rows, err := c.query(ctx, sql)
		if err != nil {
			return err
		}
		all = nil
		for _, col := range columnsOf(rows) {
			kind, unsigned := strings.CutPrefix(strings.ToLower(col.Type), "unsigned ")
			all = append(all, rule.Column{Name: col.Name, Type: kind, Unsigned: unsigned, Binary: col.Binary})
		}
		return rows.Close()
	})
	if refused := (*SQLError)(nil); errors.As(err, &refused) {
		return nil, nil
	}
	return all, err
}

// prepare has the database PREPARE a statement, which finds unknown tables and columns and runs nothing. The error
// is a *SQLError when the statement is wrong.
func (s *Store) prepare(ctx context.Context, sql string) error {
	return s.retry(ctx, func(c *conn) error {
		p, err := c.PrepareContext(ctx, sql)
		if err != nil {
			return &statementError{sql: sql, err: err}
		}
		return p.Close()
	})
}
