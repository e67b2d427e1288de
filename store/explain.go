package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
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
