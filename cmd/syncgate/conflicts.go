package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/quarantine"
	"syncgate/rule"
	"syncgate/store"
)

func newConflicts() *cobra.Command {
	return cli.Group("conflicts", "Show rows that two sides changed at once, and take the version that lost",
		newConflictsList(), newConflictsShow(), newConflictsTake())
}

func newConflictsList() *cobra.Command {
	var limit uint
	var all bool
	cmd := onCentre("list", "List the conflicts, the newest first", textOrJSON, func(c *call) error {
		rows, err := c.db.Conflicts(c.Context(), !all, int(limit))
		if err != nil {
			return err
		}
		return list(c, rows, "ID\tSINCE\tPOINT\tTABLE\tKEY\tKEPT\tLOST\tSETTLED\tTAKEN",
			func(r *store.ConflictRow) []any {
				return []any{r.ID, r.CreatedAt, r.Point, r.Table, r.Key, side(r.Kept), side(r.Lost),
					r.Settled, r.TakenAt}
			})
	})
	cmd.Flags().UintVar(&limit, "limit", 100, "conflicts at most")
	cmd.Flags().BoolVar(&all, "all", false, "also those whose lost version was taken")
	return cmd
}

// side names where a version came from.
func side(v store.Version) string {
	if v.Origin == "" {
		return "centre"
	}
	return v.Origin
}

// onConflict makes a command about the row of sync_conflict that its argument names.
func onConflict(use, short string, run func(c *call, r *store.ConflictRow) error) *cobra.Command {
	get := func(c *call) (store.ConflictRow, error) { return c.db.Conflict(c.Context(), c.id) }
	return onRow(use, short, "sync_conflict", "conflicts list", get, run)
}

func newConflictsShow() *cobra.Command {
	return onConflict("show", "Show both versions of a row", func(c *call, r *store.ConflictRow) error {
		if c.format == "json" {
			return cli.WriteJSON(c.out, r)
		}
		fmt.Fprintf(c.out, "conflict %d in %s, found %s for point %s by rule %d, settled by %s\nkey   %s\n",
			r.ID, r.Table, cli.Stamp(r.CreatedAt), r.Point, r.RuleID, r.Settled, r.Key)
		for _, v := range []struct {
			what string
			store.Version
		}{{"kept", r.Kept}, {"lost", r.Lost}} {
			text := string(v.Row)
			if text == "" {
				text = "deleted"
			}
			fmt.Fprintf(c.out, "%s  from %s at %s UTC: %s\n", v.what, side(v.Version), v.At, text)
		}
		return nil
	})
}

func newConflictsTake() *cobra.Command {
	const short = "Put the version that lost into the table; every side gets it"
	return onConflict("take", short, func(c *call, r *store.ConflictRow) error {
		plan, err := c.plan(r.RuleID)
		if err != nil {
			return err
		}
		if err := c.db.TakeConflict(c.Context(), r.ID, plan); err != nil {
			return err
		}
		return c.say(map[string]any{"id": r.ID, "taken": true}, "conflict %d: the version that lost is in %s now",
			r.ID, r.Table)
	})
}

func newQuarantine() *cobra.Command {
	with := func(use, short string, run func(*cobra.Command, []string, *quarantine.Place) error) *cobra.Command {
		return onCentre(use, short, "", func(c *call) error {
			return run(c.Command, c.args, &quarantine.Place{Store: c.db.Store, Plan: c.quarantinePlan})
		})
	}
	return quarantine.New("syncgate", with)
}

// quarantinePlan is the present plan of the rule that a quarantined row came by.
func (c *call) quarantinePlan(_ context.Context, q *store.QuarantinedRow) (*rule.Plan, rule.Env, error) {
	plan, err := c.plan(q.RuleID)
	if err != nil {
		return nil, rule.Env{}, err
	}
	return plan, environment(q.Point), nil
}
