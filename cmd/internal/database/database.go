// Package database gives a command its database: the one whose DSN is configured, or a
// private one under the data directory that needs no set-up.
package database

import (
	"context"
	"errors"
	"fmt"
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
	// `syncgate serve` when `syncgate point add` is called beside it.
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
	server, err := localdb.New(localdb.Options{Dir: o.Dir, Durable: true, Observer: observer(o.Log)})
	if err != nil {
		return nil, err
	}
	// The database outlives ctx: what it is used for is finished first, then Close stops it.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &Database{DSN: server.DSN(o.Name), Private: server, stop: stop, done: make(chan error, 1)}
	go func() { d.done <- server.Run(run) }()
	if err := server.WaitReady(ctx); err != nil {
		_ = d.Close() // Run ends with what WaitReady has said
		if errors.Is(err, localdb.ErrInUse) && o.Join {
			return &Database{DSN: server.DSN(o.Name), stop: func() {}}, nil
		}
		return nil, err
	}
	if err := server.CreateDatabase(ctx, o.Name); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Close stops the private database in order; a configured one is left alone.
func (d *Database) Close() error {
	d.stop()
	if d.done == nil {
		return nil
	}
	if err := <-d.done; err != nil {
		return fmt.Errorf("private database: %w", err)
	}
	return nil
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
