package main

import (
	"cmp"
	"context"
	"fmt"
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
		var rules []store.RuleLine
		rules, err = s.db.RuleStates(ctx)
		st.Rules = pageRules(rules)
	}
	if err != nil {
		if st.Healthy {
			st.State, st.Healthy = "database not reachable: "+err.Error(), false
		}
		st.Unknown = st.State
	}
	done, failures := s.gateway.Activity()
	st.Points = pagePoints(points, done)
	for _, f := range failures {
		st.Failures = append(st.Failures,
			admin.Failure{At: f.At, Code: f.Status.String(), Point: f.Point, Table: f.Table, Message: f.Message})
	}
	return st
}

// pagePoints are the enrolled points with what they have done since the start. Without the database they are those
// that have done something.
func pagePoints(points []store.Point, done map[string]gateway.PointActivity) []admin.Point {
	var all []admin.Point
	for i := range points {
		if p := &points[i]; p.RevokedAt.IsZero() {
			wire, at := lastUsed(p)
			all = append(all, pagePoint(admin.Point{Name: p.Point, Wire: string(wire), Seen: at}, done[p.Point]))
		}
	}
	if points == nil {
		for name, d := range done {
			all = append(all, pagePoint(admin.Point{Name: name}, d))
		}
		slices.SortFunc(all, func(a, b admin.Point) int { return cmp.Compare(a.Name, b.Name) })
	}
	return all
}

func pagePoint(p admin.Point, done gateway.PointActivity) admin.Point {
	p.Connections, p.Remote, p.RowsUp, p.RowsDown = done.Conns, done.Remote, done.RowsUp, done.RowsDown
	if f := done.Failure; !f.At.IsZero() {
		p.Failure = fmt.Sprintf("%s %s %s: %s", cli.Stamp(f.At), f.Status, f.Table, f.Message)
	}
	return p
}

func pageRules(rules []store.RuleLine) []admin.Rule {
	levels := map[string]admin.Level{"ok": admin.Good, "new": admin.Good, "stale": admin.Warn, "broken": admin.Bad}
	all := make([]admin.Rule, len(rules))
	for i, r := range rules {
		all[i] = admin.Rule{ID: r.ID, Table: r.Table, Type: r.Type, Point: r.PointNo, Level: levels[r.State],
			State: r.State, Detail: r.Error, Rows: r.RowsMoved, LastFail: r.LastFailure}
		if at, err := time.Parse("2006-01-02 15:04:05.999999", r.LastRun); err == nil {
			all[i].LastRun = at
		}
		if !r.Enabled {
			all[i].Level, all[i].State = admin.Off, "disabled"
		}
	}
	return all
}
