package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/database"
	"syncgate/migrations"
	"syncgate/store"
)

// databaseName is the name of the database within the private server.
const databaseName = "syncgate"

// point is an agent with its database.
type point struct {
	*agent.Agent
	log      zerolog.Logger
	store    *store.Store
	database *database.Database
}

// openPoint opens the configured database or the private one, brings its schema forward,
// and makes the agent.
func openPoint(ctx context.Context, cfg *settings, o *agent.Options, log zerolog.Logger) (*point, error) {
	db, err := database.Open(ctx, database.Options{DSN: cfg.DSN, Dir: filepath.Join(cfg.DataDir, "db"), Name: databaseName, Log: log})
	if err != nil {
		return nil, err
	}
	p := &point{database: db, log: log}
	if err := p.open(ctx, cfg, o); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *point) open(ctx context.Context, cfg *settings, o *agent.Options) (err error) {
	if err := os.MkdirAll(cfg.FileDir, 0o755); err != nil {
		return &config.Error{Place: "file_dir", Problem: err.Error()}
	}
	p.store, err = store.Open(ctx, store.Options{
		DSN: p.database.DSN, Set: migrations.Agent, FileRoot: cfg.FileDir,
		AcceptUnsafe: cfg.AcceptUnsafe, AnyEngine: cfg.AcceptUnsafe,
	})
	if err != nil {
		return err
	}
	if err := p.store.Migrate(ctx, func(name string) { p.log.Debug().Str("migration", name).Msg("schema") }); err != nil {
		return err
	}
	o.Store, o.Software, o.Log = p.store, "syncgate-agent "+cli.Version(), p.log
	o.Observer = func(e store.Event) {
		p.log.Debug().Str("metric", e.Metric.Name).Str(e.Metric.Label, e.Label).Uint64("n", e.N).Err(e.Err).Msg("counted")
	}
	p.Agent, err = agent.New(*o)
	return err
}

// Close ends the connections and stops the database if it is the private one.
func (p *point) Close() error {
	var err error
	if p.store != nil {
		err = p.store.Close()
	}
	return errors.Join(err, p.database.Close())
}
