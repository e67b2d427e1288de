package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

func newRules() *cobra.Command {
	c := &cobra.Command{
		Use:   "rules",
		Short: "Look at the rows of sync_control, check them, try them, and undo an edit",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newRulesList(), newRulesShow(), newRulesCheck(), newRulesExplain(), newRulesTry(),
		newRulesConvert(), newRulesInit(), newRulesHistory(), newRulesDiff(), newRulesRevert())
	return c
}

// rulesCommand is what the rules commands share.
type rulesCommand struct {
	settings
	format string
}

// command makes a subcommand whose run has the central database open. formats are what
// --format may say; the first is the default; none means that there is no such flag.
func (r *rulesCommand) command(use, short string, args cobra.PositionalArgs, formats []string, run func(c *cobra.Command, db *centre, args []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: args}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if len(formats) > 0 {
			if err := cli.OneOf("format", r.format, formats...); err != nil {
				return err
			}
		}
		cfg, err := r.load()
		if err != nil {
			return err
		}
		db, err := openCentre(c.Context(), cfg, zerolog.Nop(), true, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return run(c, db, args)
	}
	r.flags(c)
	if len(formats) > 0 {
		c.Flags().StringVar(&r.format, "format", formats[0], fmt.Sprint(formats))
	}
	return c
}

// ruleByID finds a row of sync_control.
func ruleByID(ctx context.Context, db *centre, arg string) (rule.Row, error) {
	id, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return rule.Row{}, cli.Usage(fmt.Errorf("%q is not the id of a row of sync_control", arg))
	}
	rows, err := db.Rules(ctx)
	if err != nil {
		return rule.Row{}, err
	}
	for _, row := range rows {
		if row.ID == id {
			return row, nil
		}
	}
	return rule.Row{}, fmt.Errorf("sync_control has no row with id %d; 'syncgate rules list' shows those it has", id)
}

func newRulesList() *cobra.Command {
	r := &rulesCommand{}
	return r.command("list", "List the rules with their state, as the running server left it", cobra.NoArgs, []string{"text", "json"},
		func(c *cobra.Command, db *centre, _ []string) error {
			rows, err := db.RuleStates(c.Context())
			if err != nil {
				return err
			}
			if r.format == "json" {
				return writeJSON(c.OutOrStdout(), rows)
			}
			return writeRuleStates(c.OutOrStdout(), rows)
		})
}

func writeRuleStates(w io.Writer, rows []store.RuleLine) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tTABLE\tTYPE\tSIDE\tPOINT\tSTATE\tROWS MOVED\tFAILURES\tLAST RUN\tERROR")
	for _, r := range rows {
		state := r.State
		if !r.Enabled {
			state = "disabled"
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", r.ID, r.Table, r.Type, r.User, r.PointNo, state, r.RowsMoved, r.Failures, orDash(r.LastRun), orDash(r.Error))
	}
	return t.Flush()
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newRulesShow() *cobra.Command {
	r := &rulesCommand{}
	return r.command("show ID", "Show a rule as it is run: its statements with what is bound to each, written ones too", cobra.ExactArgs(1), nil,
		func(c *cobra.Command, db *centre, args []string) error {
			row, err := ruleByID(c.Context(), db, args[0])
			if err != nil {
				return err
			}
			plan, ds, err := compile(c.Context(), db, row)
			if err != nil {
				return err
			}
			if plan != nil {
				fmt.Fprint(c.OutOrStdout(), plan.Describe())
			}
			for _, d := range ds {
				fmt.Fprintln(c.OutOrStdout(), d)
			}
			if plan == nil {
				return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("rule %d has no statements that could run", row.ID)}
			}
			return nil
		})
}

// compile makes a row's plan as the server would, with what the database itself says of
// its statements. A point's own row is about tables at the point, so that the database
// here is not asked about it; facts of a table of the same name are used where there are any.
func compile(ctx context.Context, db *centre, row rule.Row) (*rule.Plan, []rule.Diagnostic, error) {
	table, err := db.Table(ctx, row.Table)
	if errors.Is(err, store.ErrNoTable) {
		table, err = nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	plan, ds := rule.Compile(row, table)
	if plan == nil || row.User == rule.Client {
		return plan, ds, nil
	}
	refused, err := db.CheckPlan(ctx, plan, table)
	return plan, append(ds, refused...), err
}
