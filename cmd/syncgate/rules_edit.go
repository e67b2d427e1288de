package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/internal/text"
	"syncgate/rule"
	"syncgate/store"
)

// notRecorded explains an empty history.
const notRecorded = "no edit is recorded; where the account may not create triggers none is (see 'syncgate doctor')"

func newRulesHistory() *cobra.Command {
	var limit uint
	const short = "List the edits of a rule, or of all rules, the newest first"
	cmd := onCentre("history [ID]", short, textOrJSON, func(c *call) error {
		edits, err := c.db.History(c.Context(), c.id, int(limit))
		if err == nil && len(edits) == 0 && c.format == "text" {
			_, err = fmt.Fprintln(c.out, notRecorded)
			return err
		}
		if err != nil {
			return err
		}
		return list(c, edits, "EDIT\tRULE\tWHEN\tBY\tACTION\tCOLUMNS", func(e *store.Edit) []any {
			var columns []string
			if e.Action == "update" {
				for _, d := range rowDiff(e.Before, e.After) {
					columns = append(columns, d.column)
				}
			}
			return []any{e.ID, e.RuleID, e.At, e.By, e.Action, strings.Join(columns, " ")}
		})
	})
	cmd.Flags().UintVar(&limit, "limit", 50, "edits at most")
	return cmd
}

// onEdit makes a command about the newest edit of a rule, or the one of --edit. now is the current row.
func onEdit(use, short, usage string, run func(c *call, e store.Edit, now *rule.Row) error) *cobra.Command {
	var number uint64
	cmd := onCentre(use+" ID", short, "", func(c *call) error {
		const most = 10000 // more than anybody makes by hand, and little to read
		edits, err := c.db.History(c.Context(), c.id, most)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(edits, func(e store.Edit) bool { return number == 0 || e.ID == number })
		switch {
		case len(edits) == 0:
			return fmt.Errorf("rule %d: %s", c.id, notRecorded)
		case i < 0:
			return fmt.Errorf("no edit %d of rule %d is recorded; 'syncgate rules history %d' lists its edits",
				number, c.id, c.id)
		}
		return run(c, edits[i], edits[0].After)
	})
	cmd.Flags().Uint64Var(&number, "edit", 0, usage)
	return cmd
}

func newRulesDiff() *cobra.Command {
	const short = "Show what an edit of a rule changed; the newest, or --edit N of its history"
	return onEdit("diff", short, "number of the edit (default the newest)",
		func(c *call, e store.Edit, _ *rule.Row) error {
			fmt.Fprintf(c.out, "edit %d of rule %d: %s by %s at %s\n", e.ID, e.RuleID, e.Action, e.By, cli.Stamp(e.At))
			writeDiff(c.out, rowDiff(e.Before, e.After))
			return nil
		})
}

func newRulesRevert() *cobra.Command {
	const short = "Undo the newest edit of a rule, or with --edit N go back to before that one"
	return onEdit("revert", short, "go back to before this edit (default the newest)",
		func(c *call, e store.Edit, now *rule.Row) error {
			if e.Before == nil {
				return fmt.Errorf("edit %d made rule %d; it has no earlier version (enabled = 0 switches a rule off)",
					e.ID, e.RuleID)
			}
			if _, err := c.db.SaveRule(c.Context(), *e.Before); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "rule %d is as it was before edit %d\n", e.RuleID, e.ID)
			writeDiff(c.out, rowDiff(now, e.Before))
			return nil
		})
}

func newRulesConvert() *cobra.Command {
	var write bool
	const short = "Show rows of the original's form as plain SQL, and with --write convert them"
	cmd := onCentre("convert [ID]", short, "", func(c *call) error {
		rows, err := c.db.Rules(c.Context())
		if c.id != 0 && err == nil {
			rows = make([]rule.Row, 1)
			rows[0], err = c.rule(c.id)
		}
		if err != nil {
			return err
		}
		return convert(c, rows, write)
	})
	cmd.Flags().BoolVar(&write, "write", false, "write the converted rows into sync_control")
	return cmd
}

// convert shows what would change in each row, and with write changes it. It names rows that cannot be converted and
// converts the others.
func convert(c *call, rows []rule.Row, write bool) error {
	changed, failed := 0, 0
	for _, row := range rows {
		table, err := c.table(row.Table)
		if err != nil {
			return err
		}
		if draft, _ := rule.Draft(row, table); draft.Form < rule.JSON {
			continue // it is plain SQL, or has none
		}
		converted, ds, err := rule.Convert(row, table)
		if err != nil {
			failed++
			fmt.Fprintln(c.out, err)
			continue
		}
		diff := rowDiff(&row, &converted)
		if len(diff) == 0 {
			continue
		}
		changed++
		fmt.Fprintf(c.out, "rule %d: %s of %s\n", row.ID, row.Type, row.Table)
		writeDiff(c.out, diff)
		for _, d := range ds {
			fmt.Fprintln(c.out, d)
		}
		if write {
			if _, err := c.db.SaveRule(c.Context(), converted); err != nil {
				return fmt.Errorf("rule %d: %w", row.ID, err)
			}
		}
	}
	switch {
	case changed == 0 && failed == 0:
		fmt.Fprintln(c.out, "no row has the original's form")
	case changed > 0 && write:
		fmt.Fprintf(c.out, "%s changed\n", text.Plural(changed, "row"))
	case changed > 0:
		fmt.Fprintf(c.out, "%s would change; --write does it\n", text.Plural(changed, "row"))
	}
	if failed > 0 {
		return fmt.Errorf("%s could not be converted", text.Plural(failed, "row"))
	}
	return nil
}

func newRulesInit() *cobra.Command {
	var point, where, conflict string
	var types []string
	var both, dry, changes, write bool
	const short = "Write rules for a table; syncgate generates their SQL from the table's columns"
	cmd := onCentre("init TABLE", short, "", func(c *call) error {
		for _, t := range types {
			if err := cli.OneOf("type", t, rule.Upload, rule.Download); err != nil {
				return err
			}
		}
		table, err := c.table(c.args[0])
		if err != nil {
			return err
		}
		if table == nil {
			return fmt.Errorf("the database has no table %s; create it first, with its columns", c.args[0])
		}
		options, remote := "", table // what the other side's table is like
		if mark := table.UpdateColumn(); mark != "" {
			options = "watermark " + mark
		}
		if changes {
			options, dry = strings.TrimSuffix("changes, "+conflict, ", "), !write
			if table, remote, err = c.recordChanges(table, slices.Contains(types, rule.Download), write); err != nil {
				return err
			}
		}
		rows := rule.Init(c.args[0], point, options, where, types...)
		if !both {
			rows = slices.DeleteFunc(rows, func(r rule.Row) bool { return r.User == rule.Client })
		}
		tables := map[string]*rule.Table{rule.Server: table, rule.Client: remote}
		for i := range rows {
			if err := c.mayInit(&rows[i], tables[rows[i].User], changes); err != nil {
				return err
			}
		}
		for _, row := range rows {
			if !dry {
				if row.ID, err = c.db.SaveRule(c.Context(), row); err != nil {
					return err
				}
			}
			plan, ds := rule.Compile(row, tables[row.User])
			fmt.Fprint(c.out, plan.Describe())
			if err := c.verdict(row, ds); err != nil {
				return err
			}
		}
		return nil
	})
	f := cmd.Flags()
	f.StringVar(&point, "point", rule.AnyPoint, "detection point; * is every point without a row of its own")
	f.StringSliceVar(&types, "type", []string{rule.Upload}, "upload, download, or both with a comma")
	f.BoolVar(&both, "both", false, "the point's row too; agents fetch it from here")
	f.BoolVar(&dry, "dry-run", false, "only show what would be written")
	f.BoolVar(&changes, "changes", false,
		"read the table's changes, deletes too; shows what that needs, and --write makes it")
	f.BoolVar(&write, "write", false, "with --changes: make the change table and the triggers, and write the rules")
	f.StringVar(&where, "where", "", "condition of the rows that are read, such as \"region = 'north'\"")
	f.StringVar(&conflict, "conflict", "",
		"with --changes: who wins when two sides changed a row: centre (default), point or newest")
	return cmd
}

// recordChanges shows what records the changes of a table here, where that is asked for, and with write makes it. It
// returns the table as it is then, or as it would be, and as it will be at the points, whose agents make the same
// there.
func (c *call) recordChanges(table *rule.Table, here, write bool) (local, remote *rule.Table, err error) {
	ct, err := c.db.ChangeTable(c.Context(), table)
	if err != nil {
		return nil, nil, err
	}
	planned := *table
	planned.Changes = &rule.Changes{Name: ct.Name, Sequence: ct.Sequence}
	if !here {
		return table, &planned, nil
	}
	faults, err := c.db.Faults(c.Context(), ct)
	if err != nil {
		return nil, nil, err
	}
	if len(faults) > 0 {
		for _, q := range ct.SQL() {
			fmt.Fprintln(c.out, q+";")
		}
	}
	if write {
		err = c.db.InitChanges(c.Context(), ct)
	}
	return &planned, &planned, err
}

// mayInit returns why a row must not be written: there is one for its table, direction, side and point, or it cannot
// run. With changes, a rule that is there and has no statements of its own gets the row's options instead.
func (c *call) mayInit(row *rule.Row, table *rule.Table, changes bool) error {
	all, err := c.db.Rules(c.Context())
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Type != row.Type || r.User != row.User || r.PointNo != row.PointNo ||
			!strings.EqualFold(r.Table, row.Table) {
			continue
		}
		if draft, _ := rule.Draft(r, table); !changes || draft.Form != rule.Generated {
			return fmt.Errorf("rule %d is already for %s of %s, %s side, point %s; 'syncgate rules show %d' shows it",
				r.ID, r.Type, r.Table, r.User, r.PointNo, r.ID)
		}
		r.SQL = row.SQL
		*row = r
	}
	if plan, ds := rule.Compile(*row, table); plan == nil {
		return c.verdict(*row, ds)
	}
	return nil
}

// change is one column of sync_control before and after.
type change struct{ column, before, after string }

// rowDiff lists the columns that a DBA may edit in which two versions of a row differ; nil is no row.
func rowDiff(before, after *rule.Row) []change {
	var all []change
	for _, c := range rule.ControlColumns() {
		text := func(r *rule.Row) string {
			if r == nil {
				return ""
			}
			return fmt.Sprint(c.Value(r))
		}
		if d := (change{c.Name, text(before), text(after)}); c.Edited() && d.before != d.after {
			all = append(all, d)
		}
	}
	return all
}

// writeDiff prints removed lines with - and added ones with +, under the name of their column. It leaves out lines that
// begin or end both versions.
func writeDiff(w io.Writer, all []change) {
	for _, d := range all {
		fmt.Fprintf(w, "  %s\n", d.column)
		before, after := lines(d.before), lines(d.after)
		for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
			before, after = before[1:], after[1:]
		}
		for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
			before, after = before[:len(before)-1], after[:len(after)-1]
		}
		for _, l := range before {
			fmt.Fprintf(w, "    - %s\n", l)
		}
		for _, l := range after {
			fmt.Fprintf(w, "    + %s\n", l)
		}
	}
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
