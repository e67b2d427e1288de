// Package database opens a command's database: the one whose DSN is configured, or a private one under the data
// directory that needs no set-up.
package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"github.com/rs/zerolog"

	"syncgate/cmd/internal/config"
	"syncgate/store"
	"syncgate/store/localdb"
)

// Options choose the database.
type Options struct {
	DSN  string // configured; empty: a private database
	Dir  string // of the private database
	Name string // of the database made in it; "syncgate" when empty
	// Join uses a private database that another process runs already, such as that of `syncgate serve` when
	// `syncgate point add` is called beside it. Processes that join take turns, so that none stops a database that it
	// started while another still uses it.
	Join bool
	Make bool // with Join: make a private database that is not there
	Log  zerolog.Logger
}

// Database is an open store, and the private server behind it when this process runs one.
type Database struct {
	*store.Store
	DSN     string          // in the form of go-sql-driver
	Private *localdb.Server // nil when another process runs the server

	turn *os.File // its lock is ours while the file is open; nil without Join
}

// Open checks the configured DSN's form or starts the private database, and opens a store on it.
func Open(ctx context.Context, o Options, so store.Options) (*Database, error) {
	d := &Database{DSN: o.DSN}
	var err error
	if o.DSN != "" {
		err = CheckDSN(o.DSN)
	} else {
		err = d.start(ctx, o)
	}
	if err == nil {
		so.DSN = d.DSN
		d.Store, err = store.Open(ctx, so)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// CheckDSN returns an error for a DSN that is not well formed or names no database.
func CheckDSN(dsn string) error {
	cfg, err := mysql.ParseDSN(dsn)
	if err == nil && cfg.DBName == "" {
		err = errors.New("names no database")
	}
	if err != nil {
		const form = " (a DSN looks like user:password@tcp(host:3306)/database)"
		return &config.Error{Place: "dsn", Problem: err.Error() + form}
	}
	return nil
}

// start starts the private database, or joins the one that runs.
func (d *Database) start(ctx context.Context, o Options) (err error) {
	if err := o.checkDir(); err != nil {
		return &config.Error{Place: "data_dir", Problem: err.Error()}
	}
	o.Name = cmp.Or(o.Name, "syncgate")
	if o.Join {
		if d.turn, err = localdb.LockFile(ctx, o.Dir+".lock", math.MaxInt64); err != nil {
			if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
				return &config.Error{Place: "data_dir", Problem: err.Error()}
			}
			return err
		}
	}
	d.Private, err = localdb.Start(ctx, localdb.Options{Dir: o.Dir, Durable: true, Log: o.Log})
	if errors.Is(err, localdb.ErrInUse) && o.Join {
		d.DSN, err = localdb.DSN(o.Dir, o.Name)
		return err
	}
	if err != nil {
		return err
	}
	d.DSN = d.Private.DSN(o.Name)
	return d.Private.CreateDatabase(ctx, o.Name)
}

// checkDir makes the directory of a private database that may be made. A command that only joins must not make one by
// surprise, with keys in it that no server knows, nor leave files of root that the service's account cannot read.
func (o *Options) checkDir() error {
	info, err := os.Stat(o.Dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && o.Join && !o.Make:
		return fmt.Errorf("there is no private database in %s; name the central database with --config or --dsn, "+
			"or the directory with --data-dir; "+
			"'syncgate serve' or the agent's first run makes a private database", o.Dir)
	case errors.Is(err, fs.ErrNotExist):
		return os.MkdirAll(o.Dir, 0o700)
	case err != nil:
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 && owner.Uid != 0 {
		return fmt.Errorf("%s is another account's; run this as its owner: sudo -u '#%d' …", o.Dir, owner.Uid)
	}
	return nil
}

// Describe names the database of a DSN without its password, or the private one of a directory.
func Describe(dsn, dir string) string {
	cfg, err := mysql.ParseDSN(dsn)
	if dsn == "" || err != nil {
		return "private database in " + dir
	}
	return fmt.Sprintf("%s at %s(%s) as %s", cfg.DBName, cfg.Net, cfg.Addr, cfg.User)
}

// Close closes the store and stops the private database in order.
func (d *Database) Close() (err error) {
	if d.Store != nil {
		err = d.Store.Close()
	}
	if d.Private != nil {
		err = errors.Join(err, d.Private.Stop())
	}
	if d.turn != nil {
		err = errors.Join(err, d.turn.Close())
	}
	return err
}
