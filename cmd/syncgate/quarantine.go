package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

func newQuarantine() *cobra.Command {
	c := &cobra.Command{
		Use:   "quarantine",
		Short: "Look after rows that no operation of their rule could take",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newQuarantineList(), newQuarantineShow(), newQuarantineEdit(), newQuarantineReplay(), newQuarantineDrop())
	return c
}

// quarantinedRow reads the row whose id is the argument.
func quarantinedRow(c *cobra.Command, db *centre, arg string) (store.QuarantinedRow, error) {
	id, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return store.QuarantinedRow{}, cli.Usage(fmt.Errorf("%q is not the id of a row of sync_quarantine", arg))
	}
	row, err := db.QuarantineRow(c.Context(), id)
	if err != nil {
		err = fmt.Errorf("quarantine %d: %w", id, err)
	}
	return row, err
}

func newQuarantineList() *cobra.Command {
	r := &rulesCommand{}
	var limit int
	var after uint64
	c := r.command("list", "List the quarantined rows, the oldest first", cobra.NoArgs, []string{"text", "json"},
		func(c *cobra.Command, db *centre, _ []string) error {
			rows, err := db.Quarantine(c.Context(), after, limit)
			if err != nil {
				return err
			}
			if r.format == "json" {
				return writeJSON(c.OutOrStdout(), rows)
			}
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tPOINT\tRULE\tTABLE\tROW\tSINCE\tERROR\tREASON")
			for _, q := range rows {
				fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%d\t%s\t%d\t%s\n", q.ID, q.Point, q.RuleID, q.Table, q.Row, stamp(q.CreatedAt), q.Code, q.Reason)
			}
			if err := t.Flush(); err != nil {
				return err
			}
			if len(rows) == limit {
				fmt.Fprintf(c.OutOrStdout(), "there may be more: --after %d\n", rows[len(rows)-1].ID)
			}
			return nil
		})
	c.Flags().IntVar(&limit, "limit", 100, "rows at most")
	c.Flags().Uint64Var(&after, "after", 0, "only rows with a higher id")
	return c
}

func newQuarantineShow() *cobra.Command {
	r := &rulesCommand{}
	return r.command("show ID", "Show a quarantined row with its values and its error", cobra.ExactArgs(1), []string{"text", "json"},
		func(c *cobra.Command, db *centre, args []string) error {
			q, err := quarantinedRow(c, db, args[0])
			if err != nil {
				return err
			}
			if r.format == "json" {
				return writeJSON(c.OutOrStdout(), q)
			}
			fmt.Fprintf(c.OutOrStdout(), "row %d of request %d/%d of point %s, for %s by rule %d, since %s\nerror %d: %s\n",
				q.Row, q.Epoch, q.Seq, q.Point, q.Table, q.RuleID, stamp(q.CreatedAt), q.Code, q.Reason)
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			for i, f := range q.Fields {
				fmt.Fprintf(t, "  %s\t%s\n", f, sample(q.Values[i]))
			}
			return t.Flush()
		})
}

func newQuarantineEdit() *cobra.Command {
	r := &rulesCommand{}
	var set []string
	c := r.command("edit ID", "Give fields of a quarantined row other values, before it is replayed", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			q, err := quarantinedRow(c, db, args[0])
			if err != nil {
				return err
			}
			at := map[string]int{}
			for i, f := range q.Fields {
				at[f] = i
			}
			for _, text := range set {
				var object json.RawMessage = []byte(text)
				if err := readObject(object, at, q.Values); err != nil {
					return cli.Usage(fmt.Errorf("--set %s: %w", text, err))
				}
			}
			return db.EditQuarantine(c.Context(), q.ID, q.Fields, q.Values)
		})
	c.Flags().StringArrayVar(&set, "set", nil, `new values as a JSON object, as in '{"title": "short", "hits": 3}'`)
	_ = c.MarkFlagRequired("set") // the flag is there
	return c
}

func newQuarantineReplay() *cobra.Command {
	r := &rulesCommand{}
	return r.command("replay ID", "Apply a quarantined row by its rule as it stands now, and take it out", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			q, err := quarantinedRow(c, db, args[0])
			if err != nil {
				return err
			}
			row, err := ruleByID(c.Context(), db, strconv.FormatUint(q.RuleID, 10))
			if err != nil {
				return err
			}
			plan, ds, err := compile(c.Context(), db, row)
			if err != nil {
				return err
			}
			if worst, _ := rule.Worst(ds); plan == nil || worst == rule.Error {
				return fmt.Errorf("rule %d cannot run; 'syncgate rules check' says why", row.ID)
			}
			outcome, err := db.ReplayQuarantine(c.Context(), q.ID, plan, environment(plan, q.Point))
			if err != nil {
				return fmt.Errorf("the row stays in quarantine: %w", err)
			}
			for op := range outcome.ByOp {
				fmt.Fprintf(c.OutOrStdout(), "quarantine %d was applied by %s\n", q.ID, op)
			}
			return nil
		})
}

func newQuarantineDrop() *cobra.Command {
	r := &rulesCommand{}
	return r.command("drop ID", "Forget a quarantined row for good", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			q, err := quarantinedRow(c, db, args[0])
			if err != nil {
				return err
			}
			return db.DropQuarantine(c.Context(), q.ID)
		})
}
