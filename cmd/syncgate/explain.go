package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/protocol"
)

func newExplainError() *cobra.Command {
	return &cobra.Command{
		Use:   "explain-error SG0104",
		Short: "Say what a number means and what to do about it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			digits := strings.TrimPrefix(strings.ToUpper(args[0]), "SG")
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil {
				return cli.Usage(fmt.Errorf("%q is not a number such as SG0104", args[0]))
			}
			status := protocol.Status(n)
			if !status.Known() {
				return fmt.Errorf("%s is not a number of this version", status)
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

func newConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print every setting with its default and its meaning, as a file to start from",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := config.Example(config.DefaultServer())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "# Settings of syncgate. Each may also be given as an environment variable:\n"+
				"# SYNCGATE_ and its name in capitals, with _ for the dot of a table.\n\n%s", text)
			return err
		},
	}
}
