package main

import (
	"context"
	"time"

	"syncgate/admin"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/gateway"
	"syncgate/store"
)

// status is what the status page shows.
type status struct {
	started time.Time
	gateway *gateway.Gateway
	db      *centre
	limits  *config.Server
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
		Program: "syncgate " + version(), State: "serving", Healthy: true, Started: s.started, Now: time.Now(),
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
