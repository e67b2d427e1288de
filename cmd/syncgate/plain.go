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

func newDemo() *cobra.Command {
	o := demo.Options{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on this machine: rows up, rows down, compared on both sides",
		Long: `Start a private MariaDB for the centre and one for a point, the server and an agent; upload a
table from the point to the centre, download another, and compare both on both sides row by row.
It needs no configuration, uses a free port and a temporary directory, and leaves nothing behind.`,
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
	f.StringVar(&o.Input, "input", "", "tab-separated `file` to upload, .gz or not; without one rows with every awkward thing in them")
	f.StringVar(&o.Texts, "texts", "", "`file` of base64 texts, one a line, to put among the awkward rows where it exists")
	f.IntVar(&o.Rows, "rows", 0, "rows to upload, and at most to download (default all of --input, or 20,000)")
	f.BoolVar(&o.Keep, "keep", false, "stay up at the end and print how to look inside")
	f.BoolVar(&o.Crash, "crash", false, "kill -9 the server in the middle of the upload and start it again")
	return c
}

func newExplainError() *cobra.Command {
	return &cobra.Command{
		Use:   "explain-error SG0104",
		Short: "Say what a number means and what to do about it",
		Args:  cli.Arguments("explain-error NUMBER"),
		RunE: func(c *cobra.Command, args []string) error {
			digits := strings.TrimPrefix(strings.ToUpper(args[0]), "SG")
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil {
				return cli.Usage(fmt.Errorf("%q is not a number such as SG0104", args[0]))
			}
			status := protocol.Status(n)
			if !status.Known() {
				return fmt.Errorf("%s is no number of this version; docs/protocol.md and docs/rules.md list them all", status)
			}
			info := status.Info()
			again := "No: sending the same again gives the same answer."
			if info.Retry {
				again = "Yes: the same request may succeed later; agents do that by themselves."
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s\n\n%s\n\nWhat to do: %s\nWorth a retry? %s\n", status, info.Name, info.Meaning, info.Remedy, again)
			return err
		},
	}
}
