package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/database"
	"syncgate/internal/text"
	"syncgate/migrations"
	"syncgate/rule"
	"syncgate/store"
	"syncgate/store/localdb"
)

// openCentre opens the central database, configured or private. A tool may use the private one of a running `syncgate
// serve`, and works on a database that serve would refuse. first: a private one that is not there is made.
func openCentre(ctx context.Context, cfg *settings, tool, first bool, log zerolog.Logger) (*database.Database, error) {
	o := database.Options{DSN: cfg.DSN, Dir: cfg.databaseDir(), Join: tool, Make: first, Log: log}
	so := &options{store: store.Options{Set: migrations.Server, FileRoot: cfg.FileDir, Zone: cfg.Zone,
		AcceptUnsafe: tool || cfg.AcceptUnsafe, AnyEngine: cfg.AcceptUnsafe}}
	so.limits().Apply(cfg)
	return database.Open(ctx, o, so.store)
}

// call is one call of a command that works on the central database.
type call struct {
	*cobra.Command
	args   []string
	id     uint64 // the argument ID; 0 when it was left out
	format string // of the output; "" for a command without a choice
	out    io.Writer
	cfg    *settings
	db     *database.Database
}

// textOrJSON are the formats that most commands have.
const textOrJSON = "text, json"

// onCentre makes a command that works on the central database and needs its schema to be this program's; onDatabase
// takes any database. use names the arguments, as in "history [ID]". formats lists the values of --format, the default
// first; "" means no such flag. The command accepts a database that is not durable, since it acknowledges nothing.
func onCentre(use, short, formats string, run func(*call) error) *cobra.Command {
	return onDatabase(use, short, formats, func(c *call) error {
		if _, err := c.db.CheckSchema(c.Context()); err != nil {
			return err
		}
		return run(c)
	})
}

// onRow makes a command about the row of a table that its argument names. get reads the row, list lists all of them.
func onRow[T any](use, short, table, list string,
	get func(*call) (T, error), run func(*call, *T) error) *cobra.Command {
	return onCentre(use+" ID", short, textOrJSON, func(c *call) error {
		row, err := get(c)
		if err == nil {
			err = run(c, &row)
		}
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("%s has no row with id %d; 'syncgate %s' shows its rows", table, c.id, list)
		}
		return err
	})
}

func onDatabase(use, short, formats string, run func(*call) error) *cobra.Command {
	var f flags
	var format string
	cmd := &cobra.Command{Use: use, Short: short, Args: cli.Arguments(use)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cli.OneOf("format", format, strings.Split(formats, ", ")...); err != nil {
			return err
		}
		var id uint64
		if strings.HasSuffix(strings.TrimSuffix(use, "]"), "ID") && len(args) > 0 {
			var err error
			if id, err = strconv.ParseUint(args[0], 10, 64); err != nil || id == 0 {
				return cli.Usage(fmt.Errorf("%q is not the id of a row", args[0]))
			}
		}
		cfg, err := f.load()
		if err != nil {
			return err
		}
		for _, line := range append(cfg.origin.Unknown(), "database: "+database.Describe(cfg.DSN, cfg.databaseDir())) {
			fmt.Fprintln(cmd.ErrOrStderr(), line)
		}
		db, err := openCentre(cmd.Context(), cfg, true, use == "migrate", zerolog.Nop())
		if err == nil {
			err = errors.Join(run(&call{cmd, args, id, format, cmd.OutOrStdout(), cfg, db}), db.Close())
		}
		return cfg.origin.Locate(withRemedy(err))
	}
	f.add(cmd)
	if formats != "" {
		first, _, _ := strings.Cut(formats, ",")
		cmd.Flags().StringVar(&format, "format", first, formats)
	}
	return cmd
}

// accessDenied are MySQL's errors for a missing privilege.
var accessDenied = []int{1044, 1142, 1143, 1227, 1370}

// withRemedy adds what to do about an error of the database.
func withRemedy(err error) error {
	var refused *store.SQLError
	var remedy string
	switch {
	case errors.Is(err, store.ErrUnsafe):
		remedy = "correct the database's settings, or accept them with accept_unsafe_database = true " +
			"(SYNCGATE_ACCEPT_UNSAFE_DATABASE=true)"
	case errors.Is(err, store.ErrUnavailable):
		remedy = "check that the server of dsn (--dsn, SYNCGATE_DSN) runs, and its account, password and database"
	case errors.Is(err, store.ErrOldSchema):
		remedy = "run 'syncgate migrate', or check that dsn (--dsn, SYNCGATE_DSN) names the central database"
	case errors.Is(err, store.ErrOtherSet):
		remedy = "name the central database in dsn (--dsn, SYNCGATE_DSN); a point's tables are never in it"
	case errors.Is(err, store.ErrReadOnly):
		remedy = "find out why the server is read-only; 'syncgate doctor' shows its setting"
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = "another syncgate may serve at this address; stop it, or name another address with --listen"
	case errors.Is(err, localdb.ErrInUse):
		remedy = "stop that syncgate, or give this one another --data-dir"
	case errors.As(err, &refused) && slices.Contains(accessDenied, refused.Code):
		remedy = "'syncgate doctor' lists the privileges that the account lacks"
	default:
		return err
	}
	return fmt.Errorf("%w\n%s", err, remedy)
}

func newMigrate() *cobra.Command {
	const short = "Update the central database's schema; safe to run twice at once"
	return onDatabase("migrate", short, "", func(c *call) error {
		ran := 0
		original, err := c.db.Original(c.Context())
		if err != nil {
			return err
		}
		err = c.db.Migrate(c.Context(), func(name string) {
			ran++
			fmt.Fprintln(c.out, name)
		})
		if err == nil && ran == 0 {
			fmt.Fprintln(c.out, "the schema is up to date")
		}
		if err == nil && original {
			err = c.takenOver()
		}
		return err
	})
}

// takenOver says what became of the original's sync_control: of each row what rules check finds, and the points that
// the rows name.
func (c *call) takenOver() error {
	rows, err := c.db.Rules(c.Context())
	if err != nil {
		return err
	}
	ds, _, err := c.checkAll()
	if err != nil {
		return err
	}
	points, err := c.db.Points(c.Context())
	if err != nil {
		return err
	}
	known := map[string]bool{rule.AnyPoint: true, "": true}
	for _, p := range points {
		known[p.Point] = true
	}
	fmt.Fprintf(c.out, "\nsync_control is the original's: %s kept; docs/takeover.md leads on\n",
		text.Plural(len(rows), "row"))
	var add []string
	for _, row := range rows {
		fmt.Fprintf(c.out, "rule %d: %s of %s, %s side, point %s", row.ID, row.Type, row.Table, row.User, row.PointNo)
		found := slices.DeleteFunc(slices.Clone(ds), func(d rule.Diagnostic) bool { return d.RuleID != row.ID })
		if len(found) == 0 {
			fmt.Fprint(c.out, ": runs as in the original")
		}
		fmt.Fprintln(c.out)
		for _, d := range found {
			fmt.Fprintln(c.out, " ", d)
		}
		if !known[row.PointNo] {
			known[row.PointNo] = true
			add = append(add, row.PointNo)
		}
	}
	if len(add) > 0 {
		fmt.Fprintln(c.out, "\nThe rows name points that are not enrolled, whose agents are refused. To enrol them:")
		for _, name := range add {
			fmt.Fprintf(c.out, "syncgate point add %s\n", shellWord(name))
		}
	}
	return nil
}

// shellWord is a text as one word of a shell.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// say prints v with --format json, else a line of text.
func (c *call) say(v any, format string, args ...any) error {
	return cli.Say(c.out, c.format == "json", v, format, args...)
}

// list prints all as JSON with --format json, else as a table with a row for each.
func list[T any](c *call, all []T, heading string, row func(*T) []any) error {
	return cli.List(c.out, c.format == "json", all, heading, row)
}
