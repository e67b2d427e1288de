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

// point is an agent with its database.
type point struct {
	*agent.Agent
	*database.Database
	log zerolog.Logger
}

// openPoint opens the configured database or the private one, updates its schema, and makes the agent. A tool may use
// the private database of a running agent, and changes no schema.
func openPoint(ctx context.Context, cfg *settings, o *agent.Options, tool bool, log zerolog.Logger) (*point, error) {
	if err := os.MkdirAll(cfg.FileDir, 0o755); err != nil {
		return nil, &config.Error{Place: "file_dir", Problem: err.Error()}
	}
	where := database.Options{DSN: cfg.DSN, Dir: filepath.Join(cfg.DataDir, "db"), Join: tool, Log: log}
	db, err := database.Open(ctx, where, store.Options{
		Set: migrations.Agent, FileRoot: cfg.FileDir, AcceptUnsafe: cfg.AcceptUnsafe, AnyEngine: cfg.AcceptUnsafe,
	})
	if err != nil {
		return nil, err
	}
	p := &point{Database: db, log: log}
	if tool {
		_, err = db.CheckSchema(ctx)
	} else {
		err = db.Migrate(ctx, func(name string) { log.Debug().Str("migration", name).Msg("schema") })
	}
	if err == nil {
		o.Store, o.Software, o.Log = db.Store, "syncgate-agent "+cli.Version(), log
		o.Observer = func(e store.Event) {
			log.Debug().Str("metric", e.Metric.Name).Str(e.Metric.Label, e.Label).Uint64("n", e.N).Err(e.Err).
				Msg("counted")
		}
		p.Agent, err = agent.New(*o)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return p, nil
}
