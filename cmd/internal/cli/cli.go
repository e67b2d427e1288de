// Package cli is what both commands share around their work: exit codes, the logger,
// signals, and the way an error reaches the person at the terminal.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"syncgate/cmd/internal/config"
)

// Exit codes. 78 is EX_CONFIG of sysexits(3): a service manager can tell a setting
// that needs a person from a failure that a restart may cure.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2
	ExitConfig = 78
)

// ExitError carries an exit code of its own; Err may be nil when all has been said.
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

// Main runs root until it returns or INT or TERM arrives, and gives the exit code.
// The context that commands see ends at the first signal; a second one ends the
// process at once, as someone who presses ^C twice expects.
func Main(root *cobra.Command) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usage(fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath()))
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return code(root.ExecuteContext(ctx), root.ErrOrStderr(), root.Name())
}

func code(err error, stderr io.Writer, name string) int {
	if err == nil {
		return ExitOK
	}
	var exit *ExitError
	var setting *config.Error
	switch {
	case errors.As(err, &exit):
		if exit.Err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, exit.Err)
		}
		return exit.Code
	case errors.As(err, &setting):
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitConfig
	case isUsage(err):
		fmt.Fprintf(stderr, "%s: %v\nSee '%s --help'\n", name, err, name)
		return ExitUsage
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return ExitFailed
	}
}

// isUsage recognises cobra's own complaints, which carry no type.
func isUsage(err error) bool {
	for _, prefix := range []string{"unknown command", "accepts ", "requires ", "required flag", "invalid argument"} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

// OneOf says whether text is one of the allowed words, and if not, which are.
func OneOf(flag, text string, allowed ...string) error {
	for _, a := range allowed {
		if text == a {
			return nil
		}
	}
	return Usage(fmt.Errorf("--%s must be one of %s, not %q", flag, strings.Join(allowed, ", "), text))
}

// Logger writes to w at a level (trace … error) in a format: json, console, or auto,
// which is console on a terminal and json elsewhere. The others get every line as json.
func Logger(w io.Writer, level, format string, others ...io.Writer) (zerolog.Logger, error) {
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return zerolog.Nop(), &config.Error{Place: "log_level", Problem: fmt.Sprintf("%q is none of trace, debug, info, warn, error", level)}
	}
	switch format {
	case "auto":
		if IsTerminal(w) {
			format = "console"
		}
	case "json", "console":
	default:
		return zerolog.Nop(), &config.Error{Place: "log_format", Problem: fmt.Sprintf("%q is none of auto, json, console", format)}
	}
	if format == "console" {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.RFC3339, NoColor: !IsTerminal(w)}
	}
	return zerolog.New(zerolog.MultiLevelWriter(append([]io.Writer{w}, others...)...)).Level(l).With().Timestamp().Logger(), nil
}

// IsTerminal says whether w is a terminal a person looks at.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
