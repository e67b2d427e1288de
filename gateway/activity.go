package gateway

import (
	"maps"
	"slices"
	"sync"
	"time"

	"syncgate/business"
	"syncgate/protocol"
)

// PointActivity is what one point has done since the start.
type PointActivity struct {
	Conns            int
	Remote           string // address of its newest connection
	RowsUp, RowsDown uint64
	Failure          Failure // the last one; its Status is StatusOK when there is none
}

// Failure is one request that was not answered with StatusOK.
type Failure struct {
	At                    time.Time
	Status                protocol.Status
	Point, Table, Message string
}

// activity is what all points have done since the start. It has room for every enrolled point and the last failures.
type activity struct {
	mu       sync.Mutex
	points   map[string]PointActivity
	failures []Failure // the oldest first
	up, down uint64    // rows of all points
}

const maxFailures = 20 // remembered

func (a *activity) change(point string, change func(*PointActivity)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.points[point]
	change(&p)
	if a.points == nil {
		a.points = map[string]PointActivity{}
	}
	a.points[point] = p
}

// connected returns how many connections the point has now.
func (a *activity) connected(point, remote string) (conns int) {
	a.change(point, func(p *PointActivity) {
		p.Conns, p.Remote = p.Conns+1, remote
		conns = p.Conns
	})
	return conns
}

func (a *activity) disconnected(point string) {
	a.change(point, func(p *PointActivity) { p.Conns-- })
}

func (a *activity) connections(point string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.points[point].Conns
}

// answered counts the rows of a request, or remembers that it failed.
func (a *activity) answered(r *business.Request, reply *protocol.Message, at time.Time) {
	a.change(r.Point, func(p *PointActivity) {
		switch {
		case reply.Status != protocol.StatusOK:
			p.Failure = Failure{At: at, Status: reply.Status, Point: r.Point, Table: r.Message.Table()}
			if e, err := reply.ErrorReply(); err == nil {
				p.Failure.Message = e.Message
			}
			a.failures = append(a.failures, p.Failure)
			a.failures = a.failures[max(0, len(a.failures)-maxFailures):]
		case r.Message.Op == protocol.OpUpload:
			p.RowsUp, a.up = p.RowsUp+r.Rows, a.up+r.Rows
		case r.Message.Op == protocol.OpDownload:
			p.RowsDown, a.down = p.RowsDown+r.Rows, a.down+r.Rows
		}
	})
}

// Activity returns what each point has done since the start, and the last failures, the newest first.
func (g *Gateway) Activity() (map[string]PointActivity, []Failure) {
	a := &g.activity
	a.mu.Lock()
	defer a.mu.Unlock()
	failures := slices.Clone(a.failures)
	slices.Reverse(failures)
	return maps.Clone(a.points), failures
}
