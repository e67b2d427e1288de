// Package cli has what both commands share: exit codes, arguments, the logger, signals, and the output of errors.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"syncgate/cmd/internal/config"
	"syncgate/internal/logging"
)

// Exit codes. 78 is EX_CONFIG of sysexits(3): a service manager can distinguish a wrong setting, which a person must
// correct, from a failure that a restart may cure.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
	ExitConfig = 78
)

// ExitError carries an exit code. Err is nil when the command has printed everything.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Usage marks err as a mistake in how the command was called.
func Usage(err error) error { return &ExitError{ExitUsage, err} }

// Main runs root until it returns or INT or TERM arrives, and returns the exit code. The commands' context ends at the
// first signal; a second one ends the process at once.
func Main(root *cobra.Command) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usage(err)
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	c, err := root.ExecuteContextC(ctx)
	code := exitCode(err)
	if exit := (*ExitError)(nil); err == nil || errors.As(err, &exit) && exit.Err == nil {
		return code
	}
	fmt.Fprintf(root.ErrOrStderr(), "%s: %v\n", root.Name(), err)
	if code == ExitUsage {
		fmt.Fprintf(root.ErrOrStderr(), "See '%s --help'\n", c.CommandPath())
	}
	return code
}

func exitCode(err error) int {
	var exit *ExitError
	var setting *config.Error
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.Code
	case errors.As(err, &setting):
		return ExitConfig
	case strings.HasPrefix(err.Error(), "unknown command"), strings.HasPrefix(err.Error(), "required flag"):
		return ExitUsage // cobra's own errors carry no type
	default:
		return ExitFailed
	}
}

// Arguments accepts the arguments that use names, as in "try ID" or "history [ID]".
func Arguments(use string) cobra.PositionalArgs {
	names := strings.Fields(use)[1:]
	return func(_ *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return Usage(fmt.Errorf("%q is one argument too many", args[len(names)]))
		}
		for _, name := range names[len(args):] {
			if !strings.HasPrefix(name, "[") {
				return Usage(fmt.Errorf("%s is missing", name))
			}
		}
		return nil
	}
}

// Group makes a command that only holds others.
func Group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	c.AddCommand(commands...)
	return c
}

// Version is the module's version, or with it the commit it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return info.Main.Version + " (" + s.Value[:12] + ")"
		}
	}
	return info.Main.Version
}

// OneOf returns an error that lists the allowed words when text is not one of them.
func OneOf(flag, text string, allowed ...string) error {
	if slices.Contains(allowed, text) {
		return nil
	}
	return Usage(fmt.Errorf("--%s must be one of %s, not %q", flag, strings.Join(allowed, ", "), text))
}

// SetLevel sets the level of every log: trace, debug, info, warn or error.
func SetLevel(level string) error {
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		problem := fmt.Sprintf("%q is none of trace, debug, info, warn, error", level)
		return &config.Error{Place: "log_level", Problem: problem}
	}
	zerolog.SetGlobalLevel(l)
	return nil
}

// CheckFormat returns an error for a format that Logger does not have.
func CheckFormat(format string) error {
	if !slices.Contains([]string{"auto", "json", "console"}, format) {
		return &config.Error{Place: "log_format", Problem: fmt.Sprintf("%q is none of auto, json, console", format)}
	}
	return nil
}

// logPatience is how long a process that ends waits for its log to be read.
const logPatience = 2 * time.Second

// Logger writes to w in a format: json, console, or auto, which is console on a terminal, the systemd journal's own
// fields under systemd, and json elsewhere. The others get every line as json. No line waits for who reads w. The
// caller calls end last.
func Logger(w io.Writer, format string, others ...io.Writer) (log zerolog.Logger, end func(), err error) {
	if err := CheckFormat(format); err != nil {
		return zerolog.Nop(), nil, err
	}
	zerolog.TimeFieldFormat, zerolog.DurationFieldInteger = logging.TimeFormat, true
	switch {
	case format == "console" || format == "auto" && IsTerminal(w):
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: logging.TimeFormat, NoColor: !IsTerminal(w)}
	case format == "auto" && toJournal(w):
		w = journalWriter{w}
	}
	queue := logging.NewWriter(w)
	all := zerolog.MultiLevelWriter(append([]io.Writer{queue}, others...)...)
	return zerolog.New(all).With().Timestamp().Logger(), func() { queue.Close(logPatience) }, nil
}

// OnHangup calls f at every HUP until ctx ends. A process that calls it does not end by one.
func OnHangup(ctx context.Context, f func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return // HUP stays caught: the process ends in order
			case <-signals:
				f()
			}
		}
	}()
}

// Notify tells systemd the state, where there is a systemd.
func Notify(log zerolog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn().Err(err).Msg("systemd not notified")
	}
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// NewConfig makes the command config, which prints example: a file with every setting. Its command check judges a file.
func NewConfig(example string, check func(path string) (warnings []string, err error)) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Print every setting with its meaning, its default and its bounds, as a file to start from",
		Args:  Arguments("config"),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), example)
			return err
		},
	}
	c.AddCommand(&cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file, together with the environment, without starting anything",
		Args:  Arguments("check FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			warnings, err := check(args[0])
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(c.ErrOrStderr(), w)
			}
			if len(warnings) > 0 {
				return &ExitError{Code: ExitFailed}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: ok\n", args[0])
			return err
		},
	})
	return c
}
