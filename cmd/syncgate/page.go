package main

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"syncgate/admin"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/database"
	"syncgate/gateway"
	"syncgate/store"
)

// page gives the status page and the control socket what they show and do.
type page struct {
	tail    *admin.Log
	drain   func()
	reload  func() (*reloaded, error)
	gateway *gateway.Gateway
	db      *database.Database
	limits  *settings
}

// run serves both until ctx ends. The server works without them.
func (p *page) run(ctx context.Context, o *admin.Options, log zerolog.Logger) error {
	cfg := p.limits
	o.Address, o.Token, o.AllowActions = cfg.AdminListen, cfg.Admin.Token, cfg.Admin.AllowActions
	o.Socket, o.Group = cfg.Admin.Socket, cfg.Admin.SocketGroup
	o.Program, o.Store, o.Log, o.ErrorLog = "syncgate "+cli.Version(), p.db.Store, p.tail, log
	o.Live, o.Ready = p.gateway.CheckLive, p.gateway.CheckReady
	o.Gateway = admin.Gateway{
		Load: p.load, Activity: p.activity, Reports: p.gateway.Reports, Replay: p.replay,
		FollowLog: p.gateway.FollowLog, Drain: p.drain,
		Level: func() string { return zerolog.GlobalLevel().String() }, SetLevel: cli.SetLevel,
		Reload: func() (any, error) { return p.reload() }, SyncNow: p.gateway.RunNow, Tap: p.gateway.Tap,
	}
	a, err := admin.New(*o)
	if err != nil {
		log.Error().Err(err).Msg("no status page and no control socket")
		return nil
	}
	log.Info().Str("socket", o.Socket).Msg("control socket")
	if a.Addr() != nil {
		log.Info().Str("address", a.Addr().String()).Msg("status page")
	}
	return a.Run(ctx)
}

func (p *page) load() admin.Load {
	now, most := p.gateway.Stats(), p.limits
	var disk unix.Statfs_t
	_ = unix.Statfs(most.DataDir, &disk) // without it the free space is not known
	l := admin.Load{RowsUp: now.RowsUp, RowsDown: now.RowsDown, BadKeys: p.gateway.BadKeys(),
		DiskFree: disk.Bavail * uint64(disk.Bsize), Figures: []admin.Figure{
			{Name: "connections", Value: uint64(now.Conns), Limit: uint64(most.MaxConnections)},
			{Name: "requests waiting", Value: uint64(now.Waiting), Limit: uint64(most.Queue)},
			{Name: "requests running", Value: uint64(now.Running), Limit: uint64(most.Workers + most.Downloads)},
			{Name: "memory for clients", Value: uint64(now.Buffered), Limit: uint64(most.MaxBufferedInAll), Unit: "B"},
		}}
	for _, bound := range slices.Sorted(maps.Keys(now.Latencies)) {
		l.Bounds, l.Requests = append(l.Bounds, bound), append(l.Requests, now.Latencies[bound])
	}
	return l
}

func (p *page) activity() (map[string]admin.Activity, []admin.Failure) {
	done, failures := p.gateway.Activity()
	all := make(map[string]admin.Activity, len(done))
	for name, d := range done {
		a := admin.Activity{Connections: d.Conns, Remote: d.Remote, RowsUp: d.RowsUp, RowsDown: d.RowsDown}
		if !d.Failure.At.IsZero() {
			f := failure(d.Failure)
			a.Failure = &f
		}
		all[name] = a
	}
	last := make([]admin.Failure, len(failures))
	for i, f := range failures {
		last[i] = failure(f)
	}
	return all, last
}

func failure(f gateway.Failure) admin.Failure {
	return admin.Failure{At: f.At, Code: f.Status.String(), Point: f.Point, Table: f.Table, Message: f.Message}
}

// replay applies a quarantined row by the rule in force.
func (p *page) replay(ctx context.Context, q *store.QuarantinedRow, force bool) (store.Replayed, error) {
	plan, env := p.gateway.QuarantinePlan(q)
	if plan == nil {
		return store.Replayed{}, errors.New("no rule in force takes the row")
	}
	return p.db.ReplayQuarantine(ctx, q.ID, plan, env, force)
}
