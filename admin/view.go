package admin

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"syncgate/store"
)

// Gateway is the running server, as the program gives it to the page. Each function answers at once, except those with
// a context.
type Gateway struct {
	Load     func() Load
	Activity func() (map[string]Activity, []Failure) // by point; the last failures, the newest first
	Reports  func() []store.PointReport              // the last one of each point since the server's start
	Level    func() string                           // of the log
	SetLevel func(string) error
	Drain    func()              // ends the server
	Reload   func() (any, error) // reads the configuration again; says what took effect
	// FollowLog passes lines of sync_log to send until ctx ends.
	FollowLog func(ctx context.Context, f store.LogFilter, send func([]store.LogLine) error) error
	Replay    func(ctx context.Context, q *store.QuarantinedRow, force bool) (store.Replayed, error)
	// SyncNow has a point run a rule and passes on the lines of sync_log about it. The error is that of the run.
	SyncNow func(ctx context.Context, point, table, direction string, line func(store.LogLine)) error
	// Tap passes each answered request to send until ctx ends. missed is how many could not be passed on.
	Tap func(ctx context.Context, f store.LogFilter, values bool,
		send func(lines []store.LogLine, missed uint64) error) error
}

// Load is the load at this moment, and counters since the start.
type Load struct {
	Figures          []Figure
	RowsUp, RowsDown uint64
	DiskFree         uint64    // bytes, where the server keeps its data; 0: not known
	BadKeys          []string  // points with a key that does not open
	Bounds           []float64 // of latencies, seconds, rising
	Requests         []uint64  // that took at most the bound
}

// Status is the server at one moment.
type Status struct {
	Program  string         `json:"program"`
	State    string         `json:"state"` // serving, or why not
	Healthy  bool           `json:"healthy"`
	Started  time.Time      `json:"started"`
	Now      time.Time      `json:"now"`
	Actions  bool           `json:"actions"` // are allowed to who asked
	Problems []Problem      `json:"problems"`
	Figures  []Figure       `json:"figures"`
	Points   map[string]int `json:"points"`            // by state
	Rules    map[string]int `json:"rules"`             // by state
	Unknown  string         `json:"unknown,omitempty"` // why points and rules are not those of now
	Failures []Failure      `json:"failures"`          // the last ones, newest first
}

// Figure is one number with what it means. Limit 0: none.
type Figure struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
	Limit uint64 `json:"limit,omitempty"`
	Unit  string `json:"unit,omitempty"`
}

// Activity is what a point has done since the server's start.
type Activity struct {
	Connections int      `json:"connections"`
	Remote      string   `json:"remote,omitempty"` // address of its newest connection
	RowsUp      uint64   `json:"rows_up"`
	RowsDown    uint64   `json:"rows_down"`
	Failure     *Failure `json:"failure,omitempty"` // the last one
}

// Failure is one failed request.
type Failure struct {
	At      time.Time `json:"at"`
	Code    string    `json:"code"` // SG0303
	Point   string    `json:"point,omitempty"`
	Table   string    `json:"table,omitempty"`
	Message string    `json:"message"`
}

// Connected is a point that is connected.
type Connected struct {
	Point string `json:"point"`
	Activity
}

// The states of a point.
const (
	pointConnected = "connected"
	pointAway      = "away"    // for less than Options.Silent
	pointSilent    = "silent"  // for longer
	pointTrouble   = "trouble" // connected; a rule fails there, or its rows wait for longer than Options.MaxLag
	pointNew       = "new"     // it has never connected
	pointRevoked   = "revoked"
)

// pointStates are all states, what needs a person first.
var pointStates = []string{pointSilent, pointTrouble, pointNew, pointAway, pointConnected, pointRevoked}

// Point is one detection point.
type Point struct {
	store.Point
	Activity
	State  string    `json:"state"`
	Seen   time.Time `json:"seen,omitzero"`    // now while it is connected
	Report *Report   `json:"report,omitempty"` // nil: it reports nothing
}

// Report sums up what a point last reported.
type Report struct {
	Software     string    `json:"software"`
	Database     string    `json:"database"`
	ReportedAt   time.Time `json:"reported_at"`
	ClockAheadMs int64     `json:"clock_ahead_ms"`
	DiskFree     uint64    `json:"disk_free,omitempty"`
	Memory       uint64    `json:"memory,omitempty"`
	LagMs        uint64    `json:"lag_ms"` // of the rule that is most behind, now
	Backlog      uint64    `json:"backlog_rows"`
	BacklogBytes uint64    `json:"backlog_bytes"`
	Quarantined  uint64    `json:"quarantined"` // rows at the point
	Failing      int       `json:"failing"`     // rules that are not ok
}

// Sum sums up a report as things are now: what waited then waits longer.
func Sum(r *store.PointReport, now time.Time) *Report {
	s := &Report{Software: r.Software, Database: r.Database, ReportedAt: r.ReportedAt, ClockAheadMs: r.ClockAheadMs,
		DiskFree: r.DiskFree, Memory: r.Memory}
	for i := range r.Rules {
		one := &r.Rules[i]
		if one.LagMs > 0 { // it waits since the report, too
			s.LagMs = max(s.LagMs, one.LagMs+uint64(max(0, now.Sub(r.ReportedAt).Milliseconds())))
		}
		s.Backlog, s.BacklogBytes, s.Quarantined = s.Backlog+one.BacklogRows, s.BacklogBytes+one.BacklogBytes,
			s.Quarantined+one.Quarantined
		if one.State != string(store.RuleOK) {
			s.Failing++
		}
	}
	return s
}

func (p *Point) rank() int { return slices.Index(pointStates, p.State) }

// lag is the age of the oldest row that waits at the point; 0 when it reports nothing.
func (p *Point) lag() time.Duration {
	return time.Duration(p.reported().LagMs) * time.Millisecond
}

func (p *Point) reported() Report {
	if p.Report == nil {
		return Report{}
	}
	return *p.Report
}

// contains finds lower-case text in what identifies a point.
func (p *Point) contains(text string) bool {
	return strings.Contains(strings.ToLower(p.Point.Point+"\x00"+p.Note+"\x00"+p.Remote), text)
}

// OnePoint is a point with the rules that concern it.
type OnePoint struct {
	Point
	Rules    []store.RuleLine   `json:"rules"`
	Reported *store.PointReport `json:"reported,omitempty"` // with each of its rules
	Unknown  string             `json:"unknown,omitempty"`
}

// fresh is how long what was read from the database is shown without reading it again; readTimeout bounds reading it.
const (
	fresh       = 2 * time.Second
	readTimeout = time.Second
)

// snapshot is what was last read from the database.
type snapshot struct {
	tried      time.Time
	took       time.Duration // the last try
	read       time.Time     // with success
	err        error         // of the last try
	points     []store.Point
	rules      []store.RuleLine
	quarantine []store.QuarantineCount
}

// unknown says that what is shown is not what the database has now; empty when it is.
func (s *snapshot) unknown() string {
	switch {
	case s.err == nil:
		return ""
	case s.read.IsZero():
		return "The database cannot be read: " + s.err.Error()
	}
	return "As of " + s.read.UTC().Format("15:04:05 UTC") + ". The database cannot be read now: " + s.err.Error()
}

// cache keeps the last snapshot, so that many readers cost the database one.
type cache struct {
	mu   sync.Mutex
	last snapshot
}

func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.tried = time.Time{}
}

// read returns the last snapshot when it is fresh, else a new one. What could not be read stays as it was.
func (s *Server) read(ctx context.Context) snapshot {
	c := &s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.last.tried) < max(fresh, 10*c.last.took) { // a large fleet is read less often
		return c.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout) // others wait for it as well
	defer cancel()
	next := c.last
	began := time.Now()
	next.err = s.load(ctx, &next)
	next.tried = time.Now()
	next.took = next.tried.Sub(began)
	if next.err == nil {
		next.read = next.tried
	} else {
		next.points, next.rules, next.quarantine = c.last.points, c.last.rules, c.last.quarantine
	}
	c.last = next
	return next
}

func (s *Server) load(ctx context.Context, to *snapshot) (err error) {
	db := s.options.Store
	if to.points, err = db.Points(ctx); err != nil {
		return err
	}
	if to.rules, err = db.RuleStates(ctx); err != nil {
		return err
	}
	to.quarantine, err = db.CountQuarantine(ctx, store.QuarantineFilter{})
	return err
}

// points are the enrolled points with what the server knows of each. Before the database could be read, they are those
// that have connected.
func (s *Server) points(snap *snapshot) []Point {
	done, _ := s.options.Gateway.Activity()
	enrolled := snap.points
	if snap.read.IsZero() {
		for _, name := range slices.Sorted(maps.Keys(done)) {
			enrolled = append(enrolled, store.Point{Point: name})
		}
	}
	now := time.Now()
	reports := map[string]*Report{}
	for _, r := range s.options.Gateway.Reports() {
		reports[r.Point] = Sum(&r, now)
	}
	all := make([]Point, len(enrolled))
	for i, p := range enrolled {
		all[i] = Point{Point: p, Activity: done[p.Point], Seen: p.SeenAt, Report: reports[p.Point]}
		all[i].judge(now, &s.options)
	}
	return all
}

// judge sets the state.
func (p *Point) judge(now time.Time, o *Options) {
	switch {
	case !p.RevokedAt.IsZero():
		p.State = pointRevoked
	case p.Connections > 0:
		p.State, p.Seen = pointConnected, now
		if r := p.Report; r != nil && (r.Failing > 0 || p.lag() > o.MaxLag) {
			p.State = pointTrouble
		}
	case p.Seen.IsZero():
		p.State = pointNew
	case now.Sub(p.Seen) > o.Silent:
		p.State = pointSilent
	default:
		p.State = pointAway
	}
}

func (s *Server) status(r *http.Request) *Status {
	snap := s.read(r.Context())
	st := &Status{
		Program: s.options.Program, State: "serving", Healthy: true, Started: s.started, Now: time.Now(),
		Actions: r.Context().Value(trusted{}) != nil, Figures: s.options.Gateway.Load().Figures,
		Points: map[string]int{}, Rules: map[string]int{}, Unknown: snap.unknown(),
	}
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	if err := s.options.Ready(ctx); err != nil {
		st.State, st.Healthy = err.Error(), false
	}
	_, st.Failures = s.options.Gateway.Activity()
	points := s.points(&snap)
	for i := range points {
		st.Points[points[i].State]++
	}
	for _, line := range snap.rules {
		st.Rules[cmp.Or(line.State, "new")]++
	}
	st.Problems = s.problems(st, points, &snap)
	return st
}
