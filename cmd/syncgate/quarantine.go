package main

import (
	"context"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/quarantine"
	"syncgate/rule"
	"syncgate/store"
)

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
