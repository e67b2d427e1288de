package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/control"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// asking is one call of a command that asks the running server.
type asking struct {
	context.Context
	server *control.Client
	args   []string
	out    io.Writer
	format string
}

// onServer makes a command that asks the running server.
func onServer(use, short string, run func(*asking) error) *cobra.Command {
	var f flags
	a := &asking{}
	cmd := &cobra.Command{Use: use, Short: short, Args: cli.Arguments(use)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cli.OneOf("format", a.format, "text", "json"); err != nil {
			return err
		}
		cfg, err := f.load()
		if err != nil {
			return err
		}
		a.Context, a.args, a.out, a.server = cmd.Context(), args, cmd.OutOrStdout(), control.New(cfg.Admin.Socket)
		defer a.server.Close()
		return run(a)
	}
	f.add(cmd)
	cmd.Flags().StringVar(&a.format, "format", "text", "text or json")
	return cmd
}

// streamed prints each line of a stream: as it is with --format json, else what text makes of it.
func streamed[T any](a *asking, method, path string, body any, text func(*T) string) error {
	return a.server.Stream(a, method, path, body, func(line json.RawMessage) error {
		if a.format == "json" {
			_, err := fmt.Fprintf(a.out, "%s\n", line)
			return err
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return err
		}
		_, err := fmt.Fprintln(a.out, text(&v))
		return err
	})
}

// printable is text of a point as a terminal may show it.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, text)
}

func newSyncNow() *cobra.Command {
	var direction string
	const use, short = "sync-now POINT TABLE", "Have a point run its rule for a table now, and show how it goes"
	cmd := onServer(use, short, func(a *asking) error {
		if err := cli.OneOf("direction", direction, rule.Upload, rule.Download); err != nil {
			return err
		}
		body := map[string]string{"point": a.args[0], "table": a.args[1], "direction": direction}
		return streamed(a, http.MethodPost, "sync-now", body, func(l *store.LogLine) string {
			return fmt.Sprintf("%s  %6d ms  %s", l.At.Local().Format(clock), l.Ms, printable(l.Text))
		})
	})
	cmd.Flags().StringVar(&direction, "direction", "upload", "direction of the rule: upload or download")
	cmd.Long = short + `. The server must be running
and the point connected. The lines are in the table sync_log too. The exit code is 1 when the rule failed.`
	return cmd
}

const clock = "15:04:05.000"

func newTap() *cobra.Command {
	var point, table, status string
	var values bool
	cmd := onServer("tap", "Show each request of the points as the server answers it", func(a *asking) error {
		q := url.Values{"point": {point}, "table": {table}}
		if n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToUpper(status), "SG"), 10, 16); err == nil {
			q.Set("status", strconv.FormatUint(n, 10))
		} else if status == "failed" {
			q.Set("failed", "1")
		} else if status != "" {
			return cli.Usage(fmt.Errorf("--status %s is neither a number nor 'failed'", status))
		}
		if values {
			q.Set("values", "1")
		}
		err := streamed(a, http.MethodGet, "tap?"+q.Encode(), nil, tapText)
		if a.Err() != nil {
			return nil // whoever watched has seen enough
		}
		return err
	})
	cmd.Flags().StringVar(&point, "point", "", "only requests of this point")
	cmd.Flags().StringVar(&table, "table", "", "only requests for this table")
	cmd.Flags().StringVar(&status, "status", "", "only requests with this status: a number, or 'failed' for all but 0")
	cmd.Flags().BoolVar(&values, "values", false, "also the values of the first rows, escaped and cut")
	return cmd
}

type tapLine struct {
	store.LogLine
	Missed uint64 `json:"missed"`
}

const tapColumns = "%-12s  %-20s %-9s %-24s %8v %10v %9v  %s\n"

// tapText is a line of a tap for a terminal.
func tapText(l *tapLine) string {
	if l.Type == "" && l.Missed == 0 { // the server watches from here on
		return strings.TrimSuffix(fmt.Sprintf(tapColumns, "TIME", "POINT", "REQUEST", "TABLE", "ROWS", "BYTES", "MS",
			"STATUS"), "\n")
	}
	if l.Missed > 0 {
		return fmt.Sprintf("-- %d requests are not shown, because this terminal was too slow", l.Missed)
	}
	outcome := "ok"
	if s := protocol.Status(l.Status); s != protocol.StatusOK {
		outcome = s.String() + " " + s.Info().Name
	}
	text := fmt.Sprintf(tapColumns, l.At.Local().Format(clock), printable(l.Point), l.Type, printable(l.Table), l.Rows,
		l.Bytes, l.Ms, outcome)
	if l.Values != "" {
		text += strings.Repeat(" ", 14) + l.Values + "\n"
	}
	return strings.TrimSuffix(text, "\n")
}
