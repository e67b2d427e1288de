package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

// samples is how many rows are shown of what an upside gives.
const samples = 5

func newRulesTry() *cobra.Command {
	r := &rulesCommand{}
	var point, input string
	var execute bool
	c := r.command("try ID", "Run a rule in a transaction that is rolled back: rows affected, samples; --execute to keep", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) (err error) {
			row, err := ruleByID(c.Context(), db, args[0])
			if err != nil {
				return err
			}
			plan, err := mustCompile(c, db, row)
			if err != nil {
				return err
			}
			t := trial{out: c.OutOrStdout(), plan: plan, env: environment(plan, point)}
			if len(plan.Downside)+len(plan.UpdateState) > 0 && input != "" {
				if t.rows, err = readInput(input, plan.Fields); err != nil {
					return err
				}
			}
			if len(plan.Upside) == 0 && t.rows.Len() == 0 {
				return cli.Usage(fmt.Errorf("rule %d applies rows; give some with --input FILE, one JSON object a line with the fields %s", row.ID, strings.Join(plan.Fields, ", ")))
			}
			tx, err := db.Begin(c.Context())
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, tx.Rollback()) }()
			if err := t.run(c.Context(), tx); err != nil {
				return err
			}
			if !execute {
				fmt.Fprintln(t.out, "rolled back; --execute keeps it")
				return nil
			}
			if err := tx.Commit(c.Context()); err != nil {
				return err
			}
			fmt.Fprintln(t.out, "committed")
			return nil
		})
	c.Flags().StringVar(&point, "point", "point-01", "detection point to run it for")
	c.Flags().StringVar(&input, "input", "", "`file` of rows to apply, one JSON object a line; - is standard input")
	c.Flags().BoolVar(&execute, "execute", false, "commit instead of rolling back")
	return c
}

// mustCompile gives the plan of a row, or says why there is none.
func mustCompile(c *cobra.Command, db *centre, row rule.Row) (*rule.Plan, error) {
	plan, ds, err := compile(c.Context(), db, row)
	if err != nil {
		return nil, err
	}
	for _, d := range ds {
		fmt.Fprintln(c.OutOrStdout(), d)
	}
	if worst, _ := rule.Worst(ds); plan == nil || worst == rule.Error {
		return nil, fmt.Errorf("rule %d cannot run", row.ID)
	}
	return plan, nil
}

// environment is what a plan is bound to besides rows, before anything was carried.
func environment(plan *rule.Plan, point string) rule.Env {
	now := time.Now().UTC()
	since, until := plan.Window(now)
	return rule.Env{Since: since, Until: until, Now: now, Point: point, Limit: rule.DefaultLimit}
}

// trial is one run of a rule for a person to look at.
type trial struct {
	out   io.Writer
	plan  *rule.Plan
	env   rule.Env
	rows  rule.Rows
	count int
	shown *tabwriter.Writer
}

func (t *trial) run(ctx context.Context, tx *store.Tx) error {
	if len(t.plan.Upside) > 0 {
		began := time.Now()
		page, err := tx.Read(ctx, t.plan, t.env, t)
		if t.shown != nil {
			err = errors.Join(err, t.shown.Flush())
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "upside: %d rows in %v\n", page.Rows, time.Since(began).Round(time.Millisecond))
	}
	if t.rows.Len() == 0 {
		return nil
	}
	if len(t.plan.Downside) > 0 {
		outcome, err := tx.Apply(ctx, t.plan, t.rows, t.env)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "downside: %d of %d rows applied", outcome.Applied, t.rows.Len())
		for op, n := range outcome.ByOp {
			fmt.Fprintf(t.out, ", %d by %s", n, op)
		}
		fmt.Fprintln(t.out)
		for _, q := range outcome.Quarantined {
			fmt.Fprintf(t.out, "  row %d would be quarantined: error %d: %s\n", q.Row, q.Code, q.Reason)
		}
	}
	if len(t.plan.UpdateState) > 0 {
		if err := tx.UpdateState(ctx, t.plan, t.rows, t.env); err != nil {
			return err
		}
		fmt.Fprintf(t.out, "update_state: done\n")
	}
	return nil
}

// Begin implements store.Sink: the heading of a statement's samples.
func (t *trial) Begin(_ int, columns []store.ColumnInfo) error {
	if t.shown != nil {
		if err := t.shown.Flush(); err != nil {
			return err
		}
	}
	t.count, t.shown = 0, tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	for _, c := range columns {
		fmt.Fprintf(t.shown, "%s (%s)\t", c.Name, strings.ToLower(c.Type))
	}
	fmt.Fprintln(t.shown)
	return nil
}

// Row implements store.Sink: a sample.
func (t *trial) Row(values []any) error {
	if t.count++; t.count <= samples {
		for _, v := range values {
			fmt.Fprintf(t.shown, "%s\t", sample(v))
		}
		fmt.Fprintln(t.shown)
	}
	return nil
}

// sample is a value as a person reads it in a table: one line, not too wide.
func sample(v any) string {
	const width = 40
	text := fmt.Sprint(v)
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		text = fmt.Sprintf("x'%x'", v)
	case string:
		text = strings.Trim(fmt.Sprintf("%q", v), `"`)
	}
	if r := []rune(text); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return text
}

// readInput reads rows, one JSON object a line, whose names are the rule's fields. A
// missing field is NULL; a name that is no field is an error that names it.
func readInput(path string, fields []string) (rule.Rows, error) {
	rows := rule.Rows{Columns: fields}
	in := io.Reader(os.Stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return rows, err
		}
		defer f.Close()
		in = f
	}
	at := map[string]int{}
	for i, f := range fields {
		at[f] = i
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		row := make([]any, len(fields))
		if err := readObject(lines.Bytes(), at, row); err != nil {
			return rows, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		rows.Values = append(rows.Values, row...)
	}
	return rows, lines.Err()
}

func readObject(text []byte, at map[string]int, row []any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return err
	}
	for name, v := range object {
		i, ok := at[name]
		if !ok {
			return fmt.Errorf("%q is not a field of the rule", name)
		}
		switch v := v.(type) {
		case nil, string:
			row[i] = v
		case bool:
			row[i] = int64(0)
			if v {
				row[i] = int64(1)
			}
		case json.Number:
			row[i] = v.String() // as text, so that no digit is lost; the column makes a number of it
		default:
			return fmt.Errorf("field %q is neither text nor number nor null", name)
		}
	}
	return nil
}

func newRulesExplain() *cobra.Command {
	r := &rulesCommand{}
	var point string
	c := r.command("explain ID", "Show a rule's bound SQL and the database's plan for it, with warnings for full scans", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			row, err := ruleByID(c.Context(), db, args[0])
			if err != nil {
				return err
			}
			plan, err := mustCompile(c, db, row)
			if err != nil {
				return err
			}
			env := environment(plan, point)
			for _, phase := range []struct {
				name       string
				statements []rule.Statement
			}{{"upside", plan.Upside}, {"downside", plan.Downside}, {"update_state", plan.UpdateState}} {
				for i := range phase.statements {
					if err := explain(c, db, plan, phase.name, &phase.statements[i], &env); err != nil {
						return err
					}
				}
			}
			return nil
		})
	c.Flags().StringVar(&point, "point", "point-01", "detection point to bind it for")
	return c
}

// explain prints one statement, what is bound to it, and EXPLAIN's rows. Values of a row
// in hand are those of some row of the table, so that the plan is one for real values.
func explain(c *cobra.Command, db *centre, plan *rule.Plan, phase string, s *rule.Statement, env *rule.Env) error {
	out := c.OutOrStdout()
	if s.File != nil {
		fmt.Fprintf(out, "%s: writes the file %s\n", phase, s.File.Name)
		return nil
	}
	row, err := db.SampleRow(c.Context(), plan.Row.Table, plan.Fields)
	if err != nil {
		return err
	}
	values, err := s.Bind(nil, env, row)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %s\n  %s\n", phase, s.Op, strings.ReplaceAll(s.SQL, "\n", "\n  "))
	for i, a := range s.Args {
		fmt.Fprintf(out, "  ?%d  %s %s = %s\n", i+1, a.Source, a.Name, sample(values[i]))
	}
	return db.Explain(c.Context(), s.SQL, values, func(columns []string, row []sql.NullString) {
		explainRow(out, columns, row)
	})
}

// bigScan is from how many rows on reading a whole table is worth a warning.
const bigScan = 1000

// explainRow prints one line of EXPLAIN and what is wrong with it.
func explainRow(out io.Writer, columns []string, row []sql.NullString) {
	get := map[string]string{}
	var parts []string
	for i, name := range columns {
		get[strings.ToLower(name)] = row[i].String
		if row[i].Valid {
			parts = append(parts, name+"="+row[i].String)
		}
	}
	fmt.Fprintf(out, "  plan: %s\n", strings.Join(parts, " "))
	var rows int
	_, _ = fmt.Sscan(get["rows"], &rows) // absent for a statement that reads nothing
	switch {
	case get["type"] == "ALL" && rows >= bigScan:
		fmt.Fprintf(out, "  warning: reads all of %s, about %d rows; an index on the columns of the WHERE would spare that\n", get["table"], rows)
	case get["type"] == "index" && rows >= bigScan && strings.Contains(get["extra"], "filesort"):
		fmt.Fprintf(out, "  warning: walks a whole index of %s and sorts, about %d rows\n", get["table"], rows)
	}
}
