package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"syncgate/business"
	"syncgate/protocol"
	"syncgate/store"
)

const (
	logEvery   = time.Second // how often lines are written
	logAtOnce  = 1000        // lines of one statement
	logWaiting = 10 * logAtOnce
	logLines   = 10_000_000 // lines that are kept at most
	logFirst   = 200        // lines that a reader gets at once
	logOfPoint = 100        // lines of one point in one second; the others of its tables share one without a name
	purgeEvery = 10 * time.Minute
)

// syncLog collects what moved and what failed, and writes it into sync_log once a second: one line for each point,
// table, direction and outcome. Nobody waits for it. While the database takes no lines, the newest are kept; those that
// are dropped are counted.
type syncLog struct {
	mu      sync.Mutex
	second  map[logKey]*second
	lines   map[string]int  // of each point in second
	waiting []store.LogLine // the oldest first
	dropped uint64
	log     zerolog.Logger

	written feed[store.LogLine]
}

type logKey struct {
	point, table, kind string
	status             uint16
}

// second is a line in the making.
type second struct {
	store.LogLine
	quarantined uint64
	rule        uint64
}

func newSyncLog(log zerolog.Logger) *syncLog {
	return &syncLog{log: log, second: map[logKey]*second{}, lines: map[string]int{}, written: feed[store.LogLine]{most: logWaiting}}
}

// answered counts a request that moved rows or failed.
func (l *syncLog) answered(r *business.Request, reply *protocol.Message, at time.Time) {
	if reply.Status == protocol.StatusOK && r.Rows == 0 && r.Quarantined == 0 {
		return
	}
	key := logKey{r.Point, r.Message.Table(), r.Message.Op.String(), uint16(reply.Status)}
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.second[key]
	if line == nil && l.lines[key.point] >= logOfPoint {
		key.table = ""
		line = l.second[key]
	}
	if line == nil && len(l.second) >= logWaiting {
		l.dropped++
		return
	}
	if line == nil {
		line = &second{LogLine: store.LogLine{Point: key.point, Table: key.table, Type: key.kind, Status: key.status}}
		l.second[key] = line
		l.lines[key.point]++
	}
	line.At, line.rule = at, r.RuleID
	line.Rows, line.Batches, line.quarantined = line.Rows+r.Rows, line.Batches+1, line.quarantined+r.Quarantined
	line.Ms += uint64(max(0, at.Sub(r.Arrived).Milliseconds()))
	if e, err := reply.ErrorReply(); reply.Status != protocol.StatusOK && err == nil {
		line.Text = e.Message
	} else if line.quarantined > 0 {
		line.Text = fmt.Sprintf("%d rows put into sync_quarantine", line.quarantined)
	}
}

// add adds one line, such as one of a run.
func (l *syncLog) add(line store.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= 2*logWaiting { // more than take leaves
		l.dropped++
		return
	}
	l.waiting = append(l.waiting, line)
}

// pass says the lines of the second that has passed in the program's own log, and has them wait for being written, in
// the order of time.
func (l *syncLog) pass() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.second {
		l.waiting = append(l.waiting, line.LogLine)
	}
	l.say()
	clear(l.second)
	clear(l.lines)
	slices.SortStableFunc(l.waiting, func(a, b store.LogLine) int { return a.At.Compare(b.At) })
}

// take takes the lines to be written next. The caller calls wrote or back with them.
func (l *syncLog) take() []store.LogLine {
	l.mu.Lock()
	defer l.mu.Unlock()
	if over := len(l.waiting) - logWaiting; over > 0 {
		l.dropped += uint64(over)
		l.waiting = slices.Delete(l.waiting, 0, over)
	}
	n := min(len(l.waiting), logAtOnce)
	lines := slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return lines
}

// back has lines wait again that could not be written.
func (l *syncLog) back(lines []store.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(lines, l.waiting...)
}

// saidAtOnce bounds the lines of one second in the program's own log.
const saidAtOnce = 500

// say writes the second that has passed into the program's own log. With mu held.
func (l *syncLog) say() {
	said := 0
	for _, line := range l.second {
		if line.Type == protocol.OpReport.String() {
			continue
		}
		if said++; said > saidAtOnce {
			l.log.Warn().Int("left_out", len(l.second)-saidAtOnce).Msg("more runs in this second; sync_log has them")
			return
		}
		e, what := l.log.Info(), "rows moved"
		switch {
		case line.Status != 0:
			e, what = l.log.Warn().Str("text", line.Text), "request failed"
		case line.quarantined > 0:
			e, what = l.log.Warn().Uint64("quarantined", line.quarantined), "rows moved, some into sync_quarantine"
		}
		e.Str("point", line.Point).Uint64("rule", line.rule).Str("table", line.Table).Str("type", line.Type).
			Uint64("rows", line.Rows).Uint64("batches", line.Batches).Uint64("ms", line.Ms).
			Stringer("status", protocol.Status(line.Status)).Msg(what)
	}
}

// wrote passes on lines that are written.
func (l *syncLog) wrote(lines []store.LogLine) { l.written.add(lines...) }

// lost is how many lines were dropped since the start.
func (l *syncLog) lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped
}

// sayLog passes each second until ctx ends, also while the database takes no lines.
func (g *Gateway) sayLog(ctx context.Context) {
	tick := time.NewTicker(logEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.log.pass()
		}
	}
}

// keepLog writes and purges sync_log until ctx ends, and writes the last lines then.
func (g *Gateway) keepLog(ctx context.Context) {
	tick, purge := time.NewTicker(logEvery), time.NewTicker(purgeEvery)
	defer tick.Stop()
	defer purge.Stop()
	for away := false; ; {
		ended := false
		select {
		case <-ctx.Done():
			ended = true
		case <-tick.C:
		case <-purge.C:
			if err := g.o.Store.PurgeLog(ctx, g.o.KeepLog, logLines); err != nil && ctx.Err() == nil {
				g.o.Logger.Warn().Err(err).Msg("old lines of sync_log could not be deleted")
			}
		}
		if ended {
			g.log.pass()
		}
		err := g.writeLog(context.WithoutCancel(ctx))
		if (err != nil) != away && !ended {
			if away = err != nil; away {
				g.o.Logger.Warn().Err(err).Msg("sync_log cannot be written; the newest lines are kept")
			} else {
				g.o.Logger.Info().Uint64("dropped", g.log.lost()).Msg("sync_log is written again")
			}
		}
		if ended {
			return
		}
	}
}

// writeLog writes all lines that wait.
func (g *Gateway) writeLog(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	for {
		lines := g.log.take()
		if len(lines) == 0 {
			return nil
		}
		if err := g.o.Store.AppendLog(ctx, lines); err != nil {
			g.log.back(lines)
			return err
		}
		g.log.wrote(lines)
	}
}

// FollowLog passes the lines of sync_log that the filter chooses to send, and then every one that this server writes,
// until ctx ends or send fails. It goes on behind filter.After; without it, it begins with the last Limit lines.
func (g *Gateway) FollowLog(ctx context.Context, filter store.LogFilter, send func([]store.LogLine) error) error {
	filter.Limit = cmp.Or(filter.Limit, logFirst)
	at, leave := g.log.written.join()
	defer leave()
	for missed := uint64(1); ; {
		var lines []store.LogLine
		var err error
		if missed > 0 {
			lines, err = g.o.Store.Log(ctx, filter)
			if len(lines) < filter.Limit || filter.After == 0 {
				missed = 0 // all that was written before the last call of read is here
			}
		} else if lines, at, missed, err = g.log.written.read(ctx, at); missed > 0 {
			continue
		} else {
			lines = slices.DeleteFunc(slices.Clone(lines),
				func(l store.LogLine) bool { return l.ID <= filter.After || !filter.Matches(&l) })
		}
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			continue
		}
		filter.After = lines[len(lines)-1].ID
		if err := send(lines); err != nil {
			return err
		}
	}
}
