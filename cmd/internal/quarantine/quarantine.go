// Package quarantine has the commands about rows that no operation of their rule could apply. The server and the agent
// have the same ones, each for its own database.
package quarantine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

// Place is an open database with quarantined rows.
type Place struct {
	*store.Store
	// Plan is the present plan of the rule that a row came by.
	Plan func(ctx context.Context, q *store.QuarantinedRow) (*rule.Plan, rule.Env, error)
}

// Make makes a command that works on an open Place. use names the arguments.
type Make func(use, short string, run func(*cobra.Command, []string, *Place) error) *cobra.Command

// New makes the command quarantine of a program.
func New(program string, with Make) *cobra.Command {
	c := &commands{program, with}
	return cli.Group("quarantine", "Show, edit, replay and drop rows that no operation of their rule could apply",
		c.list(), c.show(), c.edit(), c.replay(), c.drop())
}

type commands struct {
	program string
	with    Make
}

// call is one call of a command.
type call struct {
	*cobra.Command
	*Place
	out  io.Writer
	json bool
}

// command makes a command with --format.
func (c *commands) command(use, short string, run func(*call, []string) error) *cobra.Command {
	var format string
	cmd := c.with(use, short, func(cmd *cobra.Command, args []string, p *Place) error {
		if err := cli.OneOf("format", format, "text", "json"); err != nil {
			return err
		}
		return run(&call{cmd, p, cmd.OutOrStdout(), format == "json"}, args)
	})
	cmd.Flags().StringVar(&format, "format", "text", "text, json")
	return cmd
}

// say prints v with --format json, else a line of text.
func (c *call) say(v any, format string, args ...any) error {
	return cli.Say(c.out, c.json, v, format, args...)
}

// filterFlags are the flags that choose rows.
func filterFlags(cmd *cobra.Command, f *store.QuarantineFilter) {
	flags := cmd.Flags()
	flags.StringVar(&f.Point, "point", "", "only rows of this point")
	flags.StringVar(&f.Table, "table", "", "only rows for this table")
	flags.Uint64Var(&f.Rule, "rule", 0, "only rows of the rule with this id")
	flags.IntVar(&f.Code, "error", 0, "only rows with this error number")
	flags.BoolVar(&f.Waiting, "waiting", false, "only rows that are tried again by themselves")
}

func (c *commands) list() *cobra.Command {
	var f store.QuarantineFilter
	var count bool
	cmd := c.command("list", "List the quarantined rows, the oldest first", func(c *call, _ []string) error {
		if count {
			return c.counts(f)
		}
		rows, err := c.ListQuarantine(c.Context(), f)
		if err != nil {
			return err
		}
		const heading = "ID\tPOINT\tRULE\tTABLE\tROW\tSINCE\tWAITS UNTIL\tERROR\tREASON"
		err = cli.List(c.out, c.json, rows, heading, func(q *store.QuarantinedRow) []any {
			return []any{q.ID, q.Point, q.RuleID, q.Table, q.Row, q.CreatedAt, q.WaitsUntil, q.Code, q.Reason}
		})
		if n := len(rows); err == nil && !c.json && n > 0 && n == f.Limit {
			fmt.Fprintf(c.out, "there may be more: --after %d; --count counts them\n", rows[n-1].ID)
		}
		return err
	})
	filterFlags(cmd, &f)
	cmd.Flags().IntVar(&f.Limit, "limit", 100, "rows at most")
	cmd.Flags().Uint64Var(&f.After, "after", 0, "only rows with a higher id")
	cmd.Flags().BoolVar(&count, "count", false, "count the rows by rule and error")
	return cmd
}

func (c *call) counts(f store.QuarantineFilter) error {
	counts, err := c.CountQuarantine(c.Context(), f)
	if err != nil {
		return err
	}
	return cli.List(c.out, c.json, counts, "RULE\tTABLE\tERROR\tROWS\tWAITING\tOLDEST\tREASON OF ONE",
		func(n *store.QuarantineCount) []any {
			return []any{n.RuleID, n.Table, n.Code, n.Rows, n.Waiting, n.Oldest, n.Reason}
		})
}

// onRow makes a command about the row that its argument names.
func (c *commands) onRow(use, short string, run func(c *call, q *store.QuarantinedRow) error) *cobra.Command {
	return c.command(use+" ID", short, func(call *call, args []string) error {
		id, err := rowID(args[0])
		if err != nil {
			return err
		}
		q, err := call.QuarantineRow(call.Context(), id)
		if err == nil {
			err = run(call, &q)
		}
		return c.explain(err, id)
	})
}

func rowID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 {
		return 0, cli.Usage(fmt.Errorf("%q is not the id of a row", text))
	}
	return id, nil
}

// explain says what to do about an error with a row; id is 0 when it is with no single one.
func (c *commands) explain(err error, id uint64) error {
	var newer *store.NewerError
	switch {
	case err == nil || id == 0:
		return err
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("sync_quarantine has no row with id %d; '%s quarantine list' shows its rows. "+
			"A row leaves it by itself when a later version of it is applied", id, c.program)
	case errors.As(err, &newer):
		return fmt.Errorf("row %d stays in quarantine: %w; --force replaces it, '%s quarantine drop %d' drops "+
			"the old one",
			id, err, c.program, id)
	}
	return fmt.Errorf("row %d stays in quarantine: %w", id, err)
}

func (c *commands) show() *cobra.Command {
	return c.onRow("show", "Show a quarantined row with its values and its error",
		func(c *call, q *store.QuarantinedRow) error {
			if c.json {
				return cli.WriteJSON(c.out, q)
			}
			fmt.Fprintf(c.out, "row %d of request %d/%d of point %s, for %s by rule %d, since %s\nerror %d: %s\n",
				q.Row, q.Epoch, q.Seq, q.Point, q.Table, q.RuleID, cli.Stamp(q.CreatedAt), q.Code, q.Reason)
			if !q.WaitsUntil.IsZero() {
				fmt.Fprintf(c.out, "it is tried again by itself until %s\n", cli.Stamp(q.WaitsUntil))
			}
			t := cli.NewTable(c.out, "")
			for i, f := range q.Fields {
				fmt.Fprintf(t, "  %s\t%s\n", f, cli.Sample(q.Values[i]))
			}
			return t.Flush()
		})
}

func (c *commands) edit() *cobra.Command {
	var set []string
	const short = "Change fields of a quarantined row before it is replayed"
	cmd := c.onRow("edit", short, func(call *call, q *store.QuarantinedRow) error {
		for _, text := range set {
			if err := store.SetFields(text, q.Fields, q.Values); err != nil {
				return cli.Usage(fmt.Errorf("--set %s: %w", text, err))
			}
		}
		if err := call.EditQuarantine(call.Context(), q.ID, q.Fields, q.Values); err != nil {
			return err
		}
		return call.say(q, "row %d is edited; '%s quarantine replay %d' applies it", q.ID, c.program, q.ID)
	})
	cmd.Flags().StringArrayVar(&set, "set", nil, `new values as a JSON object, as in '{"title": "short", "hits": 3}'`)
	_ = cmd.MarkFlagRequired("set") // the flag is there
	return cmd
}

// result is a row that was replayed, for --format json.
type result struct {
	ID       uint64 `json:"id"`
	Applied  string `json:"applied_by,omitempty"`
	Replaced bool   `json:"replaced,omitempty"`
	Error    string `json:"error,omitempty"`
}

func (c *commands) replay() *cobra.Command {
	var f store.QuarantineFilter
	var all, force bool
	const short = "Apply quarantined rows by their current rules, and remove them from quarantine"
	cmd := c.command("replay [ID]", short, func(call *call, args []string) error {
		f, err := chosen(args, f, all)
		if err != nil {
			return err
		}
		one := f.ID != 0
		rows, err := call.ListQuarantine(call.Context(), f)
		if one && len(rows) == 0 && err == nil {
			err = store.ErrNotFound
		}
		if err != nil {
			return c.explain(err, f.ID)
		}
		var results []result
		failed := 0
		for i := range rows {
			q := &rows[i]
			done, err := call.replayed(q, force)
			err = c.explain(err, q.ID)
			if one && err != nil {
				return err
			}
			r := result{ID: q.ID, Applied: done.Op, Replaced: done.Present}
			if err != nil {
				failed, r.Error = failed+1, err.Error()
			}
			results = append(results, r)
			if call.json {
				continue
			}
			switch {
			case err != nil:
				fmt.Fprintln(call.out, err)
			case done.Present:
				fmt.Fprintf(call.out, "row %d was applied by %s; it replaced the row with its key\n", q.ID, done.Op)
			default:
				fmt.Fprintf(call.out, "row %d was applied by %s\n", q.ID, done.Op)
			}
			if call.Context().Err() != nil {
				return call.Context().Err()
			}
		}
		if call.json {
			err = cli.WriteJSON(call.out, append([]result{}, results...))
		} else if !one {
			fmt.Fprintf(call.out, "%d of %d rows were applied\n", len(rows)-failed, len(rows))
		}
		if err == nil && failed > 0 {
			return &cli.ExitError{Code: cli.ExitFailed}
		}
		return err
	})
	filterFlags(cmd, &f)
	cmd.Flags().BoolVar(&all, "all", false, "every quarantined row")
	cmd.Flags().BoolVar(&force, "force", false, "also where the table has a newer version of the row")
	return cmd
}

// chosen is the filter of the row that an argument names, or of the rows that the flags choose.
func chosen(args []string, f store.QuarantineFilter, all bool) (store.QuarantineFilter, error) {
	empty := f == store.QuarantineFilter{}
	switch {
	case len(args) == 0 && empty && !all:
		return f, cli.Usage(errors.New("name the row, " +
			"or choose rows with --rule, --table, --point, --error or --all"))
	case len(args) > 0 && (all || !empty):
		return f, cli.Usage(errors.New("name one row, or choose rows by flags"))
	case len(args) == 0:
		return f, nil
	}
	id, err := rowID(args[0])
	return store.QuarantineFilter{ID: id}, err
}

func (c *call) replayed(q *store.QuarantinedRow, force bool) (store.Replayed, error) {
	plan, env, err := c.Plan(c.Context(), q)
	if err != nil {
		return store.Replayed{}, err
	}
	return c.ReplayQuarantine(c.Context(), q.ID, plan, env, force)
}

func (c *commands) drop() *cobra.Command {
	var f store.QuarantineFilter
	var all bool
	cmd := c.command("drop [ID]", "Delete quarantined rows for good", func(call *call, args []string) error {
		f, err := chosen(args, f, all)
		if err != nil {
			return err
		}
		n, err := call.DropQuarantine(call.Context(), f)
		if err != nil {
			return c.explain(err, f.ID)
		}
		return call.say(map[string]any{"dropped": n}, "dropped: %d", n)
	})
	filterFlags(cmd, &f)
	cmd.Flags().BoolVar(&all, "all", false, "every quarantined row")
	return cmd
}
