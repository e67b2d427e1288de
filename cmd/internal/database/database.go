// Package database gives a command its database: the one whose DSN is configured, or a
// private one under the data directory that needs no set-up.
package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"github.com/go-sql-driver/mysql"
	"github.com/rs/zerolog"

	"syncgate/cmd/internal/config"
	"syncgate/store/localdb"
)

// Options choose the database.
type Options struct {
	DSN  string // configured; empty: a private database
	Dir  string // of the private database
	Name string // of the database made in it
	// Join uses a private database that another process runs already, such as that of
	// `syncgate serve` when `syncgate point add` is called beside it. Those that join take
	// turns, so that none stops the database it had to start under another.
	Join bool
	Log  zerolog.Logger
}

// Database is a database that answers, until Close.
type Database struct {
	// DSN names it in the form of go-sql-driver.
	DSN string
	// Private is the server behind it when this process runs it.
	Private *localdb.Server

	stop context.CancelFunc
	done chan error
	turn *os.File // its lock is ours while the file is open; nil without Join
}

// Open checks the configured DSN's form or starts the private database. It
// returns when the private one answers; whether a configured one does is for who uses it.
func Open(ctx context.Context, o Options) (*Database, error) {
	if o.DSN != "" {
		const form = " (a DSN looks like user:password@tcp(host:3306)/database)"
		cfg, err := mysql.ParseDSN(o.DSN)
		if err != nil {
			return nil, &config.Error{Place: "dsn", Problem: err.Error() + form}
		}
		if cfg.DBName == "" {
			return nil, &config.Error{Place: "dsn", Problem: "names no database" + form}
		}
		return &Database{DSN: o.DSN, stop: func() {}}, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, &config.Error{Place: "data_dir", Problem: err.Error()}
	}
	d := &Database{stop: func() {}}
	if err := d.open(ctx, o); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// open starts the private database, or joins the one that runs.
func (d *Database) open(ctx context.Context, o Options) (err error) {
	if o.Join {
		if d.turn, err = localdb.LockFile(ctx, o.Dir+".lock", math.MaxInt64); err != nil {
			if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
				return &config.Error{Place: "data_dir", Problem: err.Error()}
			}
			return err
		}
	}
	server, err := localdb.New(localdb.Options{Dir: o.Dir, Durable: true, Observer: observer(o.Log)})
	if err != nil {
		return err
	}
	d.DSN = server.DSN(o.Name)
	// The database outlives ctx: what it is used for is finished first, then Close stops it.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- server.Run(run) }()
	if err := server.WaitReady(ctx); err != nil {
		stop()
		<-done // Run ends with what WaitReady has said
		if errors.Is(err, localdb.ErrInUse) && o.Join {
			return nil
		}
		return err
	}
	d.Private, d.stop, d.done = server, stop, done
	return server.CreateDatabase(ctx, o.Name)
}

// Close stops the private database in order; a configured one is left alone.
func (d *Database) Close() error {
	d.stop()
	var err error
	if d.done != nil {
		if err = <-d.done; err != nil {
			err = fmt.Errorf("private database: %w", err)
		}
	}
	if d.turn != nil {
		err = errors.Join(err, d.turn.Close())
	}
	return err
}

// observer tells an operator what becomes of the private database.
func observer(log zerolog.Logger) func(localdb.Event) {
	return func(e localdb.Event) {
		switch e.State {
		case localdb.Up:
			log.Info().Int("pid", e.PID).Msg("private database answers")
		case localdb.Down:
			log.Error().Err(e.Err).Dur("pause_ms", e.Pause).Msg("private database ended; starting it again")
		case localdb.Stopped:
			log.Info().Err(e.Err).Msg("private database stopped")
		}
	}
}
