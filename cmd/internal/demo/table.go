package demo

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

func createTable(ctx context.Context, db *sql.DB, name string, columns []column) error {
	lines := make([]string, len(columns))
	for i, c := range columns {
		lines[i] = "`" + c.name + "` " + c.kind
	}
	_, err := db.ExecContext(ctx, "CREATE TABLE `"+name+"` ("+strings.Join(lines, ", ")+") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4")
	return err
}

// fillRows is how many rows one statement loads.
const fillRows = 500

// fill loads rows with the plain driver in one transaction.
func fill(ctx context.Context, db *sql.DB, table string, s source, progress func(int)) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	one := "(" + strings.TrimSuffix(strings.Repeat("?, ", len(s.columns)), ", ") + ")"
	statement := func(rows int) string {
		return "INSERT INTO `" + table + "` VALUES " + strings.TrimSuffix(strings.Repeat(one+", ", rows), ", ")
	}
	full, err := tx.PrepareContext(ctx, statement(fillRows))
	if err != nil {
		return err
	}
	defer full.Close()
	var batch []any
	done := 0
	err = s.each(func(row []any) error {
		batch = append(batch, row...)
		if done++; len(batch) < fillRows*len(s.columns) {
			return nil
		}
		_, err := full.ExecContext(ctx, batch...)
		batch = batch[:0]
		progress(done)
		return err
	})
	if err == nil && len(batch) > 0 {
		_, err = tx.ExecContext(ctx, statement(len(batch)/len(s.columns)), batch...)
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
