package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

func newRulesHistory() *cobra.Command {
	r := &rulesCommand{}
	var limit int
	c := r.command("history [ID]", "List the edits of a rule, or of all rules, the newest first", cobra.MaximumNArgs(1), []string{"text", "json"},
		func(c *cobra.Command, db *centre, args []string) error {
			edits, err := history(c, db, args, limit)
			if err != nil {
				return err
			}
			if r.format == "json" {
				return writeJSON(c.OutOrStdout(), edits)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "EDIT\tRULE\tWHEN\tBY\tACTION\tCOLUMNS")
			for _, e := range edits {
				var columns []string
				for _, d := range rowDiff(e.Before, e.After) {
					columns = append(columns, d.column)
				}
				if e.Action != "update" {
					columns = nil
				}
				fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\t%s\n", e.ID, e.RuleID, stamp(e.At), e.By, e.Action, strings.Join(columns, " "))
			}
			return t.Flush()
		})
	c.Flags().IntVar(&limit, "limit", 50, "edits at most")
	return c
}

// history reads the edits of the rule that args names, or of all.
func history(c *cobra.Command, db *centre, args []string, limit int) ([]store.Edit, error) {
	var id uint64
	if len(args) > 0 {
		var err error
		if id, err = strconv.ParseUint(args[0], 10, 64); err != nil || id == 0 {
			return nil, cli.Usage(fmt.Errorf("%q is not the id of a row of sync_control", args[0]))
		}
	}
	edits, err := db.History(c.Context(), id, limit)
	if err == nil && len(edits) == 0 {
		err = errors.New("no edits are recorded; where the account may not create triggers, none are (see 'syncgate doctor')")
	}
	return edits, err
}

// pick is the edit with the number, or the newest when the number is 0.
func pick(edits []store.Edit, number uint64) (store.Edit, error) {
	for _, e := range edits {
		if number == 0 || e.ID == number {
			return e, nil
		}
	}
	return store.Edit{}, fmt.Errorf("no edit %d of this rule is recorded", number)
}

// allEdits is more than anybody makes by hand, and little to read.
const allEdits = 10000

func newRulesDiff() *cobra.Command {
	r := &rulesCommand{}
	var number uint64
	c := r.command("diff ID", "Show what an edit of a rule changed; the newest, or --edit N of its history", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			edits, err := history(c, db, args, allEdits)
			if err != nil {
				return err
			}
			e, err := pick(edits, number)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "edit %d of rule %d: %s by %s at %s\n", e.ID, e.RuleID, e.Action, e.By, stamp(e.At))
			writeDiff(c.OutOrStdout(), rowDiff(e.Before, e.After))
			return nil
		})
	c.Flags().Uint64Var(&number, "edit", 0, "number of the edit (default the newest)")
	return c
}

func newRulesRevert() *cobra.Command {
	r := &rulesCommand{}
	var number uint64
	c := r.command("revert ID", "Undo the newest edit of a rule, or with --edit N go back to before that one", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			edits, err := history(c, db, args, allEdits)
			if err != nil {
				return err
			}
			e, err := pick(edits, number)
			if err != nil {
				return err
			}
			if e.Before == nil {
				return fmt.Errorf("edit %d made rule %d; there is nothing before it (enabled = 0 switches a rule off)", e.ID, e.RuleID)
			}
			// The newest edit that is not a delete holds the row as it stands.
			now := edits[0].After
			if _, err := db.SaveRule(c.Context(), *e.Before); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "rule %d is as it was before edit %d\n", e.RuleID, e.ID)
			writeDiff(c.OutOrStdout(), rowDiff(now, e.Before))
			return nil
		})
	c.Flags().Uint64Var(&number, "edit", 0, "go back to before this edit (default the newest)")
	return c
}

func newRulesConvert() *cobra.Command {
	r := &rulesCommand{}
	var write bool
	c := r.command("convert [ID]", "Show the seed-era rows as plain SQL, and with --write make them so", cobra.MaximumNArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			rows, err := db.Rules(c.Context())
			if err != nil {
				return err
			}
			if len(args) > 0 {
				row, err := ruleByID(c.Context(), db, args[0])
				if err != nil {
					return err
				}
				rows = []rule.Row{row}
			}
			return convert(c, db, rows, write)
		})
	c.Flags().BoolVar(&write, "write", false, "write the converted rows into sync_control")
	return c
}

// convert shows what would change in each row, and changes it when write is set. A row
// that cannot be converted is named and does not keep the others from it.
func convert(c *cobra.Command, db *centre, rows []rule.Row, write bool) error {
	out, changed, failed := c.OutOrStdout(), 0, 0
	for _, row := range rows {
		converted, ds, err := rule.Convert(row)
		if err != nil {
			failed++
			fmt.Fprintln(out, err)
			continue
		}
		diff := rowDiff(&row, &converted)
		if len(diff) == 0 {
			continue
		}
		changed++
		fmt.Fprintf(out, "rule %d: %s of %s\n", row.ID, row.Type, row.Table)
		writeDiff(out, diff)
		for _, d := range ds {
			fmt.Fprintln(out, d)
		}
		if write {
			if _, err := db.SaveRule(c.Context(), converted); err != nil {
				return fmt.Errorf("rule %d: %w", row.ID, err)
			}
		}
	}
	switch {
	case changed == 0 && failed == 0:
		fmt.Fprintln(out, "no row is of the seed era's form")
	case !write && changed > 0:
		fmt.Fprintf(out, "%d rows would change; --write changes them\n", changed)
	case changed > 0:
		fmt.Fprintf(out, "%d rows changed\n", changed)
	}
	if failed > 0 {
		return fmt.Errorf("%d rows could not be converted", failed)
	}
	return nil
}

func newRulesInit() *cobra.Command {
	r := &rulesCommand{}
	var point string
	var types []string
	var both, dry bool
	c := r.command("init TABLE", "Write good rows for a table: no SQL of your own, syncgate writes it from the table", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			for _, t := range types {
				if err := cli.OneOf("type", t, rule.Upload, rule.Download); err != nil {
					return err
				}
			}
			table, err := db.Table(c.Context(), args[0])
			if err != nil {
				return fmt.Errorf("table %s: %w", args[0], err)
			}
			for _, row := range rule.Init(table, point, types...) {
				if row.User == rule.Client && !both {
					continue
				}
				if err := initRow(c, db, row, table, dry); err != nil {
					return err
				}
			}
			return nil
		})
	f := c.Flags()
	f.StringVar(&point, "point", rule.AnyPoint, "detection point; * is every point without a row of its own")
	f.StringSliceVar(&types, "type", []string{rule.Upload}, "upload, download, or both with a comma")
	f.BoolVar(&both, "both", false, "the point's row too; agents fetch it from here")
	f.BoolVar(&dry, "dry-run", false, "only show what would be written")
	return c
}

// initRow writes one row, unless there is one for its table, direction, side and point.
func initRow(c *cobra.Command, db *centre, row rule.Row, table *rule.Table, dry bool) error {
	rows, err := db.Rules(c.Context())
	if err != nil {
		return err
	}
	for _, other := range rows {
		if strings.EqualFold(other.Table, row.Table) && other.Type == row.Type && other.User == row.User && other.PointNo == row.PointNo {
			return fmt.Errorf("rule %d is already for %s of %s, %s side, point %s", other.ID, row.Type, row.Table, row.User, row.PointNo)
		}
	}
	plan, ds := rule.Compile(row, table)
	for _, d := range ds {
		fmt.Fprintln(c.OutOrStdout(), d)
	}
	if plan == nil {
		return fmt.Errorf("no row was written for %s of %s", row.Type, row.Table)
	}
	if !dry {
		if row.ID, err = db.SaveRule(c.Context(), row); err != nil {
			return err
		}
		plan.Row.ID = row.ID
	}
	_, err = io.WriteString(c.OutOrStdout(), plan.Describe())
	return err
}
