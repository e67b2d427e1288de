// Command syncgate keeps the tables of many detection points in step with one central database.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/demo"
	"syncgate/protocol"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	root := cli.Group("syncgate", "Keep the tables of many detection points in step with one central database",
		newServe(), newDemo(), newMigrate(), newPoint(), newKeyCommand(), newRules(), newQuarantine(), newConflicts(),
		newStatus(), newPoints(), newConnections(), newSyncNow(), newTap(), newDrain(), newReload(), newLogLevel(),
		newDoctor(), newExplainError(),
		cli.NewConfig(example(), checkFile))
	root.Version = cli.Version()
	root.Long = `syncgate keeps the tables of many detection points in step with one central database.

Agents connect to 'syncgate serve'. Rows of the table sync_control say which tables are synced,
in which direction and by which SQL. Without any configuration syncgate runs a private MariaDB.
'syncgate demo' shows everything on this machine.`
	return root
}

func newDemo() *cobra.Command {
	o := demo.Options{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on this machine: rows up, rows down, compared on both sides",
		Long: `Start a private MariaDB for the centre and one for a point, the server and an agent. Upload a table
from the point to the centre, download another, and compare both on both sides row by row.
The demo needs no configuration. It uses a free port and a temporary directory, and leaves nothing behind.`,
		Args: cli.Arguments("demo"),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.Rows < 0 {
				return cli.Usage(fmt.Errorf("--rows counts from 0, not %d", o.Rows))
			}
			var err error
			if o.Program, err = os.Executable(); err != nil {
				return err
			}
			o.Out, o.Progress = c.OutOrStdout(), cli.IsTerminal(c.OutOrStdout())
			err = demo.Run(c.Context(), o)
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted")
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Input, "input", "", "tab-separated `file` to upload, perhaps .gz (default made rows)")
	f.StringVar(&o.Texts, "texts", "", "`file` of base64 texts, one a line, for the made rows; it may be missing")
	f.IntVar(&o.Rows, "rows", 0, "rows to upload, and at most to download (default all of --input, or 20,000)")
	f.BoolVar(&o.Keep, "keep", false, "stay up at the end and print how to look inside")
	f.BoolVar(&o.Crash, "crash", false, "kill -9 the server in the middle of the upload and start it again")
	return c
}

func newExplainError() *cobra.Command {
	return &cobra.Command{
		Use:   "explain-error SG0104",
		Short: "Explain a number: what it means and what to do about it",
		Args:  cli.Arguments("explain-error NUMBER"),
		RunE: func(c *cobra.Command, args []string) error {
			digits := strings.TrimPrefix(strings.ToUpper(args[0]), "SG")
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil {
				return cli.Usage(fmt.Errorf("%q is not a number such as SG0104", args[0]))
			}
			status := protocol.Status(n)
			if !status.Known() {
				return fmt.Errorf("this version has no number %s; docs/protocol.md and docs/rules.md list all", status)
			}
			info := status.Info()
			again := "no, the same request gets the same answer"
			if info.Retry {
				again = "yes, the same request may succeed later; agents retry by themselves"
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s\n\n%s\n\nRemedy: %s\nRetry: %s\n",
				status, info.Name, info.Meaning, info.Remedy, again)
			return err
		},
	}
}
