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
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	var f flags
	root := &cobra.Command{
		Use:   "syncgate-agent",
		Short: "Keep the tables of one detection point in step with the centre",
		Long: `syncgate-agent keeps the tables of one detection point in step with the centre.

It needs what 'syncgate point add NAME' printed: point, key_id and key, in a file given
with --config or in the environment (SYNCGATE_AGENT_POINT, SYNCGATE_AGENT_KEY_ID,
SYNCGATE_AGENT_KEY). Without a DSN it keeps its tables in a private MariaDB of its own.`,
		Version: cli.Version(),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.AddCommand(
		f.command("run", "Stay and keep the point in step until INT or TERM", func(c *cobra.Command, p *point) error {
			tell(p.log, daemon.SdNotifyReady)
			context.AfterFunc(c.Context(), func() { tell(p.log, daemon.SdNotifyStopping) })
			return p.Run(c.Context())
		}),
		f.command("once", "Make one round of every rule, print what moved, and end", func(c *cobra.Command, p *point) error {
			report, err := p.Once(c.Context())
			if report != nil {
				printErr := report.Print(c.OutOrStdout())
				err = errors.Join(err, printErr)
			}
			if errors.Is(err, context.Canceled) {
				err = errors.New("interrupted; what was not acknowledged is kept and sent next time")
			}
			return err
		}),
		cli.NewConfig(example()),
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
			log, err := cli.Logger(c.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat)
			if err != nil {
				return err
			}
			p, err := openPoint(c.Context(), cfg, o, log)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, p.Close()) }()
			return do(c, p)
		},
	}
	f.add(c)
	return c
}

// tell says to systemd, where it is there, that the point's database answers or that the
// agent is about to end.
func tell(log zerolog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn().Err(err).Msg("systemd could not be told")
	}
}
