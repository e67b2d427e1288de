package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"

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
			list[i] = rule.Quote(f)
		}
	}
	return row, public(s.each(ctx, "SELECT "+strings.Join(list, ", ")+" FROM "+facts.Quoted()+" LIMIT 1",
		func(read scanner) error { return read(scan...) }))
}

// CheckPlan has the database PREPARE every statement of a plan and says what it refuses, with the place in sync_sql.
// Where only the database knows the type of a state, CheckPlan puts its smallest value into the plan. t may be nil. An
// error means that the database could not be asked.
func (s *Store) CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error) {
	return s.check(ctx, p, t, func(sql string) (*rule.Refusal, error) { return s.refusal(ctx, sql) })
}

func (s *Store) check(
	ctx context.Context, p *rule.Plan, t *rule.Table, prepare rule.Prepare,
) ([]rule.Diagnostic, error) {
	ds, err := p.Check(t, prepare)
	if err != nil || len(ds) > 0 {
		return ds, err
	}
	return p.InferStates(func(sql string, values []any) ([]rule.Column, error) { return s.result(ctx, sql, values) })
}

// refusal is what the database has against a statement, nil when it has nothing.
func (s *Store) refusal(ctx context.Context, sql string) (*rule.Refusal, error) {
	err := s.prepare(ctx, sql)
	if refused := (*SQLError)(nil); errors.As(err, &refused) {
		return &rule.Refusal{Number: uint16(refused.Code), Message: refused.Message}, nil
	}
	return nil, err
}

// Checker is for one look at many rules: it asks the database about each table and each statement once. Several
// goroutines may use it.
type Checker struct {
	s        *Store
	mu       sync.Mutex
	tables   map[string]*rule.Table
	refusals map[string]*rule.Refusal
}

// NewChecker makes a Checker that knows nothing yet.
func (s *Store) NewChecker() *Checker {
	return &Checker{s: s, tables: map[string]*rule.Table{}, refusals: map[string]*rule.Refusal{}}
}

// CheckPlan does as Store.CheckPlan does.
func (c *Checker) CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error) {
	return c.s.check(ctx, p, t, func(sql string) (*rule.Refusal, error) {
		return once(c, c.refusals, sql, func() (*rule.Refusal, error) { return c.s.refusal(ctx, sql) })
	})
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

// Table does as Store.Table does, but returns nil when there is no such table.
func (c *Checker) Table(ctx context.Context, name string) (*rule.Table, error) {
	return once(c, c.tables, name, func() (*rule.Table, error) {
		t, err := c.s.Table(ctx, name)
		if errors.Is(err, ErrNoTable) {
			return nil, nil
		}
		return t, err
	})
}

// once returns what is known under key, or asks. Two that ask at once both ask.
func once[T any](c *Checker, known map[string]T, key string, ask func() (T, error)) (T, error) {
	c.mu.Lock()
	v, ok := known[key]
	c.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := ask()
	if err == nil {
		c.mu.Lock()
		known[key] = v
		c.mu.Unlock()
	}
	return v, err
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
