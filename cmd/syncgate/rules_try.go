package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/internal/rowset"
	"syncgate/internal/text"
	"syncgate/rule"
	"syncgate/store"
)

func newRulesTry() *cobra.Command {
	var point, input string
	var execute bool
	const short = "Run a rule in a transaction that is rolled back: rows affected, samples; --execute to keep"
	cmd := onCentre("try ID", short, "", func(c *call) (err error) {
		plan, err := c.plan(c.id)
		if err != nil {
			return err
		}
		t := trial{out: c.out, plan: plan}
		if t.env, err = environmentFor(plan, point); err != nil {
			return err
		}
		takes := len(plan.Downside)+len(plan.UpdateState) > 0
		switch {
		case input != "" && !takes:
			return cli.Usage(fmt.Errorf("rule %d only reads rows; leave out --input", c.id))
		case input != "":
			if t.rows, err = readRows(input, plan.Fields); err != nil {
				return err
			}
		}
		if len(plan.Upside) == 0 && t.rows.Len() == 0 {
			return cli.Usage(fmt.Errorf("rule %d applies rows; name them with --input FILE, one JSON object a line "+
				"with the fields %s", c.id, strings.Join(plan.Fields, ", ")))
		}
		tx, err := c.db.Begin(c.Context())
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
	cmd.Flags().StringVar(&point, "point", "", "detection point to run it for (default the rule's)")
	cmd.Flags().StringVar(&input, "input", "", "`file` of rows to apply, one JSON object a line; - is standard input")
	cmd.Flags().BoolVar(&execute, "execute", false, "commit instead of rolling back")
	return cmd
}

// environmentFor is environment for the point of --point, or else the rule's.
func environmentFor(plan *rule.Plan, point string) (rule.Env, error) {
	of := plan.Row.PointNo
	switch {
	case point == "" && of == rule.AnyPoint:
		return rule.Env{}, cli.Usage(fmt.Errorf("rule %d is for every point; name one with --point", plan.Row.ID))
	case point == "":
		point = of
	case of != rule.AnyPoint && of != point:
		return rule.Env{}, cli.Usage(fmt.Errorf("rule %d is for point %s, not %s", plan.Row.ID, of, point))
	}
	return environment(point), nil
}

// environment has the values that a plan binds besides rows, with no carried state.
func environment(point string) rule.Env {
	return rule.Env{Point: point, Origin: point, Limit: rule.DefaultLimit, Wall: true}
}

// trial is one run of a rule, shown on the terminal.
type trial struct {
	out   io.Writer
	plan  *rule.Plan
	env   rule.Env
	rows  rowset.Rows
	count int         // rows of the statement so far
	shown []cli.Table // some of them, a table a statement
}

func (t *trial) run(ctx context.Context, tx *store.Tx) error {
	if len(t.plan.Upside) > 0 {
		began := time.Now()
		page, err := tx.Read(ctx, t.plan, t.env, t)
		for _, s := range t.shown {
			err = errors.Join(err, s.Flush())
		}
		if err != nil {
			return err
		}
		took := time.Since(began).Round(time.Millisecond)
		fmt.Fprintf(t.out, "upside: %s in %v\n", text.Plural(int(page.Rows), "row"), took)
	}
	if t.rows.Len() == 0 {
		return nil
	}
	if len(t.plan.Downside) > 0 {
		outcome, err := tx.Apply(ctx, t.plan, t.rows, t.env)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "downside: %d of %s applied", outcome.Applied, text.Plural(t.rows.Len(), "row"))
		for _, op := range slices.Sorted(maps.Keys(outcome.ByOp)) {
			fmt.Fprintf(t.out, ", %d by %s", outcome.ByOp[op], op)
		}
		fmt.Fprintln(t.out)
		for _, q := range outcome.Quarantined {
			fmt.Fprintf(t.out, "  row %d goes to quarantine: error %d: %s\n", q.Row, q.Code, q.Reason)
		}
	}
	if len(t.plan.UpdateState) > 0 {
		if err := tx.UpdateState(ctx, t.plan, t.rows, t.env); err != nil {
			return err
		}
		fmt.Fprintln(t.out, "update_state: done")
	}
	return nil
}

// Begin implements store.Sink: the heading of a statement's samples.
func (t *trial) Begin(_ int, columns []rowset.Column) error {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = fmt.Sprintf("%s (%s)", c.Name, strings.ToLower(c.Type))
	}
	t.count, t.shown = 0, append(t.shown, cli.NewTable(t.out, strings.Join(names, "\t")))
	return nil
}

// Row implements store.Sink: a sample.
func (t *trial) Row(values []any) error {
	const samples = 5
	if t.count++; t.count <= samples {
		cells := make([]any, len(values))
		for i, v := range values {
			cells[i] = cli.Sample(v)
		}
		t.shown[len(t.shown)-1].Row(cells...)
	}
	return nil
}

// readRows reads rows, one JSON object a line, whose names are the rule's fields. A missing field is NULL.
func readRows(path string, fields []string) (rowset.Rows, error) {
	rows := rowset.Rows{Columns: fields}
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return rows, fmt.Errorf("--input: %w", err)
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		row := make([]any, len(fields))
		if err := store.SetFields(lines.Text(), fields, row); err != nil {
			return rows, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		rows.Values = append(rows.Values, row...)
	}
	return rows, lines.Err()
}

func newRulesExplain() *cobra.Command {
	var point string
	const short = "Show a rule's bound SQL and the database's plan for it, with warnings for full scans"
	cmd := onCentre("explain ID", short, "", func(c *call) error {
		plan, err := c.plan(c.id)
		if err != nil {
			return err
		}
		env, err := environmentFor(plan, point)
		if err != nil {
			return err
		}
		env.Now = time.Now() // an example: the database plans by it
		env.Since, env.Until = plan.Window(env.Now)
		// A row of the table supplies the values of a row, so that the database plans for real values.
		values, err := c.db.SampleRow(c.Context(), plan.Row.Table, plan.Fields)
		if err != nil {
			return err
		}
		for i, phase := range [][]rule.Statement{plan.Upside, plan.Downside, plan.UpdateState} {
			for j := range phase {
				fmt.Fprintf(c.out, "%s: ", [...]string{"upside", "downside", "update_state"}[i])
				if err := c.explain(&phase[j], &env, values); err != nil {
					return err
				}
			}
		}
		return nil
	})
	cmd.Flags().StringVar(&point, "point", "", "detection point to bind it for (default the rule's)")
	return cmd
}

// explain prints one statement, what is bound to it, and EXPLAIN's rows.
func (c *call) explain(s *rule.Statement, env *rule.Env, row []any) error {
	if s.File != nil {
		fmt.Fprintf(c.out, "writes the file %s\n", s.File.Name)
		return nil
	}
	values, err := s.Bind(nil, env, row)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s\n  %s\n", s.Op, strings.ReplaceAll(s.SQL, "\n", "\n  "))
	for i, a := range s.Args {
		what := a.Source.String()
		if a.Name != "" && a.Name != what {
			what += " " + a.Name
		}
		fmt.Fprintf(c.out, "  ?%d  %s = %s\n", i+1, what, cli.Sample(values[i]))
	}
	return c.db.Explain(c.Context(), s.SQL, values, c.explainLine)
}

// explainLine prints one line of EXPLAIN and a warning where it reads too much.
func (c *call) explainLine(columns []string, row []sql.NullString) {
	get := map[string]string{}
	var parts []string
	for i, name := range columns {
		get[strings.ToLower(name)] = row[i].String
		if row[i].Valid {
			parts = append(parts, name+"="+row[i].String)
		}
	}
	fmt.Fprintf(c.out, "  plan: %s\n", strings.Join(parts, " "))
	const big = 1000                     // rows from which on reading a whole table is worth a warning
	rows, _ := strconv.Atoi(get["rows"]) // absent for a statement that reads nothing
	switch {
	case get["type"] == "ALL" && rows >= big:
		fmt.Fprintf(c.out, "  warning: reads all of %s, about %d rows; an index on the WHERE's columns avoids it\n",
			get["table"], rows)
	case get["type"] == "index" && rows >= big && strings.Contains(get["extra"], "filesort"):
		fmt.Fprintf(c.out, "  warning: walks a whole index of %s and sorts, about %d rows\n", get["table"], rows)
	}
}
