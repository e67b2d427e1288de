package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
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
			if err := cfg.check(); err != nil {
				return err
			}
			tail := admin.NewLog(logLines)
			log, end, err := cli.Logger(c.ErrOrStderr(), cfg.LogFormat, tail)
			if err != nil {
				return err
			}
			defer end()
			for _, line := range cfg.origin.Unknown() {
				log.Warn().Msg(line)
			}
			ctx, drain := context.WithCancel(c.Context())
			defer drain()
			reload := func() (*reloaded, error) { return cfg.reread(&f, log) }
			cli.OnHangup(ctx, func() { _, _ = reload() }) // the log has the error
			if err := serve(ctx, cfg, log, &page{tail: tail, drain: drain, reload: reload}); err != nil {
				if _, setting := errors.AsType[*config.Error](err); setting {
					return cfg.origin.Locate(err)
				}
				log.Error().Err(withRemedy(err)).Msg("syncgate ends")
				if permanent(err) {
					return &cli.ExitError{Code: cli.ExitConfig}
				}
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

// reloaded is what became of reading the configuration again.
type reloaded struct {
	Level   string   `json:"log_level"`
	Restart []string `json:"restart_needed_for"` // settings that have changed
}

// reread takes from the configuration what can change while the server runs, which is log_level, and names what needs a
// restart. Rules and keys are read every second anyway.
func (s *settings) reread(f *flags, log zerolog.Logger) (*reloaded, error) {
	next, err := f.load()
	if err == nil {
		err = next.check() // sets the level
	}
	if err != nil {
		log.Error().Err(err).Msg("HUP: the configuration has a mistake and is not used")
		return nil, err
	}
	next.Workers, next.DatabaseConns = cmp.Or(next.Workers, s.Workers), cmp.Or(next.DatabaseConns, s.DatabaseConns)
	needed := slices.DeleteFunc(config.Changed(s, next), func(name string) bool { return name == "log_level" })
	log.Info().Str("log_level", next.LogLevel).Strs("restart_needed_for", needed).Msg("HUP: configuration read again")
	return &reloaded{next.LogLevel, append([]string{}, needed...)}, nil
}

// permanent reports whether a person has to correct something before the server can start.
func permanent(err error) bool {
	refused, sql := errors.AsType[*store.SQLError](err)
	return errors.Is(err, store.ErrUnsafe) || errors.Is(err, store.ErrSchema) ||
		errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EACCES) ||
		sql && slices.Contains([]int{1044, 1045, 1049}, refused.Code) // account, password, database
}

// memorySlack is what the process may have beside the bytes that it holds for clients, before it spends more time on
// returning memory.
const memorySlack = 48 << 20

func serve(ctx context.Context, cfg *settings, log zerolog.Logger, p *page) (err error) {
	log.Info().Str("version", cli.Version()).Msg("syncgate starts")
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(cfg.MaxBufferedInAll) + memorySlack)
	}
	all, err := cfg.options(log)
	if err != nil {
		return err
	}
	o := all.gateway
	db, err := openCentre(ctx, cfg, false, true, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Migrate(ctx, func(name string) { log.Info().Str("migration", name).Msg("schema") }); err != nil {
		return err
	}
	o.Store = db.Store
	if o.MasterKey, err = masterKey(ctx, cfg.MasterKey, db); err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "syncgate_build_info", Help: "1, with the version.",
			ConstLabels: prometheus.Labels{"version": cli.Version(), "go": runtime.Version()}},
			func() float64 { return 1 }))
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
	p.gateway, p.db, p.limits = g, db, cfg
	all.admin.Gatherer = metrics
	go func() { done <- p.run(behind, &all.admin, log) }()
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
	g.PointMetrics = s.Admin.PointMetrics
	g.Listen, g.Wire.ServerID, g.Logger, g.Rand, g.Clock = s.Listen, s.ServerID, log, rand.Reader, time.Now
	g.Wire.Uncompressed = s.Uncompressed
	var err error
	if s.ServerID == "" {
		if g.Wire.ServerID, err = os.Hostname(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(s.FileDir, 0o755); err != nil {
		return nil, &config.Error{Place: "file_dir", Problem: err.Error()}
	}
	if s.ListenLegacy != "" {
		g.Legacy = &o.legacy
		o.legacy.Listen = s.ListenLegacy
		err = s.Legacy.set(&o.legacy)
	}
	return o, err
}
