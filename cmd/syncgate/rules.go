package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"syncgate/business"
	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

func newRules() *cobra.Command {
	return cli.Group("rules", "Look at the rows of sync_control, check them, try them, and undo an edit",
		newRulesList(), newRulesShow(), newRulesCheck(), newRulesExplain(), newRulesTry(),
		newRulesConvert(), newRulesInit(), newRulesHistory(), newRulesDiff(), newRulesRevert())
}

// onRule makes a command about the row of sync_control that its argument names.
func onRule(use, short string, run func(*call, rule.Row) error) *cobra.Command {
	return onCentre(use+" ID", short, "", func(c *call) error {
		id, err := c.id("sync_control")
		if err != nil {
			return err
		}
		row, err := c.rule(id)
		if err != nil {
			return err
		}
		return run(c, row)
	})
}

// rule finds a row of sync_control.
func (c *call) rule(id uint64) (rule.Row, error) {
	rows, err := c.db.Rules(c.Context())
	for _, row := range rows {
		if row.ID == id {
			return row, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("sync_control has no row with id %d; 'syncgate rules list' shows those it has", id)
	}
	return rule.Row{}, err
}

func newRulesList() *cobra.Command {
	return onCentre("list", "List the rules with their state, as the running server left it", textOrJSON, func(c *call) error {
		rows, err := c.db.RuleStates(c.Context())
		if err != nil {
			return err
		}
		return list(c, rows, "ID\tTABLE\tTYPE\tSIDE\tPOINT\tSTATE\tROWS MOVED\tFAILURES\tLAST RUN\tERROR", func(r *store.RuleLine) []any {
			state := r.State
			if !r.Enabled {
				state = "disabled"
			}
			return []any{r.ID, r.Table, r.Type, r.User, r.PointNo, state, r.RowsMoved, r.Failures, r.LastRun, r.Error}
		})
	})
}

func newRulesShow() *cobra.Command {
	return onRule("show", "Show a rule as it is run: its statements with what is bound to each, written ones too", func(c *call, row rule.Row) error {
		plan, ds, err := c.compile(row)
		if err != nil {
			return err
		}
		if plan != nil {
			fmt.Fprint(c.out, plan.Describe())
		}
		return c.verdict(row, ds)
	})
}

// table is what the database says of a table; nil when it has none of that name.
func (c *call) table(name string) (*rule.Table, error) {
	t, err := c.db.Table(c.Context(), name)
	if errors.Is(err, store.ErrNoTable) {
		return nil, nil
	}
	return t, err
}

// compile makes a row's plan as the server would. A point's own row, of which the server makes none, is shown by the
// facts of a table of the same name here.
func (c *call) compile(row rule.Row) (*rule.Plan, []rule.Diagnostic, error) {
	table, err := c.table(row.Table)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case row.User != rule.Client:
		return business.Compile(c.Context(), c.db, row, table)
	case row.SQL == "" && table == nil:
		return nil, nil, fmt.Errorf("rule %d is a point's, whose agent writes its statements from the table %s there; the centre has no table of that name to show them by", row.ID, row.Table)
	}
	plan, ds := rule.Compile(row, table)
	return plan, ds, nil
}

// verdict prints what is to be said about a rule; an error in it is an error here.
func (c *call) verdict(row rule.Row, ds []rule.Diagnostic) error {
	for _, d := range ds {
		fmt.Fprintln(c.out, d)
	}
	if worst, _ := rule.Worst(ds); worst == rule.Error {
		return fmt.Errorf("rule %d cannot run as it stands", row.ID)
	}
	return nil
}

// mustCompile gives the plan of a row that can run.
func (c *call) mustCompile(row rule.Row) (*rule.Plan, error) {
	plan, ds, err := c.compile(row)
	if err != nil {
		return nil, err
	}
	return plan, c.verdict(row, ds)
}
