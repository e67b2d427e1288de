package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"syncgate/admin"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/control"
	"syncgate/internal/rowset"
	"syncgate/internal/text"
	"syncgate/store"
)

// pointLine is a point as `points` and `status POINT` show it.
type pointLine struct {
	store.Point
	State  string             `json:"state"`
	Remote string             `json:"remote,omitempty"`
	Report *store.PointReport `json:"report"` // null: the point reports nothing
}

// pointLines are the points as the database has them, with what a running server knows of their connections. away says
// why the server could not be asked.
func (c *call) pointLines(only string) (lines []pointLine, away error, err error) {
	points, err := c.db.Points(c.Context())
	if err != nil {
		return nil, nil, err
	}
	reports, err := c.db.PointReports(c.Context(), only)
	if err != nil {
		return nil, nil, err
	}
	live, away := c.connected()
	for _, p := range points {
		if only != "" && p.Point != only {
			continue
		}
		line := pointLine{Point: p, State: "away"}
		if conn, ok := live[p.Point]; ok {
			line.State, line.Remote, line.SeenAt = "connected", conn.Remote, time.Now()
		}
		switch {
		case !p.RevokedAt.IsZero():
			line.State = "revoked"
		case line.SeenAt.IsZero():
			line.State = "new"
		}
		i, found := slices.BinarySearchFunc(reports, p.Point, func(r store.PointReport, name string) int {
			return strings.Compare(r.Point, name)
		})
		if found {
			line.Report = &reports[i]
		}
		lines = append(lines, line)
	}
	return lines, away, nil
}

func (c *call) connected() (map[string]admin.Connected, error) {
	server := control.New(c.cfg.Admin.Socket)
	defer server.Close()
	ctx, cancel := context.WithTimeout(c.Context(), 5*time.Second)
	defer cancel()
	var all []admin.Connected
	err := server.Get(ctx, "connections", nil, &all)
	live := map[string]admin.Connected{}
	for _, p := range all {
		live[p.Point] = p
	}
	return live, err
}

func newPoints() *cobra.Command {
	const short = "List the points with their state now: connection, rules, lag, backlog, version"
	return onCentre("points", short, textOrJSON, func(c *call) error {
		lines, away, err := c.pointLines("")
		if err != nil {
			return err
		}
		c.note(away)
		const heading = "POINT\tSTATE\tRULES\tLAG\tBACKLOG\tQUARANTINED\tCLOCK\tVERSION\tWIRE\tLAST SEEN"
		return list(c, lines, heading, func(l *pointLine) []any {
			if l.Report == nil {
				return []any{l.Point.Point, l.State, "reports nothing", "", "", "", "", "", l.Wire, l.SeenAt}
			}
			r := admin.Sum(l.Report, time.Now())
			return []any{l.Point.Point, l.State, ruleStates(l.Report.Rules), lag(r.LagMs), r.Backlog, r.Quarantined,
				clockAhead(r.ClockAheadMs), strings.TrimPrefix(r.Software, "syncgate-agent "), l.Wire, l.SeenAt}
		})
	})
}

// note says on standard error why the server could not be asked.
func (c *call) note(away error) {
	if away != nil {
		fmt.Fprintln(c.ErrOrStderr(), away.Error()+"; this is what the database has")
	}
}

// ruleStates counts rules by state, the worst first.
func ruleStates(rules []rowset.RuleReport) string {
	var parts []string
	for _, state := range []string{rowset.RuleBroken, rowset.RuleFailing, rowset.RuleStale, rowset.RuleOK} {
		n := 0
		for _, x := range rules {
			if x.State == state {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprint(n, " ", state))
		}
	}
	return strings.Join(parts, ", ")
}

// lag is a duration for a table; empty when it is 0.
func lag(ms uint64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case ms == 0 || ms > uint64(1<<62/time.Millisecond):
		return ""
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= time.Second:
		return d.Round(time.Second).String()
	}
	return d.String()
}

// clockAhead is a difference of clocks that is worth a look; empty below a second, which the way of a report may take.
func clockAhead(ms int64) string {
	if ms > -1000 && ms < 1000 {
		return ""
	}
	d := (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond)
	if d > 0 {
		return "+" + d.String()
	}
	return d.String()
}

func newStatus() *cobra.Command {
	const short = "Show how the running server is, or with POINT how that point and each of its rules is"
	return onCentre("status [POINT]", short, textOrJSON, func(c *call) error {
		if len(c.args) == 1 {
			return c.pointStatus(c.args[0])
		}
		server := control.New(c.cfg.Admin.Socket)
		defer server.Close()
		var st admin.Status
		if err := server.Get(c.Context(), "status", nil, &st); err != nil {
			if !errors.Is(err, control.ErrNotRunning) {
				return err
			}
			lines, _, dberr := c.pointLines("")
			if dberr != nil {
				return errors.Join(err, dberr)
			}
			return errors.Join(c.say(map[string]any{"state": "not running", "points": lines},
				"%s are enrolled; 'syncgate points' shows what was last known of each",
				text.Plural(len(lines), "point")),
				&cli.ExitError{Code: cli.ExitFailed, Err: err})
		}
		if c.format == "json" {
			return cli.WriteJSON(c.out, st)
		}
		fmt.Fprintf(c.out, "%s: %s, for %s\n", st.Program, st.State, lag(uint64(st.Now.Sub(st.Started).Milliseconds())))
		fmt.Fprintf(c.out, "points: %s\nrules: %s\n", counts(st.Points), counts(st.Rules))
		for _, f := range st.Figures {
			fmt.Fprintf(c.out, "%s: %s", f.Name, text.Digits(f.Value))
			if f.Limit > 0 {
				fmt.Fprintf(c.out, " of %s", text.Digits(f.Limit))
			}
			fmt.Fprintln(c.out)
		}
		for _, p := range st.Problems {
			fmt.Fprintf(c.out, "\n%s\n  %s\n", p.Title, p.Remedy)
			for _, item := range p.Items {
				fmt.Fprintf(c.out, "  - %s %s\n", item.Name, item.Text)
			}
		}
		return nil
	})
}

func counts(of map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprint(of[name], " ", name))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// pointStatus shows one point with its rules.
func (c *call) pointStatus(name string) error {
	lines, away, err := c.pointLines(name)
	switch {
	case err != nil:
		return err
	case len(lines) == 0:
		return fmt.Errorf("no point is called %q; 'syncgate points' lists them", name)
	}
	c.note(away)
	p := &lines[0]
	if c.format == "json" {
		return cli.WriteJSON(c.out, p)
	}
	fmt.Fprintf(c.out, "%s: %s, last seen %s, %s wire", name, p.State, cli.Stamp(p.SeenAt), p.Wire)
	if p.Remote != "" {
		fmt.Fprintf(c.out, ", from %s", p.Remote)
	}
	r := p.Report
	if r == nil {
		fmt.Fprintln(c.out, "\nreports nothing: its agent is older than this server, or has not connected since the "+
			"server was updated")
		return nil
	}
	fmt.Fprintf(c.out, "\n%s on %s, up for %s; reported %s\n", r.Software, r.Database, lag(r.UpMs),
		cli.Stamp(r.ReportedAt))
	fmt.Fprintf(c.out, "clock %d ms ahead; disk free: %s MiB; memory: %s MiB\n\n", r.ClockAheadMs,
		text.Digits(r.DiskFree>>20), text.Digits(r.Memory>>20))
	t := cli.NewTable(c.out,
		"TYPE\tTABLE\tSTATE\tLAST SUCCESS\tLAG\tBACKLOG\tBYTES\tQUARANTINED\tMOVED\tFAILURES\tERROR")
	for _, x := range r.Rules {
		success := ""
		if x.SucceededMs > 0 {
			success = lag(max(x.SucceededMs, 1000)) + " ago"
		}
		t.Row(x.Direction, x.Table, x.State, success, lag(x.LagMs), x.BacklogRows, x.BacklogBytes,
			x.Quarantined, x.Moved, x.Failures, place(&x))
	}
	return t.Flush()
}

// place is an error with its number and where it is.
func place(x *rowset.RuleReport) string {
	where := x.Column
	if x.Line > 0 {
		where += ":" + strconv.FormatUint(uint64(x.Line), 10)
	}
	return strings.Join(slices.DeleteFunc([]string{x.Code, where, x.Text}, func(s string) bool { return s == "" }), " ")
}

func newConnections() *cobra.Command {
	const short = "List the points that are connected, with what they have moved since the server's start"
	return onServer("connections", short, func(a *asking) error {
		var all []admin.Connected
		if err := a.server.Get(a, "connections", nil, &all); err != nil {
			return err
		}
		return list(&call{format: a.format, out: a.out}, all,
			"POINT\tCONNECTIONS\tFROM\tROWS UP\tROWS DOWN\tLAST FAILURE", func(p *admin.Connected) []any {
				failure := ""
				if f := p.Failure; f != nil {
					failure = fmt.Sprintf("%s %s %s: %s", cli.Stamp(f.At), f.Code, f.Table, f.Message)
				}
				return []any{p.Point, p.Connections, p.Remote, p.RowsUp, p.RowsDown, failure}
			})
	})
}

func newDrain() *cobra.Command {
	const short = "End the server in order: it answers the requests in progress; agents keep their rows"
	return onServer("drain", short, func(a *asking) error {
		if err := a.server.Post(a, "drain", nil, nil); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.out, "draining; the log says when it is done")
		return err
	})
}

func newReload() *cobra.Command {
	const short = "Have the server read its configuration again, and say what took effect"
	return onServer("reload", short, func(a *asking) error {
		var done map[string]any
		if err := a.server.Post(a, "reload", nil, &done); err != nil {
			return err
		}
		return cli.WriteJSON(a.out, done)
	})
}

func newLogLevel() *cobra.Command {
	const short = "Show or set the log level of the running server: trace, debug, info, warn or error"
	return onServer("loglevel [LEVEL]", short, func(a *asking) error {
		var level struct {
			Level string `json:"level"`
		}
		if len(a.args) == 1 {
			level.Level = a.args[0]
			if err := a.server.Post(a, "loglevel", level, nil); err != nil {
				return err
			}
		}
		if err := a.server.Get(a, "loglevel", url.Values{}, &level); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.out, level.Level)
		return err
	})
}
