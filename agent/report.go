package agent

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// The agent tells the centre how it and its rules are, and keeps the same in its own database. The report is for
// people: when it cannot be made or sent, the next one is.

const (
	reportPause   = time.Second      // between two reports at least
	reportTimeout = 10 * time.Second // for one
	// databaseTimeout is how long a report waits for the first answer of the database.
	databaseTimeout = 3 * time.Second
	lateGrace       = 5 * time.Second // that a turn may take before its rule lags
)

// reports makes a report when something changes, and at intervals, until ctx ends.
func (a *Agent) reports(ctx context.Context) {
	a.remember(ctx)
	for {
		rest, err := a.report(ctx)
		a.nextReport.Store(a.opts.Clock().Add(rest).UnixNano())
		if err != nil && ctx.Err() == nil {
			a.opts.Log.Debug().Err(err).Msg("the centre was not told how this point is")
		}
		if !pause(ctx, reportPause) || !pause(ctx, rest-reportPause, a.progress.news) {
			return
		}
	}
}

// remember takes from the last report of the agent before when each rule was up to date.
func (a *Agent) remember(ctx context.Context) {
	last, err := a.opts.Store.PointReports(ctx, a.opts.Point)
	if err != nil || len(last) == 0 {
		return // rules that have never been up to date lag since the start
	}
	a.progress.mu.Lock()
	defer a.progress.mu.Unlock()
	for _, r := range last[0].Rules {
		n := ruleName{r.Direction, r.Table}
		if l := a.progress.lines[n]; l.caughtUp.IsZero() && r.SucceededMs > 0 {
			l.caughtUp = a.opts.Clock().Add(-time.Duration(r.SucceededMs) * time.Millisecond)
			a.progress.lines[n] = l
		}
	}
}

// report makes a report, keeps it and sends it. rest is the pause until the next one.
func (a *Agent) report(ctx context.Context) (rest time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	r, err := a.state(ctx)
	own := store.PointReport{Point: a.opts.Point, ReportedAt: a.opts.Clock(), Report: *r}
	own.Rules = slices.Clone(r.Rules)
	for i := range own.Rules {
		own.Rules[i].RuleID = 0 // it is of another database
	}
	if err == nil {
		err = a.opts.Store.SavePointReports(ctx, []store.PointReport{own})
	}
	request := &protocol.ReportRequest{Report: *r}
	request.Rules = r.Rules[:min(len(r.Rules), protocol.MaxReported)]
	request.ClockMs = a.opts.Clock().UnixMilli()
	m := &protocol.Message{Op: protocol.OpReport, Body: request}
	reply, refused := ask(ctx, a.link, m, (*protocol.Message).ReportReply)
	switch {
	case refused == nil:
		rest = time.Duration(reply.EveryMs) * time.Millisecond
	case protocol.StatusOf(refused) == protocol.StatusOpUnsupported: // an older server
		refused = nil
	case errors.Is(refused, context.DeadlineExceeded):
		refused = nil // no connection; link has said so
	}
	return max(rest, a.opts.ReportEvery), errors.Join(err, refused)
}

// state is what there is to report, the rules that need a person first. With an error the database does not answer, and
// what it alone knows is missing.
func (a *Agent) state(ctx context.Context) (r *rowset.Report, err error) {
	brief, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	quarantined, err := a.opts.Store.QuarantinedByTable(brief)
	now := a.opts.Clock()
	r = &rowset.Report{Software: a.opts.Software, Database: a.opts.Store.Version(), UpMs: ms(now.Sub(a.started)),
		DiskFree: diskFree(a.opts.DataDir), Memory: residentMemory()}
	a.progress.mu.Lock()
	lines := maps.Clone(a.progress.lines)
	a.progress.mu.Unlock()
	for n, x := range a.rules.enabled() {
		s := ruleState(x, lines[n].Err)
		s.Table, s.Direction = n.table, n.direction
		if a.rules.set(n) == a.rules.local {
			s.Here = x.Row.ID
		} else {
			s.RuleID = x.Row.ID
		}
		l := lines[n]
		s.Moved, s.Failures, s.Quarantined = uint64(l.Rows), l.failures, quarantined[n.table]
		if !l.caughtUp.IsZero() {
			s.SucceededMs = max(1, ms(now.Sub(l.caughtUp)))
		}
		if !l.failing.IsZero() {
			s.FailingMs = max(1, ms(now.Sub(l.failing)))
		}
		if err == nil {
			a.lag(ctx, &s, x.Plan, l, now)
		} else {
			a.lag(ctx, &s, nil, l, now)
		}
		r.Rules = append(r.Rules, s)
	}
	order := []string{rowset.RuleBroken, rowset.RuleFailing, rowset.RuleStale, rowset.RuleOK}
	slices.SortFunc(r.Rules, func(x, y rowset.RuleReport) int {
		return cmp.Or(cmp.Compare(slices.Index(order, x.State), slices.Index(order, y.State)),
			cmp.Compare(y.LagMs, x.LagMs), cmp.Compare(x.Table, y.Table), cmp.Compare(x.Direction, y.Direction))
	})
	return r, err
}

// ruleState is the state of a rule, and why it is not well.
func ruleState(x *ruleset.Rule, failure error) rowset.RuleReport {
	s := rowset.RuleReport{State: rowset.RuleOK}
	problem := x.Problem()
	if problem != nil {
		s.Code, s.Column, s.Line, s.Text = problem.Code.String(), problem.Column, uint32(problem.Line), problem.Message
		if problem.Fix != "" {
			s.Text += "; " + problem.Fix
		}
	}
	switch {
	case x.Plan == nil:
		s.State = rowset.RuleBroken
	case failure != nil:
		s.State, s.Text = rowset.RuleFailing, failure.Error()
		s.Code, s.Column, s.Line = "", "", 0
		if status := protocol.StatusOf(failure); status != protocol.StatusInternal {
			s.Code = status.String()
		}
	case problem != nil:
		s.State = rowset.RuleStale
	}
	return s
}

// lag says how far a rule is behind. It asks the database only about an upload whose turn is late or fails, or while
// there is no connection, and not at all without a plan.
func (a *Agent) lag(ctx context.Context, s *rowset.RuleReport, plan *rule.Plan, l Line, now time.Time) {
	late := l.Err != nil || now.After(l.due.Add(lateGrace)) || !a.link.online.Load()
	if s.Direction == rule.Upload {
		w := a.outbox.of(s.Table)
		s.BacklogRows, s.BacklogBytes = uint64(max(0, w.rows)), uint64(max(0, w.bytes))
		if late && plan != nil {
			state, err := loadState(ctx, a.opts.Store, ruleName{s.Direction, s.Table})
			if err == nil {
				rows, bytes, counted, err := a.opts.Store.Backlog(ctx, plan, a.opts.env(state))
				s.BacklogRows, s.BacklogBytes = s.BacklogRows+rows, s.BacklogBytes+bytes
				late = err != nil || !counted
			}
		}
		late = late || s.BacklogRows > 0
	}
	if since := cmp.Or(l.caughtUp, a.started); late {
		s.LagMs = max(1, ms(now.Sub(since)))
	}
}

func ms(d time.Duration) uint64 { return uint64(max(0, d.Milliseconds())) }

// diskFree is how many bytes an ordinary user may still write into a directory; 0 when that is not known.
func diskFree(dir string) uint64 {
	var fs syscall.Statfs_t
	if dir == "" || syscall.Statfs(dir, &fs) != nil {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}

// residentMemory is how many bytes of memory this process holds; 0 when that is not known.
func residentMemory() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	var size, resident uint64
	if err == nil {
		_, err = fmt.Fscan(bytes.NewReader(text), &size, &resident)
	}
	if err != nil {
		return 0
	}
	return resident * uint64(os.Getpagesize())
}
