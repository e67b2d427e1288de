package demo

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// column is one column of a demo table, as CREATE TABLE wants it.
type column struct{ name, kind string }

// source is a table's rows. each calls yield for every row; the slice is reused.
type source struct {
	columns []column
	rows    int
	each    func(yield func([]any) error) error
}

func createTable(ctx context.Context, db *sql.DB, name string, columns []column) error {
	lines := make([]string, len(columns))
	for i, c := range columns {
		lines[i] = "`" + c.name + "` " + c.kind
	}
	_, err := db.ExecContext(ctx, "CREATE TABLE `"+name+"` ("+strings.Join(lines, ", ")+") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4")
	return err
}

// fill loads rows with the plain driver in one transaction.
func fill(ctx context.Context, db *sql.DB, table string, s source, progress func(int)) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after a commit
	const most = 500    // rows of one statement
	one := "(?" + strings.Repeat(", ?", len(s.columns)-1) + ")"
	var batch []any
	insert := func() error {
		rows := len(batch) / len(s.columns)
		if rows == 0 {
			return nil
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO `"+table+"` VALUES "+one+strings.Repeat(", "+one, rows-1), batch...)
		batch = batch[:0]
		return err
	}
	done := 0
	err = s.each(func(row []any) error {
		batch = append(batch, row...)
		if done++; done%most != 0 {
			return nil
		}
		progress(done)
		return insert()
	})
	if err == nil {
		err = insert()
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// say prints a line, over what progress may have left.
func (d *demo) say(format string, args ...any) {
	line := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if d.Progress {
		line = "\r\x1b[K" + line
	}
	fmt.Fprintln(d.Out, line)
}

// progress shows how far a step has come, ten times a second at most, on a terminal.
func (d *demo) progress(what string, of int) func(int) {
	last := time.Time{}
	return func(n int) {
		if !d.Progress || time.Since(last) < 100*time.Millisecond {
			return
		}
		last = time.Now()
		const width = 30
		filled := min(width, width*n/max(of, 1))
		fmt.Fprintf(d.Out, "\r\x1b[K%-8s  %s%s %3d %%  %s", what, strings.Repeat("█", filled), strings.Repeat("░", width-filled), min(100, 100*n/max(of, 1)), thousands(n))
	}
}

// thousands writes a number as people read it: 63,666.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
