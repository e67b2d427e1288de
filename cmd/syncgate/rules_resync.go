package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/internal/text"
	"syncgate/rule"
	"syncgate/store"
)

func newRulesResync() *cobra.Command {
	var ask store.Resync
	var noWait bool
	const short = "Compare a table of the points with the centre, and send just the rows that differ"
	cmd := onCentre("resync TABLE", short, textOrJSON, func(c *call) error {
		ask := ask
		ask.Table = c.args[0]
		points, err := c.resyncPoints(&ask)
		if err != nil {
			return err
		}
		var all []store.Resync
		for _, ask.Point = range points {
			if ask.ID, err = c.db.AskResync(c.Context(), ask); err != nil {
				return err
			}
			all = append(all, ask)
		}
		if noWait {
			return c.say(all, "%s asked; sync_resync has the result", text.Plural(len(all), "point"))
		}
		return c.awaitResyncs(all)
	})
	cmd.Long = short + `.

With an upload rule the point's rows are right, with a download rule the centre's. The sides compare checksums of ranges
of the primary key; rows that differ are sent with the changes that the rule reads, and rows that only the other side has
are deleted there. The rule needs the option changes; without it --dry-run says what differs.`
	f := cmd.Flags()
	f.StringVar(&ask.Point, "point", "", "the point to compare with (default each point that has the rule)")
	f.StringVar(&ask.Type, "type", "",
		"upload: the point's rows are right; download: the centre's (default the rule's)")
	f.StringVar(&ask.Where, "where", "", "condition of the rows that are compared, on both sides")
	f.BoolVar(&ask.DryRun, "dry-run", false, "only say what differs")
	f.BoolVar(&noWait, "no-wait", false, "do not wait for the points")
	return cmd
}

// resyncPoints checks what is asked for, and returns the points that are to compare the table.
func (c *call) resyncPoints(ask *store.Resync) (points []string, err error) {
	if ask.Type != "" {
		if err := cli.OneOf("type", ask.Type, rule.Upload, rule.Download); err != nil {
			return nil, err
		}
	}
	rows, err := c.db.Rules(c.Context())
	if err != nil {
		return nil, err
	}
	table, err := c.table(ask.Table)
	if err != nil {
		return nil, err
	}
	live, err := c.db.Points(c.Context())
	if err != nil {
		return nil, err
	}
	wants := map[string]bool{} // the points that rules name
	for _, r := range rows {
		if !strings.EqualFold(r.Table, ask.Table) || r.User != rule.Server || !r.Enabled ||
			ask.Point != "" && r.PointNo != ask.Point && r.PointNo != rule.AnyPoint {
			continue
		}
		switch ask.Type {
		case "":
			ask.Type = r.Type
		case r.Type:
		default:
			if c.Flags().Changed("type") {
				continue
			}
			return nil, cli.Usage(fmt.Errorf("%s is uploaded and downloaded; --type upload sends the points' rows, "+
				"--type download the centre's", ask.Table))
		}
		if err := c.checkResync(r, table, ask); err != nil {
			return nil, fmt.Errorf("rule %d: %w", r.ID, err)
		}
		ask.Table, wants[r.PointNo] = r.Table, true
	}
	for _, p := range live {
		if p.RevokedAt.IsZero() && (ask.Point == "" || p.Point == ask.Point) &&
			(wants[rule.AnyPoint] || wants[p.Point]) {
			points = append(points, p.Point)
		}
	}
	if len(points) == 0 {
		return nil, fmt.Errorf("no enrolled point%s has a rule of the centre for %s; 'syncgate rules list' "+
			"shows the rules",
			strings.TrimRight(" "+ask.Point, " "), ask.Table)
	}
	return points, nil
}

// checkResync returns why the table of a rule cannot be compared, or sent.
func (c *call) checkResync(r rule.Row, table *rule.Table, ask *store.Resync) error {
	plan, ds := rule.Compile(r, table)
	if plan == nil {
		i := slices.IndexFunc(ds, func(d rule.Diagnostic) bool { return d.Severity == rule.Error })
		return errors.New(ds[i].String())
	}
	if !ask.DryRun && r.Type == rule.Download && plan.Load == nil {
		return fmt.Errorf("it has not the option changes, so that differing rows cannot be sent; "+
			"add it with 'syncgate rules init %s --type download --changes --both --write', or take --dry-run", r.Table)
	}
	x, err := c.db.Compare(plan, rule.Env{Point: ask.Point}, nil, ask.Where)
	if err == nil { // the database has its say about the condition
		_, err = x.Extra(c.Context(), store.Bounds{}, nil, 1)
	}
	return err
}

// resyncPoll is how often the command looks for reports.
const resyncPoll = 200 * time.Millisecond

// awaitResyncs waits until every point has reported its result, and prints them.
func (c *call) awaitResyncs(all []store.Resync) error {
	tick := time.NewTicker(resyncPoll)
	defer tick.Stop()
	shown := map[uint64]string{}
	for waiting := true; waiting; {
		waiting = false
		for i, r := range all {
			now, err := c.db.Resync(c.Context(), r.ID, r.Point)
			if err != nil {
				return err
			}
			all[i] = now
			waiting = waiting || now.State == "asked" || now.State == "running"
			line := fmt.Sprintf("%s: %s, %d rows compared", now.Point, now.State, now.Compared)
			if line != shown[r.ID] {
				shown[r.ID] = line
				fmt.Fprintln(c.ErrOrStderr(), line)
			}
		}
		if !waiting {
			break
		}
		select {
		case <-tick.C:
		case <-c.Context().Done():
			return errors.New("interrupted; the points go on, and sync_resync has their results")
		}
	}
	err := list(c, all, "POINT\tTABLE\tTYPE\tRESULT\tROWS\tMISSING AT CENTRE\tMISSING AT POINT\tDIFFERENT\tNOTE",
		func(r *store.Resync) []any {
			return []any{r.Point, r.Table, r.Type, r.State, r.Compared, r.MissingThere, r.MissingHere,
				r.Different, r.Note}
		})
	for _, r := range all {
		if r.State == "failed" && err == nil {
			err = errors.New("a comparison failed")
		}
	}
	return err
}
