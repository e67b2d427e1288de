package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"syncgate/rule"
)

// Explain runs EXPLAIN for a statement with these values and calls line for each line of the result.
func (s *Store) Explain(
	ctx context.Context, query string, values []any, line func(columns []string, row []sql.NullString),
) error {
	rows, err := s.db.QueryContext(ctx, "EXPLAIN "+query, values...)
	if err != nil {
		return public(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return public(err)
	}
	row, scan := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range row {
		scan[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(scan...); err != nil {
			return public(err)
		}
		line(columns, row)
	}
	return public(rows.Err())
}

// SampleRow reads the values of these fields from any row of a table. They are NULL when the table is empty, or has no
// such field.
func (s *Store) SampleRow(ctx context.Context, table string, fields []string) ([]any, error) {
	row := make([]any, len(fields))
	facts, err := s.Table(ctx, table)
	if errors.Is(err, ErrNoTable) || len(fields) == 0 {
		return row, nil
	}
	if err != nil {
		return nil, err
	}
	list, scan := make([]string, len(fields)), make([]any, len(fields))
	for i, f := range fields {
		scan[i] = &row[i]
		if list[i] = "NULL"; facts.Column(f) != nil {
			list[i] = quoteName(f)
		}
	}
	return row, public(s.each(ctx, "SELECT "+strings.Join(list, ", ")+" FROM "+facts.Quoted()+" LIMIT 1",
		func(read scanner) error { return read(scan...) }))
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

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
