package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/rs/zerolog"

	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/database"
	"syncgate/migrations"
	"syncgate/store"
)

// databaseName is the name of the database within the private server.
const databaseName = "syncgate"

// centre is the central database, open.
type centre struct {
	*store.Store
	database *database.Database
}

// openCentre opens the configured database or the private one, and brings its schema
// forward: every command finds the tables it needs. report hears of each migration.
func openCentre(ctx context.Context, cfg *config.Server, log zerolog.Logger, join bool, report func(string)) (*centre, error) {
	db, err := database.Open(ctx, database.Options{
		DSN: cfg.DSN, Dir: filepath.Join(cfg.DataDir, "db"), Name: databaseName, Join: join, Log: log,
	})
	if err != nil {
		return nil, err
	}
	st, err := store.Open(ctx, store.Options{
		DSN: db.DSN, MaxConns: cfg.DatabaseConns, AcceptUnsafe: cfg.AcceptUnsafe, Set: migrations.Server, FileRoot: cfg.FileDir,
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := st.Migrate(ctx, report); err != nil {
		return nil, errors.Join(err, st.Close(), db.Close())
	}
	return &centre{st, db}, nil
}

// Close ends the connections and stops the database if it is the private one.
func (c *centre) Close() error { return errors.Join(c.Store.Close(), c.database.Close()) }
