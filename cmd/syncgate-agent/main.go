// Command syncgate-agent keeps the tables of one detection point in step with the centre.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
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
			cli.OnHangup(c.Context(), func() { f.reread(p.log) })
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
		cli.NewConfig(example(), checkFile),
	)
	return root
}

// command makes a command that works on the point's agent.
func (f *flags) command(use, short string, do func(*cobra.Command, *point) error) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			cfg, o, err := f.load()
			if err != nil {
				return err
			}
			if err := cli.SetLevel(cfg.LogLevel); err != nil {
				return cfg.origin.Locate(err)
			}
			log, end, err := cli.Logger(c.ErrOrStderr(), cfg.LogFormat)
			if err != nil {
				return cfg.origin.Locate(err)
			}
			defer end()
			for _, line := range cfg.origin.Unknown() {
				log.Warn().Msg(line)
			}
			p, err := openPoint(c.Context(), cfg, o, log)
			if err != nil {
				return cfg.origin.Locate(err)
			}
			defer func() { err = errors.Join(err, p.Close()) }()
			return do(c, p)
		},
	}
	f.add(c)
	return c
}
