package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/store"
)

func newQuarantine() *cobra.Command {
	return cli.Group("quarantine", "Show, edit, replay and drop rows that no operation of their rule could apply",
		newQuarantineList(), newQuarantineShow(), newQuarantineEdit(), newQuarantineReplay(), newQuarantineDrop())
}

// onQuarantined makes a command about the row of sync_quarantine that its argument names.
func onQuarantined(use, short string, run func(c *call, q *store.QuarantinedRow) error) *cobra.Command {
	get := func(c *call) (store.QuarantinedRow, error) { return c.db.QuarantineRow(c.Context(), c.id) }
	return onRow(use, short, "sync_quarantine", "quarantine list", get, run)
}

func newQuarantineList() *cobra.Command {
	var limit uint
	var after uint64
	cmd := onCentre("list", "List the quarantined rows, the oldest first", textOrJSON, func(c *call) error {
		rows, err := c.db.Quarantine(c.Context(), after, int(limit))
		if err != nil {
			return err
		}
		err = list(c, rows, "ID\tPOINT\tRULE\tTABLE\tROW\tSINCE\tERROR\tREASON", func(q *store.QuarantinedRow) []any {
			return []any{q.ID, q.Point, q.RuleID, q.Table, q.Row, q.CreatedAt, q.Code, q.Reason}
		})
		if n := len(rows); err == nil && n > 0 && n == int(limit) && c.format == "text" {
			fmt.Fprintf(c.out, "there may be more: --after %d\n", rows[n-1].ID)
		}
		return err
	})
	cmd.Flags().UintVar(&limit, "limit", 100, "rows at most")
	cmd.Flags().Uint64Var(&after, "after", 0, "only rows with a higher id")
	return cmd
}

func newQuarantineShow() *cobra.Command {
	const short = "Show a quarantined row with its values and its error"
	return onQuarantined("show", short, func(c *call, q *store.QuarantinedRow) error {
		if c.format == "json" {
			return writeJSON(c.out, q)
		}
		fmt.Fprintf(c.out, "row %d of request %d/%d of point %s, for %s by rule %d, since %s\nerror %d: %s\n",
			q.Row, q.Epoch, q.Seq, q.Point, q.Table, q.RuleID, stamp(q.CreatedAt), q.Code, q.Reason)
		t := newTable(c.out, "")
		for i, f := range q.Fields {
			fmt.Fprintf(t, "  %s\t%s\n", f, sample(q.Values[i]))
		}
		return t.Flush()
	})
}

func newQuarantineEdit() *cobra.Command {
	var set []string
	const short = "Change fields of a quarantined row before it is replayed"
	cmd := onQuarantined("edit", short, func(c *call, q *store.QuarantinedRow) error {
		for _, text := range set {
			if err := readRow(text, q.Fields, q.Values); err != nil {
				return cli.Usage(fmt.Errorf("--set %s: %w", text, err))
			}
		}
		if err := c.db.EditQuarantine(c.Context(), q.ID, q.Fields, q.Values); err != nil {
			return err
		}
		return c.say(q, "row %d is edited; 'syncgate quarantine replay %d' applies it", q.ID, q.ID)
	})
	cmd.Flags().StringArrayVar(&set, "set", nil, `new values as a JSON object, as in '{"title": "short", "hits": 3}'`)
	_ = cmd.MarkFlagRequired("set") // the flag is there
	return cmd
}

func newQuarantineReplay() *cobra.Command {
	const short = "Apply a quarantined row by its current rule, and remove it from quarantine"
	return onQuarantined("replay", short, func(c *call, q *store.QuarantinedRow) error {
		plan, err := c.plan(q.RuleID)
		if err != nil {
			return err
		}
		outcome, err := c.db.ReplayQuarantine(c.Context(), q.ID, plan, environment(plan, q.Point))
		if err != nil {
			return fmt.Errorf("row %d stays in quarantine: %w", q.ID, err)
		}
		for op := range outcome.ByOp {
			err = c.say(map[string]any{"id": q.ID, "applied_by": op}, "row %d was applied by %s", q.ID, op)
		}
		return err
	})
}

func newQuarantineDrop() *cobra.Command {
	return onQuarantined("drop", "Delete a quarantined row for good", func(c *call, q *store.QuarantinedRow) error {
		if err := c.db.DropQuarantine(c.Context(), q.ID); err != nil {
			return err
		}
		return c.say(map[string]any{"id": q.ID, "dropped": true}, "row %d is dropped", q.ID)
	})
}
