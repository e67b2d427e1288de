package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	"unsafe"

	"syncgate/store"
)

// reports holds the last report of each point, and which are not saved yet.
type reports struct {
	mu      sync.Mutex
	last    map[string]store.PointReport
	unsaved map[string]bool
}

// A point reports every reportEvery while nothing changes; with more than reportsPoints points less often, so that
// their rules cost the database the same.
const (
	reportEvery   = 30 * time.Second
	reportsPoints = 2000
)

// reported keeps a report, charges the point for it, and says when the next one is wanted.
func (g *Gateway) reported(p store.PointReport) (next time.Duration) {
	more, next := g.reports.add(p)
	h := g.ledger.Point(p.Point)
	defer h.Close()
	h.Add(more)
	return next
}

// add replaces the point's report. more is how many bytes it takes more than the one before.
func (r *reports) add(p store.PointReport) (more int64, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last, r.unsaved = map[string]store.PointReport{}, map[string]bool{}
	}
	more = sizeOf(p) - sizeOf(r.last[p.Point])
	r.last[p.Point], r.unsaved[p.Point] = p, true
	return more, reportEvery * time.Duration(max(1, len(r.last)/reportsPoints))
}

// sizeOf is about how many bytes of memory a report takes.
func sizeOf(p store.PointReport) int64 {
	n := len(p.Software) + len(p.Database)
	for i := range p.Rules {
		x := &p.Rules[i]
		n += int(unsafe.Sizeof(*x)) + len(x.Table) + len(x.Direction) + len(x.State) + len(x.Code) + len(x.Column) +
			len(x.Text)
	}
	return int64(n)
}

// reportsAtOnce bounds the reports that one transaction saves. A report has at most 500 rules.
const reportsAtOnce = 250

// flush saves reports. It keeps for its next call what it does not save, or a newer report of the same point.
func (r *reports) flush(ctx context.Context, db *store.Store) error {
	r.mu.Lock()
	var batch []store.PointReport
	for point := range r.unsaved {
		batch = append(batch, r.last[point])
		delete(r.unsaved, point)
		if len(batch) == reportsAtOnce {
			break
		}
	}
	r.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	err := db.SavePointReports(ctx, batch)
	if err == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range batch {
		r.unsaved[p.Point] = true
	}
	return fmt.Errorf("write down what points report: %w", err)
}

// Reports are what the points have reported since the start of the gateway, in the order of their names.
func (g *Gateway) Reports() []store.PointReport {
	r := &g.reports
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]store.PointReport, 0, len(r.last))
	for _, point := range slices.Sorted(maps.Keys(r.last)) {
		all = append(all, r.last[point])
	}
	return all
}
