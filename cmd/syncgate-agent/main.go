// Command syncgate-agent keeps the tables of one detection point in step with the centre.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/quarantine"
)

func main() { os.Exit(cli.Main(newRoot())) }

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
		f.command("run", "Keep the point in step until INT or TERM", func(c *cobra.Command, p *point) error {
			cli.Notify(p.log, daemon.SdNotifyReady)
			context.AfterFunc(c.Context(), func() { cli.Notify(p.log, daemon.SdNotifyStopping) })
			return p.Agent.Run(c.Context())
		}),
		f.command("once", "Run every rule once, print the rows synced, end", func(c *cobra.Command, p *point) error {
			report, err := p.Once(c.Context())
			if report != nil {
				printErr := report.Print(c.OutOrStdout())
				err = errors.Join(err, printErr)
			}
			if errors.Is(err, context.Canceled) {
				err = errors.New("interrupted; rows that were not acknowledged are kept and sent next time")
			}
			return err
		}),
		f.newQuarantine(),
		cli.NewConfig(example()),
	)
	return root
}

// command makes a command that works on the point's agent.
func (f *flags) command(use, short string, do func(*cobra.Command, *point) error) *cobra.Command {
	return f.onPoint(use, short, false, func(c *cobra.Command, _ []string, p *point) error { return do(c, p) })
}

// onPoint makes a command that works on the point's database. A tool may run beside the agent.
func (f *flags) onPoint(use, short string, tool bool, do func(*cobra.Command, []string, *point) error) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cli.Arguments(use),
		RunE: func(c *cobra.Command, args []string) (err error) {
			cfg, o, err := f.load()
			if err != nil {
				return err
			}
			log, err := cli.Logger(c.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat)
			if err != nil {
				return err
			}
			if tool {
				log = log.Level(zerolog.WarnLevel)
			}
			p, err := openPoint(c.Context(), cfg, o, tool, log)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.Close()) }()
			return do(c, args, p)
		},
	}
	f.add(c)
	return c
}

func (f *flags) newQuarantine() *cobra.Command {
	return quarantine.New("syncgate-agent", func(use, short string, run func(*cobra.Command, []string, *quarantine.Place) error) *cobra.Command {
		return f.onPoint(use, short, true, func(c *cobra.Command, args []string, p *point) error {
			return run(c, args, &quarantine.Place{Store: p.Store, Plan: p.QuarantinePlan})
		})
	})
}
