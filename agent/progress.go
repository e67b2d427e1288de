package agent

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// Report lists the moved rows, one line a rule, sorted by direction and table.
type Report []Line

// Line is one rule's part of a Report.
type Line struct {
	Table       string `json:"table"`
	Type        string `json:"type"`        // upload or download
	Rows        int64  `json:"rows"`        // acknowledged by the centre, or applied at the point
	Batches     int64  `json:"batches"`     // uploads, or pages
	Quarantined int64  `json:"quarantined"` // of these rows, and of rows that could not be sent
	Finished    bool   `json:"finished"`    // a round of Once has come to the rule's end
	Err         error  `json:"-"`           // why the rule fails or did not finish; nil on success
	Error       string `json:"error,omitempty"`

	failures      uint64
	failing       time.Time // since when Err is set
	caughtUp, due time.Time // when the last turn had done all there was to do, and when the next one should have
}

// The metrics of an agent.
var (
	rowsMoved = &store.Metric{Name: "agent_rows_total", Label: "direction",
		Help: "Rows that the centre acknowledged or the point applied."}
	ruleFailures = &store.Metric{Name: "agent_rule_failures_total", Label: "direction",
		Help: "Turns of a rule that failed and are tried again."}
	rowsDropped = &store.Metric{Name: "agent_rows_dropped_total", Label: "table",
		Help: "Rows that were dropped unsent, because the outbox was full and the settings say so."}
	connectionsLost = &store.Metric{Name: "agent_connections_lost_total", Label: "phase",
		Help: "Connections that failed before or after the handshake."}
)

func (o *Options) count(m *store.Metric, label string, n int) {
	if n > 0 {
		o.Observer(store.Event{Metric: m, Label: label, N: uint64(n)})
	}
}

// progress counts the rows of each rule since the agent was made.
type progress struct {
	opts  *Options
	rules *rules
	news  signal         // raised when a rule begins or ceases to fail
	moved func(ruleName) // is called when rows have moved
	mu    sync.Mutex
	lines map[ruleName]Line
	said  map[ruleName]said
}

// said is what the log has of a rule, and since when.
type said struct {
	Line
	at time.Time
}

func (t *progress) add(n ruleName, rows, batches, quarantined int) {
	t.opts.count(rowsMoved, n.direction, rows)
	if batches > 0 {
		t.rules.count(n, rows, nil)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[n]
	l.Rows, l.Batches, l.Quarantined = l.Rows+int64(rows), l.Batches+int64(batches), l.Quarantined+int64(quarantined)
	t.lines[n] = l
	t.moved(n)
}

// unsaid is what a rule has moved that the log does not have; ok says that it is to be logged now.
func (t *progress) unsaid(n ruleName) (moved Line, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, last, now := t.lines[n], t.said[n], t.opts.Clock()
	moved = Line{Rows: l.Rows - last.Rows, Batches: l.Batches - last.Batches,
		Quarantined: l.Quarantined - last.Quarantined}
	if moved.Rows <= 0 && moved.Quarantined <= 0 || now.Sub(last.at) < time.Second {
		return moved, false
	}
	if t.said == nil {
		t.said = map[ruleName]said{}
	}
	t.said[n] = said{l, now}
	return moved, true
}

func (t *progress) line(n ruleName) Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lines[n]
}

// fail records the error of a rule, or nil when the rule has recovered.
func (t *progress) fail(n ruleName, err error) {
	if err != nil {
		t.rules.count(n, 0, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[n]
	switch {
	case err == nil:
		l.failing = time.Time{}
	case l.Err == nil:
		l.failing = t.opts.Clock()
		fallthrough
	default:
		l.failures++
	}
	if (err == nil) != (l.Err == nil) {
		t.news.raise()
	}
	l.Err = err
	t.lines[n] = l
}

// done records that a turn of a rule has done all there was to do. The next turn is due after rest.
func (t *progress) done(n ruleName, rest time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[n]
	l.caughtUp = t.opts.Clock()
	l.due = l.caughtUp.Add(rest)
	t.lines[n] = l
}

// finish records that a rule has come to its end.
func (t *progress) finish(n ruleName) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[n]
	l.Finished = true
	t.lines[n] = l
}

// waited leaves out the downloaded rows that were applied after they had waited in sync_quarantine, which has counts.
func (t *progress) waited(counts []store.QuarantineCount) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n, l := range t.lines {
		left := int64(0)
		for _, c := range counts {
			if strings.EqualFold(c.Table, n.table) {
				left += int64(c.Rows)
			}
		}
		if n.direction == rule.Download {
			l.Quarantined = min(l.Quarantined, left)
			t.lines[n] = l
		}
	}
}

func (t *progress) failed(n ruleName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lines[n].Err != nil
}

// report has a line for each rule that is switched on and for every other rule that moved rows or failed.
func (t *progress) report() Report {
	t.mu.Lock()
	lines := maps.Clone(t.lines)
	t.mu.Unlock()
	for n, r := range t.rules.enabled() {
		l := lines[n]
		if p := r.Problem(); l.Err == nil && p != nil {
			l.Err = &ruleset.BrokenError{Problem: *p}
		}
		lines[n] = l
	}
	r := Report{}
	for n, l := range lines {
		if l.Type, l.Table = n.direction, n.table; l.Err != nil {
			l.Error = l.Err.Error()
		}
		r = append(r, l)
	}
	slices.SortFunc(r, func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Type, a.Type), cmp.Compare(a.Table, b.Table))
	})
	return r
}

// Print writes the report as a table of text.
func (r Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TYPE\tTABLE\tROWS\tBATCHES\tQUARANTINED\tRESULT")
	for _, l := range r {
		result := "ok"
		if l.Err != nil {
			result = l.Error
		} else if !l.Finished {
			result = "not finished"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\n", l.Type, l.Table, l.Rows, l.Batches, l.Quarantined, result)
	}
	return t.Flush()
}
