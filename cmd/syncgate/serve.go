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
	"syncgate/gateway"
	"syncgate/internal/limit"
	"syncgate/store"
)

// logLines is how much of the log the status page can show.
const logLines = 1000

func newServe() *cobra.Command {
	var f flags
	var listen string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the agents until INT or TERM",
		Long: `Serve the agents until INT or TERM. Then what is in hand is finished and answered, and
what was not acknowledged is with the agents, who send it again.`,
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
				return &cli.ExitError{Code: cli.ExitFailed} // the log has said it
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
		notify(log, daemon.SdNotifyReady)
	}
	o.Progress = func() { notify(log, daemon.SdNotifyWatchdog) }
	if g, err = gateway.New(o); err != nil {
		return err
	}
	// The purge of the ledger and the status page end after the gateway, which they are about.
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 2)
	go func() { done <- db.Run(behind) }()
	go func() { done <- serveAdmin(behind, cfg, log, tail, metrics, g, db) }()
	context.AfterFunc(ctx, func() { notify(log, daemon.SdNotifyStopping) })
	err = g.Run(ctx)
	stop()
	return errors.Join(err, <-done, <-done)
}

// notify tells systemd, where it is there to be told.
func notify(log zerolog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn().Err(err).Msg("systemd could not be told")
	}
}

// options are the server's, but for the database. It fills in the numbers that are left to the program.
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

// serveAdmin serves the status page, where one is wanted, until ctx ends.
func serveAdmin(ctx context.Context, cfg *settings, log zerolog.Logger, tail *admin.Log, metrics *prometheus.Registry, g *gateway.Gateway, db *centre) error {
	if cfg.AdminListen == "" {
		return nil
	}
	page := &status{started: time.Now(), gateway: g, db: db, limits: cfg}
	a, err := admin.New(admin.Options{Address: cfg.AdminListen, Gatherer: metrics, Status: page.now, Log: tail,
		Health: page.health, Ready: page.health, ErrorLog: log})
	if err != nil {
		// Agents are served without a page, too.
		log.Error().Err(err).Msg("no status page")
		return nil
	}
	log.Info().Str("address", a.Addr().String()).Msg("status page")
	return a.Run(ctx)
}

// status is what the status page shows.
type status struct {
	started time.Time
	gateway *gateway.Gateway
	db      *centre
	limits  *settings
}

// pageTimeout bounds what a view of the page may cost the database.
const pageTimeout = time.Second

// health says whether the database answers.
func (s *status) health(ctx context.Context) error {
	_, err := s.db.RulesVersion(ctx)
	return err
}

// now reads the state of everything at this moment. Without the database it shows what
// the gateway knows by itself.
func (s *status) now() admin.Status {
	ctx, cancel := context.WithTimeout(context.Background(), pageTimeout)
	defer cancel()
	load := s.gateway.Stats()
	st := admin.Status{
		Program: "syncgate " + cli.Version(), State: "serving", Healthy: true, Started: s.started, Now: time.Now(),
		Figures: []admin.Figure{
			{Name: "connections", Value: uint64(load.Conns), Limit: uint64(s.limits.MaxConnections)},
			{Name: "requests waiting", Value: uint64(load.Waiting), Limit: uint64(s.limits.Queue)},
			{Name: "requests running", Value: uint64(load.Running), Limit: uint64(s.limits.Workers + s.limits.Downloads)},
			{Name: "bytes buffered", Value: uint64(load.Buffered), Limit: uint64(s.limits.MaxBufferedInAll), Unit: "B"},
		},
	}
	points, err := s.db.Points(ctx)
	if err == nil {
		st.Points = pagePoints(points)
		var rules []store.RuleLine
		if rules, err = s.db.RuleStates(ctx); err == nil {
			st.Rules = pageRules(rules)
		}
	}
	if err != nil {
		st.State, st.Healthy = "the database does not answer", false
	}
	return st
}

func pagePoints(points []store.Point) []admin.Point {
	var all []admin.Point
	for i := range points {
		p := &points[i]
		if !p.RevokedAt.IsZero() {
			continue
		}
		wire, at := lastUsed(p)
		all = append(all, admin.Point{Name: p.Point, Wire: string(wire), Seen: at})
	}
	return all
}

func pageRules(rules []store.RuleLine) []admin.Rule {
	levels := map[string]admin.Level{"ok": admin.Good, "new": admin.Good, "stale": admin.Warn, "broken": admin.Bad}
	all := make([]admin.Rule, len(rules))
	for i, r := range rules {
		all[i] = admin.Rule{ID: r.ID, Table: r.Table, Type: r.Type, Point: r.PointNo, Level: levels[r.State], State: r.State,
			Detail: r.Error, Rows: r.RowsMoved, LastFail: r.LastFailure}
		if at, err := time.Parse("2006-01-02 15:04:05.999999", r.LastRun); err == nil {
			all[i].LastRun = at
		}
		if !r.Enabled {
			all[i].Level, all[i].State = admin.Off, "disabled"
		}
	}
	return all
}
