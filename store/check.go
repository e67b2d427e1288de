package store

import (
	"context"
	"errors"

	"syncgate/rule"
)

// CheckPlan has the database PREPARE every statement of a plan and says what it refuses, with the place in sync_sql.
// t may be nil. An error means that the database could not be asked.
func (s *Store) CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error) {
	return p.Check(t, func(sql string) (*rule.Refusal, error) {
		err := s.prepare(ctx, sql)
		if refused := (*SQLError)(nil); errors.As(err, &refused) {
			return &rule.Refusal{Number: uint16(refused.Code), Message: refused.Message}, nil
		}
		return nil, err
	})
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
