package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/admin"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/database"
	"syncgate/gateway"
	"syncgate/internal/limit"
)

// logLines is how many lines of the log the admin server keeps.
const logLines = 1000

func newServe() *cobra.Command {
	var f flags
	var listen string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the agents until INT or TERM",
		Long: `Serve the agents until INT or TERM. Then the server finishes and answers the requests in progress.
Agents keep whatever was not acknowledged and send it again.`,
		Args: cli.Arguments("serve"),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := f.load()
			if err != nil {
				return err
			}
			cfg.Listen = cmp.Or(listen, cfg.Listen)
			if err := cfg.checkAddresses(); err != nil {
				return err
			}
			tail := admin.NewLog(logLines)
			log, err := cli.Logger(c.ErrOrStderr(), cfg.LogLevel, cfg.LogFormat, tail)
			if err != nil {
				return err
			}
			if err := serve(c.Context(), cfg, log, tail); err != nil {
				var setting *config.Error
				if errors.As(err, &setting) {
					return err
				}
				log.Error().Err(withRemedy(err)).Msg("syncgate ends")
				return &cli.ExitError{Code: cli.ExitFailed} // the log has the error
			}
			log.Info().Msg("syncgate ends")
			return nil
		},
	}
	f.add(c)
	c.Flags().StringVar(&listen, "listen", "", "`address` for agents, host:port (default 127.0.0.1:11366)")
	return c
}

func serve(ctx context.Context, cfg *settings, log zerolog.Logger, tail *admin.Log) (err error) {
	log.Info().Str("version", cli.Version()).Msg("syncgate starts")
	all, err := cfg.options(log)
	if err != nil {
		return err
	}
	o := all.gateway
	db, err := openCentre(ctx, cfg, false, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Migrate(ctx, func(name string) { log.Info().Str("migration", name).Msg("schema") }); err != nil {
		return err
	}
	o.Store = db.Store
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	o.Registry = metrics

	var g *gateway.Gateway
	o.Ready = func() {
		e := log.Info().Str("address", g.Addr().String())
		if a := g.LegacyAddr(); a.IsValid() {
			e = e.Str("legacy", a.String())
		}
		e.Msg("listening")
		cli.Notify(log, daemon.SdNotifyReady)
	}
	o.Progress = func() { cli.Notify(log, daemon.SdNotifyWatchdog) }
	if g, err = gateway.New(o); err != nil {
		return err
	}
	// The purge of the ledger and the status page end after the gateway.
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 2)
	go func() { done <- db.Run(behind) }()
	go func() { done <- serveAdmin(behind, cfg, log, tail, metrics, g, db) }()
	context.AfterFunc(ctx, func() { cli.Notify(log, daemon.SdNotifyStopping) })
	err = g.Run(ctx)
	stop()
	return errors.Join(err, <-done, <-done)
}

// options returns the server's options without the store. It also sets the numbers whose setting is 0.
func (s *settings) options(log zerolog.Logger) (*options, error) {
	o := &options{}
	o.limits().Apply(s)
	s.Workers = cmp.Or(s.Workers, int(limit.Find(o.gateway.Limits(), "Workers").Default))
	s.DatabaseConns = cmp.Or(s.DatabaseConns, s.Workers+s.Downloads+4)
	g := &o.gateway
	g.Listen, g.Wire.ServerID, g.Logger, g.Rand, g.Clock = s.Listen, s.ServerID, log, rand.Reader, time.Now
	var err error
	if s.ServerID == "" {
		if g.Wire.ServerID, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.FileDir, 0o755); err != nil {
		return nil, &config.Error{Place: "file_dir", Problem: err.Error()}
	}
	if g.MasterKey, err = masterKey(s.MasterKey); err != nil {
		return nil, err
	}
	if s.ListenLegacy != "" {
		g.Legacy = &o.legacy
		o.legacy.Listen = s.ListenLegacy
		err = s.Legacy.set(&o.legacy)
	}
	return o, err
}

// serveAdmin serves the status page until ctx ends, unless it is switched off.
func serveAdmin(ctx context.Context, cfg *settings, log zerolog.Logger, tail *admin.Log, metrics *prometheus.Registry,
	g *gateway.Gateway, db *database.Database) error {
	if cfg.AdminListen == "" {
		return nil
	}
	page := &status{started: time.Now(), gateway: g, db: db, limits: cfg}
	a, err := admin.New(admin.Options{Address: cfg.AdminListen, Gatherer: metrics, Status: page.now, Log: tail,
		Live: g.CheckLive, Ready: g.CheckReady, ErrorLog: log})
	if err != nil {
		// The server works without the page.
		log.Error().Err(err).Msg("no status page")
		return nil
	}
	log.Info().Str("address", a.Addr().String()).Msg("status page")
	return a.Run(ctx)
}
