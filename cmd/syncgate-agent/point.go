package main

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/database"
	"syncgate/migrations"
	"syncgate/store"
)

// databaseName is the name of the database within the private server.
const databaseName = "syncgate"

// databaseConns are enough for one statement of each of a few tables at once.
const databaseConns = 16

// settings are the flags of both commands.
type settings struct {
	file, dsn, dataDir, server string
}

func (s *settings) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.file, "config", os.Getenv("SYNCGATE_AGENT_CONFIG"), "configuration `file`, TOML")
	f.StringVar(&s.server, "server", "", "`address` of the server, host:port (default 127.0.0.1:11366)")
	f.StringVar(&s.dsn, "dsn", "", "the point's database; without one a private MariaDB under --data-dir")
	f.StringVar(&s.dataDir, "data-dir", "", "directory of the private database and files (default ./syncgate-agent-data)")
}

// load is the configuration: defaults, file, environment, then these flags.
func (s *settings) load() (*config.Agent, [32]byte, error) {
	cfg := config.DefaultAgent()
	var key [32]byte
	if err := config.Load(cfg, s.file, "SYNCGATE_AGENT_", os.LookupEnv); err != nil {
		return nil, key, err
	}
	for _, set := range []struct{ flag, into *string }{{&s.server, &cfg.Server}, {&s.dsn, &cfg.DSN}, {&s.dataDir, &cfg.DataDir}} {
		if *set.flag != "" {
			*set.into = *set.flag
		}
	}
	if cfg.FileDir == "" {
		cfg.FileDir = filepath.Join(cfg.DataDir, "files")
	}
	if _, _, err := net.SplitHostPort(cfg.Server); err != nil {
		return nil, key, &config.Error{Place: "server", Problem: err.Error() + " (it looks like gateway.example.org:11366)"}
	}
	if cfg.Point == "" || cfg.Key == "" {
		return nil, key, &config.Error{Place: "point, key_id, key", Problem: "are needed; 'syncgate point add NAME' on the server prints them"}
	}
	secret, err := base64.StdEncoding.DecodeString(cfg.Key)
	if err != nil || len(secret) != len(key) {
		return nil, key, &config.Error{Place: "key", Problem: "is not 32 bytes in base64, as point add prints them"}
	}
	if cfg.BatchRows < 1 || cfg.OutboxRows < 1 || cfg.Interval <= 0 || cfg.FullInterval <= 0 {
		return nil, key, &config.Error{Place: "batch_rows, outbox_batches, interval, full_interval", Problem: "must be greater than 0"}
	}
	copy(key[:], secret)
	return cfg, key, nil
}

// point is an agent with its database.
type point struct {
	*agent.Agent
	log      zerolog.Logger
	store    *store.Store
	database *database.Database
}

// openPoint opens the configured database or the private one, brings its schema forward,
// and makes the agent.
func openPoint(ctx context.Context, cfg *config.Agent, key [32]byte, log zerolog.Logger) (*point, error) {
	db, err := database.Open(ctx, database.Options{DSN: cfg.DSN, Dir: filepath.Join(cfg.DataDir, "db"), Name: databaseName, Log: log})
	if err != nil {
		return nil, err
	}
	p := &point{database: db, log: log}
	if err := p.open(ctx, cfg, key); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *point) open(ctx context.Context, cfg *config.Agent, key [32]byte) (err error) {
	if err := os.MkdirAll(cfg.FileDir, 0o755); err != nil {
		return &config.Error{Place: "file_dir", Problem: err.Error()}
	}
	p.store, err = store.Open(ctx, store.Options{
		DSN: p.database.DSN, MaxConns: databaseConns, AcceptUnsafe: cfg.AcceptUnsafe, AnyEngine: cfg.AcceptUnsafe, Set: migrations.Agent, FileRoot: cfg.FileDir,
	})
	if err != nil {
		return err
	}
	if err := p.store.Migrate(ctx, func(name string) { p.log.Debug().Str("migration", name).Msg("schema") }); err != nil {
		return err
	}
	p.Agent, err = agent.New(agent.Options{
		Store: p.store, Server: cfg.Server, Point: cfg.Point, KeyID: cfg.KeyID, Key: key, Software: "syncgate-agent " + cli.Version(),
		Interval: cfg.Interval.Std(), FullInterval: cfg.FullInterval.Std(), BatchRows: cfg.BatchRows, OutboxBatches: cfg.OutboxRows, Log: p.log,
		Observer: func(e store.Event) {
			p.log.Debug().Str("metric", e.Metric.Name).Str(e.Metric.Label, e.Label).Uint64("n", e.N).Err(e.Err).Msg("counted")
		},
	})
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
