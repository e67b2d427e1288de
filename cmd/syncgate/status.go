package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"syncgate/admin"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/database"
	"syncgate/gateway"
	"syncgate/store"
)

// status is what the status page shows.
type status struct {
	started time.Time
	gateway *gateway.Gateway
	db      *database.Database
	limits  *settings
}

// pageTimeout bounds the database queries of one view of the page.
const pageTimeout = time.Second

// now reads the state of everything at this moment. Without the database it shows what the gateway knows by itself.
func (s *status) now() admin.Status {
	ctx, cancel := context.WithTimeout(context.Background(), pageTimeout)
	defer cancel()
	load, most := s.gateway.Stats(), s.limits
	st := admin.Status{
		Program: "syncgate " + cli.Version(), Started: s.started, Now: time.Now(), State: "serving", Healthy: true,
		Figures: []admin.Figure{
			{Name: "connections", Value: uint64(load.Conns), Limit: uint64(most.MaxConnections)},
			{Name: "requests waiting", Value: uint64(load.Waiting), Limit: uint64(most.Queue)},
			{Name: "requests running", Value: uint64(load.Running), Limit: uint64(most.Workers + most.Downloads)},
			{Name: "bytes buffered", Value: uint64(load.Buffered), Limit: uint64(most.MaxBufferedInAll), Unit: "B"},
		},
	}
	if err := s.gateway.CheckReady(ctx); err != nil {
		st.State, st.Healthy = err.Error(), false
	}
	points, err := s.db.Points(ctx)
	if err == nil {
		st.Rules, err = s.db.RuleStates(ctx)
	}
	if err != nil {
		if st.Healthy {
			st.State, st.Healthy = "database not reachable: "+err.Error(), false
		}
		st.Unknown = st.State
	}
	done, failures := s.gateway.Activity()
	if points == nil { // those that have done something are known
		for _, name := range slices.Sorted(maps.Keys(done)) {
			points = append(points, store.Point{Point: name})
		}
	}
	for _, p := range points {
		if !p.RevokedAt.IsZero() {
			continue
		}
		d := done[p.Point]
		line := admin.Point{Point: p, Connections: d.Conns, Remote: d.Remote, RowsUp: d.RowsUp, RowsDown: d.RowsDown}
		if f := d.Failure; !f.At.IsZero() {
			line.Failure = fmt.Sprintf("%s %s %s: %s", cli.Stamp(f.At), f.Status, f.Table, f.Message)
		}
		st.Points = append(st.Points, line)
	}
	for _, f := range failures {
		st.Failures = append(st.Failures,
			admin.Failure{At: f.At, Code: f.Status.String(), Point: f.Point, Table: f.Table, Message: f.Message})
	}
	return st
}
