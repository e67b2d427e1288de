// Command syncgate-agent keeps the tables of one detection point in step with the centre.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/database"
	"syncgate/cmd/internal/quarantine"
	"syncgate/internal/text"
	"syncgate/migrations"
	"syncgate/rule"
	"syncgate/store"
)

// memory is what the agent tries to stay below. What a large row takes is above it, and is returned soon.
const memory = 20 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memory)
	}
	os.Exit(cli.Main(newRoot()))
}

func newRoot() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:   "syncgate-agent",
		Short: "Keep the tables of one detection point in step with the centre",
		Long: `syncgate-agent keeps the tables of one detection point in step with the centre.

It needs the settings point, key_id and key that 'syncgate point add NAME' printed, in a file given
with --config or in the environment (SYNCGATE_AGENT_POINT, SYNCGATE_AGENT_KEY_ID, SYNCGATE_AGENT_KEY).
Without a DSN it keeps its tables in a private MariaDB.`,
		Version: cli.Version(),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(
		f.onPoint("run", "Keep the point in step until INT or TERM", false, run),
		f.formatted(f.command("once", "Run every rule once, print the rows synced, end", f.once)),
		f.newSync(),
		f.newStatus(),
		f.newCheck(),
		f.newOutbox(),
		f.newPush(),
		f.newPull(),
		f.newResync(),
		f.newQuarantine(),
		cli.NewConfig(example(), checkFile),
	)
	return root
}

func run(c *cobra.Command, _ []string, p *point) error {
	ctx, cancel := context.WithCancel(c.Context())
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	listener, err := listenMetrics(p.metrics)
	if err != nil {
		return err
	}
	if listener != nil {
		served.Go(func() { serveMetrics(ctx, listener, p.Agent, p.log) })
	}
	cli.Notify(p.log, daemon.SdNotifyReady)
	context.AfterFunc(ctx, func() { cli.Notify(p.log, daemon.SdNotifyStopping) })
	return p.Run(ctx)
}

func (f *flags) once(c *cobra.Command, a *agent.Agent, _ zerolog.Logger) error {
	report, err := a.Once(c.Context())
	return f.reported(c, report, err)
}

// reported prints the report of a round, and gives its errors the worst exit code.
func (f *flags) reported(c *cobra.Command, report agent.Report, err error) error {
	code, quarantined := 0, int64(0)
	if err != nil {
		code = exitCode(err)
	}
	for _, l := range report {
		if quarantined += l.Quarantined; l.Err != nil {
			code = worst(code, exitCode(l.Err))
		}
	}
	switch {
	case f.format == "json":
		err = errors.Join(err, cli.WriteJSON(c.OutOrStdout(), append(agent.Report{}, report...)))
	case report != nil:
		err = errors.Join(err, report.Print(c.OutOrStdout()))
	}
	switch {
	case errors.Is(err, context.Canceled):
		err = fmt.Errorf("%w; rows that were not acknowledged are kept and sent next time", context.Canceled)
	case quarantined > 0:
		code = worst(code, exitData)
		err = errors.Join(err, fmt.Errorf("%s in quarantine: see 'syncgate-agent quarantine list', "+
			"and 'syncgate quarantine list' at the centre", text.Plural(int(quarantined), "row")))
	}
	if err == nil {
		return nil
	}
	return &cli.ExitError{Code: code, Err: err}
}

// command makes a command that works on the point's agent. It updates the database's schema.
func (f *flags) command(
	use, short string, do func(*cobra.Command, *agent.Agent, zerolog.Logger) error,
) *cobra.Command {
	return f.onPoint(use, short, false, func(c *cobra.Command, _ []string, p *point) error {
		return do(c, p.Agent, p.log)
	})
}

// open opens the configured database or the private one.
func (s *settings) open(ctx context.Context, tool bool, log zerolog.Logger) (*database.Database, error) {
	where := database.Options{DSN: s.DSN, Dir: filepath.Join(s.DataDir, "db"), Join: tool, Log: log}
	return database.Open(ctx, where, store.Options{
		Set: migrations.Agent, FileRoot: s.FileDir, Zone: s.Zone,
		AcceptUnsafe: tool || s.AcceptUnsafe, AnyEngine: s.AcceptUnsafe,
	})
}

// point is an agent and its database.
type point struct {
	*agent.Agent
	db      *store.Store
	log     zerolog.Logger
	metrics string // address of its metrics
}

// onPoint makes a command that opens the configured database or the private one. A tool may run beside the agent. It
// changes no schema and makes no directory.
func (f *flags) onPoint(use, short string, tool bool, do func(*cobra.Command, []string, *point) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cli.Arguments(use)}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		defer func() { err = withCode(err) }()
		cfg, o, err := f.load()
		if err != nil {
			return err
		}
		defer func() { err = cfg.origin.Locate(err) }()
		log, end, err := cli.Logger(c.ErrOrStderr(), cfg.LogFormat)
		if err != nil {
			return err
		}
		defer end()
		if tool {
			log = log.Level(zerolog.WarnLevel)
		} else if err := os.MkdirAll(cfg.FileDir, 0o755); err != nil {
			return &config.Error{Place: "file_dir", Problem: err.Error()}
		}
		for _, line := range cfg.origin.Unknown() {
			log.Warn().Msg(line)
		}
		cli.OnHangup(c.Context(), func() { f.reread(log) })
		db, err := cfg.open(c.Context(), tool, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		if tool {
			_, err = db.CheckSchema(c.Context())
		} else {
			err = db.Migrate(c.Context(), func(name string) { log.Debug().Str("migration", name).Msg("schema") })
		}
		if err != nil {
			return err
		}
		o.Store, o.Software, o.Log = db.Store, "syncgate-agent "+cli.Version(), log
		o.Observer = func(e store.Event) {
			if e.Err != nil && e.Metric.Failure != "" {
				log.Warn().Err(e.Err).Str(e.Metric.Label, e.Label).Msg(e.Metric.Failure)
				return
			}
			log.Debug().Str("metric", e.Metric.Name).Str(e.Metric.Label, e.Label).Uint64("n", e.N).Err(e.Err).
				Msg("counted")
		}
		a, err := agent.New(*o)
		if err != nil {
			return err
		}
		return do(c, args, &point{a, db.Store, log, cfg.Metrics})
	}
	f.add(c)
	return c
}

func (f *flags) newResync() *cobra.Command {
	var job agent.Job
	const short = "Compare a table with the centre, and send just the rows that differ"
	cmd := f.onPoint("resync TABLE", short, true, func(c *cobra.Command, args []string, p *point) error {
		if job.Direction != "" {
			if err := cli.OneOf("type", job.Direction, rule.Upload, rule.Download); err != nil {
				return err
			}
		}
		job := job
		job.Table = args[0]
		r, err := p.Resync(c.Context(), job, func(r agent.Result) error {
			_, err := fmt.Fprintf(c.ErrOrStderr(), "%d rows compared\n", r.Compared)
			return err
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(),
			"%d rows compared: %d missing at the centre, %d missing at this point, %d different\n",
			r.Compared, r.MissingThere, r.MissingHere, r.Different)
		if r.Note != "" {
			fmt.Fprintln(c.OutOrStdout(), r.Note)
		}
		return nil
	})
	cmd.Flags().StringVar(&job.Direction, "type", "",
		"upload: this point's rows are right; download: the centre's (default the rule's)")
	cmd.Flags().BoolVar(&job.DryRun, "dry-run", false, "only say what differs")
	return cmd
}

func (f *flags) newQuarantine() *cobra.Command {
	with := func(use, short string, run func(*cobra.Command, []string, *quarantine.Place) error) *cobra.Command {
		return f.onPoint(use, short, true, func(c *cobra.Command, args []string, p *point) error {
			return run(c, args, &quarantine.Place{Store: p.db, Plan: p.QuarantinePlan})
		})
	}
	return quarantine.New("syncgate-agent", with)
}
