package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/doctor"
	"syncgate/internal/text"
	"syncgate/protocol"
	"syncgate/store"
)

func (f *flags) newSync() *cobra.Command {
	const short = "Run the rules of one table now, or have the running agent run all of its rules now"
	return f.formatted(f.onPoint("sync TABLE", short, true, func(c *cobra.Command, args []string, p *point) error {
		report, asked, err := p.Sync(c.Context(), args[0])
		if asked && err == nil {
			return f.say(c, map[string]any{"asked": true},
				"the running agent was asked; 'syncgate-agent status' shows the outcome")
		}
		if err == nil && len(report) == 0 {
			return cli.Usage(fmt.Errorf("no rule of this point names the table %s", args[0]))
		}
		return f.reported(c, report, err)
	}))
}

// say prints v with --format json, else a line of text.
func (f *flags) say(c *cobra.Command, v any, format string, args ...any) error {
	return cli.Say(c.OutOrStdout(), f.format == "json", v, format, args...)
}

func (f *flags) newStatus() *cobra.Command {
	const short = "Show how each rule stands: state, last success, lag, backlog, quarantine, error and remedy"
	return f.formatted(f.onPoint("status", short, true, func(c *cobra.Command, _ []string, p *point) error {
		s, err := p.Status(c.Context())
		if err != nil {
			return err
		}
		if f.format == "json" {
			return cli.WriteJSON(c.OutOrStdout(), s)
		}
		running := "no agent runs"
		if s.Running {
			running = "the agent runs"
		}
		out := c.OutOrStdout()
		fmt.Fprintf(out, "%s, key %d; %s", s.Point, s.KeyID, running)
		if s.Process != "" {
			fmt.Fprintf(out, " (last: %s)", s.Process)
		}
		if fmt.Fprintln(out); s.Last == nil {
			_, err := fmt.Fprintln(out, "it has not reported yet")
			return err
		}
		fmt.Fprintf(out, "reported %s, clock %v before the centre's\n", cli.Stamp(s.Last.ReportedAt),
			time.Duration(-s.Last.ClockAheadMs)*time.Millisecond)
		t := cli.NewTable(out, "TYPE\tTABLE\tSTATE\tLAST SUCCESS\tLAG\tBACKLOG\tQUARANTINED\tMOVED")
		for _, r := range s.Last.Rules {
			t.Row(r.Direction, r.Table, r.State, ago(r.SucceededMs, s.Last.ReportedAt), age(r.LagMs),
				text.Plural(int(r.BacklogRows), "row"), r.Quarantined, r.Moved)
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, r := range s.Last.Rules {
			if r.Text != "" {
				fmt.Fprintf(out, "%s %s: %s\n", r.Direction, r.Table,
					strings.Join([]string{r.Code, r.Text, remedy(r.Code)}, " "))
			}
		}
		return nil
	}))
}

func age(ms uint64) time.Duration {
	return (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond)
}

func ago(ms uint64, reported time.Time) string {
	if ms == 0 {
		return "never"
	}
	return cli.Stamp(reported.Add(-time.Duration(ms) * time.Millisecond))
}

// remedy is what the catalogue says about a number such as SG0200.
func remedy(code string) string {
	var n uint16
	if _, err := fmt.Sscanf(code, "SG%d", &n); err != nil || !protocol.Status(n).Known() {
		return ""
	}
	return "(" + protocol.Status(n).Info().Remedy + ")"
}

// leastDisk is the free space below which check warns.
const leastDisk = 200 << 20

func (f *flags) newCheck() *cobra.Command {
	c := &cobra.Command{Use: "check", Args: cli.Arguments("check"),
		Short: "Check settings, servers, key, database, grants, rules and disk; one line each"}
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, o, err := f.load()
		if err != nil {
			return withCode(err)
		}
		e := &doctor.Examination{}
		if f.format != "json" {
			e.Out = c.OutOrStdout()
		}
		e.Say(doctor.OK, "settings", "point "+cfg.Point+fmt.Sprintf(", key %d", cfg.KeyID))
		for _, line := range cfg.origin.Unknown() {
			e.Say(doctor.Warn, "settings", line)
		}
		code := f.servers(c, e, o)
		if err := f.local(c, e, cfg, o); err != nil {
			e.Say(doctor.Fail, "database", strings.ReplaceAll(cfg.origin.Locate(err).Error(), "\n", "; "))
			code = worst(code, exitCode(err))
		}
		if f.format == "json" {
			err = cli.WriteJSON(c.OutOrStdout(), e.All)
		}
		if e.Worst == doctor.Fail && code == 0 {
			code = cli.ExitFailed
		}
		if err == nil && code != 0 {
			err = &cli.ExitError{Code: code}
		}
		return err
	}
	f.add(f.formatted(c))
	return c
}

// servers connects to each server. One that takes the key is enough.
func (f *flags) servers(c *cobra.Command, e *doctor.Examination, o *agent.Options) (code int) {
	remote, err := agent.NewRemote(*o, 0)
	if err != nil {
		e.Say(doctor.Fail, "server", err.Error())
		return exitCode(err)
	}
	reached := false
	remote.Reach(c.Context(), func(server string, w *protocol.Welcome, err error) {
		switch reject := (*protocol.RejectError)(nil); {
		case err == nil:
			reached = true
			skew := time.Until(time.UnixMilli(w.ClockMs)).Round(time.Millisecond)
			level := doctor.OK
			if skew.Abs() > doctor.MaxSkew {
				level = doctor.Warn
			}
			e.Say(level, "server", fmt.Sprintf("%s (%s) takes the key; its clock is %v ahead of this one's", server,
				w.ServerID, skew))
		case errors.As(err, &reject) && reject.Status == protocol.StatusRejected:
			code = worst(code, exitCode(err))
			e.Say(doctor.Fail, "key",
				fmt.Sprintf("%s does not take the key. An unknown point, a wrong key and a revoked one look the "+
					"same. Ask for 'syncgate point list' there: it must have the point %q with key %d; if it has, the "+
					"key itself differs, and 'syncgate point rotate %s' makes a new one",
					server, o.Point, o.KeyID, o.Point))
		default:
			code = worst(code, exitCode(err))
			e.Say(doctor.Fail, "server", err.Error())
		}
	})
	if reached {
		return 0
	}
	return code
}

// local judges the point's own database, rules and disk.
func (f *flags) local(c *cobra.Command, e *doctor.Examination, cfg *settings, o *agent.Options) (err error) {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(cfg.DataDir, &disk); err == nil {
		free, level := disk.Bavail*uint64(disk.Bsize), doctor.OK
		if free < leastDisk {
			level = doctor.Warn
		}
		e.Say(level, "disk", fmt.Sprintf("%s MiB are free at %s", text.Digits(free>>20), cfg.DataDir))
	}
	if _, err := os.Stat(cfg.DataDir + "/db"); cfg.DSN == "" && errors.Is(err, fs.ErrNotExist) {
		e.Say(doctor.Warn, "database", "the first run makes a private one in "+cfg.DataDir)
		return nil
	}
	db, err := cfg.open(c.Context(), true, zerolog.Nop())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	facts, err := db.Facts(c.Context())
	if err != nil {
		return err
	}
	e.Server(facts)
	e.Grants(facts)
	if _, err := db.CheckSchema(c.Context()); errors.Is(err, store.ErrOldSchema) {
		e.Say(doctor.Warn, "schema", "the next run of the agent makes it or brings it forward")
		return nil
	} else if err != nil {
		return err
	}
	o.Store = db.Store
	a, err := agent.New(*o)
	if err != nil {
		return err
	}
	rules, err := a.Check(c.Context())
	for _, r := range rules {
		if r.Err != nil {
			e.Say(doctor.Fail, r.Type, r.Table+": "+r.Error)
		} else {
			e.Say(doctor.OK, r.Type, r.Table)
		}
	}
	if len(rules) == 0 {
		e.Say(doctor.Warn, "rules", "none is known here; the agent fetches the centre's when it runs")
	}
	return err
}

func (f *flags) newOutbox() *cobra.Command {
	limit, table := 100, ""
	list := f.onPoint("list", "List the batches that wait for the server, the first to leave first", true,
		func(c *cobra.Command, _ []string, p *point) error {
			all, err := p.Outbox(c.Context(), table, limit)
			if err != nil {
				return err
			}
			const heading = "ID\tTABLE\tROWS\tBYTES\tSINCE\tREFUSED\tWHY"
			return cli.List(c.OutOrStdout(), f.format == "json", all, heading, func(b *agent.Batch) []any {
				why := strings.Join([]string{b.Status, b.Error, b.Remedy}, " ")
				return []any{b.ID, b.Table, b.Rows, b.Bytes, b.Since, b.Attempts, why}
			})
		})
	list.Flags().IntVar(&limit, "limit", limit, "batches at most")
	list.Flags().StringVar(&table, "table", table, "only batches of this table")
	drop := f.onPoint("drop TABLE|ID", "Delete a batch, or all of a table, unsent and for good", true,
		func(c *cobra.Command, args []string, p *point) error {
			n, err := p.DropBatches(c.Context(), args[0])
			if err != nil {
				return err
			}
			return f.say(c, map[string]any{"dropped": n}, "dropped: %d", n)
		})
	retry := f.onPoint("retry", "Have the running agent send what was refused again now", true,
		func(c *cobra.Command, _ []string, p *point) error {
			if err := p.Wake(c.Context()); err != nil {
				return err
			}
			return f.say(c, map[string]any{"asked": true}, "a running agent tries every rule within seconds")
		})
	return cli.Group("outbox", "List, drop and retry batches that wait for the server",
		f.formatted(list), f.formatted(drop), f.formatted(retry))
}
