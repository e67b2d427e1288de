package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// A comparison finds the rows of a table that the centre and the point do not have alike, and sends them again.
//
//  1. The point reads the keys and checksums of its rows, page by page, and cuts each page into ranges.
//  2. COMPARE asks for the number of rows and the checksum of each range at the centre.
//  3. The point lists the rows of a range that differs, and COMPARE finds those that are missing or different, and
//     those that only the centre has.
//  4. The side whose rows are right marks the keys as changed: the point for an upload, the centre for a download. The
//     feed of its changes sends them, deleted rows as deletes.
//
// Rows with a change that the centre has not acknowledged are not compared: they are on their way.

const (
	comparePage  = 4096 // rows that are read at once
	compareRange = 64   // rows of a range at the point
	compareMost  = 200  // rows that are listed of one range
	compareKeys  = 5    // keys that a report names of each kind
	reportEvery  = 2 * time.Second
)

// Job is a comparison of a table, and Result is what came of it.
type (
	Job    = protocol.ResyncReply
	Result = protocol.ResyncRequest
)

// comparison is one Job under way.
type comparison struct {
	*Agent
	job     *Job
	own     bool // only rows that were changed here last
	here    *store.Comparison
	columns []string
	result  Result
	first   map[string][]string // the first keys of each kind, as text
	unknown bool
	kept    int                // rows that the centre does not have and that stay at the point
	skipped int                // ranges with too many changes that were not sent
	report  func(Result) error // may be nil
}

// compare does a job. It calls report now and then; an error of it ends the comparison.
func (a *Agent) compare(ctx context.Context, job *Job, report func(Result) error) (Result, error) {
	return (&comparison{Agent: a, job: job, report: report}).run(ctx)
}

func (c *comparison) run(ctx context.Context) (Result, error) {
	a, job := c.Agent, c.job
	c.result, c.first = Result{Job: job.Job, State: "running"}, map[string][]string{}
	plan, err := a.rules.plan(ruleName{job.Direction, job.Table})
	if plan == nil && err == nil {
		err = fmt.Errorf("no rule of this point is for the %s of %s", job.Direction, job.Table)
	}
	if err == nil && !job.DryRun && job.Direction == rule.Upload && plan.Load == nil {
		err = fmt.Errorf("the rule that uploads %s has not the option changes, "+
			"so that only a dry run can be made", job.Table)
	}
	if err != nil {
		return c.result, err
	}
	env := a.opts.env(nil)
	// The number of the last change here that the centre has.
	state, err := loadState(ctx, a.opts.Store, ruleName{rule.Upload, job.Table})
	if err != nil {
		return c.result, err
	}
	env.State = slices.DeleteFunc(state, func(item rowset.StateItem) bool { return item.Name != rowset.ChangeSeq })
	if c.here, err = a.opts.Store.Compare(plan, env, nil, job.Where); err != nil {
		return c.result, err
	}
	c.columns = c.here.Columns
	fields, err := c.ask(ctx, &protocol.CompareRequest{})
	if err != nil {
		return c.result, err
	}
	c.columns = fields.Columns
	if c.here, err = a.opts.Store.Compare(plan, env, c.columns, job.Where); err == nil {
		c.here.Own = c.own
		err = c.pages(ctx)
	}
	c.result.Note = c.note()
	return c.result, err
}

func (c *comparison) ask(ctx context.Context, r *protocol.CompareRequest) (*protocol.CompareReply, error) {
	r.Table, r.Direction, r.Job, r.Columns = c.job.Table, c.job.Direction, c.job.Job, c.columns
	for lost := 0; ; lost++ {
		reply, err := ask(ctx, c.link, &protocol.Message{Op: protocol.OpCompare, Body: r},
			(*protocol.Message).CompareReply)
		if !errors.Is(err, ErrLost) || ctx.Err() != nil || lost == maxLost {
			return reply, err
		}
	}
}

// pages compares page after page of the point's rows.
func (c *comparison) pages(ctx context.Context) error {
	reported := c.opts.Clock()
	var from []any
	for last := false; !last; {
		rows, err := c.here.List(ctx, store.Bounds{From: from}, comparePage)
		if err != nil {
			return err
		}
		last = len(rows) < comparePage
		if err := c.page(ctx, from, rows, last); err != nil {
			return err
		}
		if !last {
			from = rows[len(rows)-1].Key
		}
		c.result.Compared += uint64(len(rows))
		if now := c.opts.Clock(); now.Sub(reported) >= reportEvery {
			if reported = now; c.report != nil {
				if err := c.report(c.result); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// page compares the ranges of one page; the last one has no end when the page is the last.
func (c *comparison) page(ctx context.Context, from []any, rows []store.Listed, last bool) error {
	request := &protocol.CompareRequest{From: from, Open: last}
	var ranges [][]store.Listed
	for part := range slices.Chunk(rows, compareRange) {
		ranges = append(ranges, part)
		request.Uppers = append(request.Uppers, part[len(part)-1].Key...)
	}
	if last { // what is behind the last row is a range without rows here
		ranges = append(ranges, nil)
	}
	reply, err := c.ask(ctx, request)
	if err != nil {
		return err
	}
	if len(reply.Sums) != 2*len(ranges) {
		return fmt.Errorf("the centre answers with %d values about %d ranges", len(reply.Sums), len(ranges))
	}
	for i, part := range ranges {
		b := store.Bounds{From: from}
		if len(part) > 0 {
			b.To = part[len(part)-1].Key
		}
		if !same(part, reply.Sums[2*i], reply.Sums[2*i+1]) {
			if err := c.differ(ctx, b, part); err != nil {
				return err
			}
		}
		from = b.To
	}
	return nil
}

// same reports whether rows have the number and the checksum.
func same(rows []store.Listed, count, sum any) bool {
	var xor uint64
	for _, r := range rows {
		xor ^= number(r.Sum)
	}
	return number(count) == uint64(len(rows)) && number(sum) == xor
}

func number(v any) uint64 {
	if n, ok := v.(int64); ok {
		return uint64(n)
	}
	n, _ := v.(uint64)
	return n
}

// differ finds the rows of a range that differ.
func (c *comparison) differ(ctx context.Context, b store.Bounds, rows []store.Listed) error {
	gone, err := c.here.Gone(ctx, b)
	if err != nil {
		return err
	}
	if rows = slices.Concat(rows, gone); len(rows) > compareMost {
		c.skipped++
		return nil
	}
	request := &protocol.CompareRequest{From: b.From, Uppers: b.To, Open: b.To == nil, Listed: true,
		Send: !c.job.DryRun && c.job.Direction == rule.Download}
	for _, r := range rows {
		request.Rows = append(append(request.Rows, r.Key...), r.Sum)
	}
	for first := true; ; first = false {
		reply, err := c.ask(ctx, request)
		if err != nil {
			return err
		}
		keys, err := c.found(reply, rows, first)
		if err == nil && !c.job.DryRun && c.job.Direction == rule.Upload {
			err = c.here.Send(ctx, keys)
		}
		if err != nil || !reply.More {
			return err
		}
		request.From = keys[len(keys)-1]
	}
}

// found counts what differs, and returns the keys of all that does. Of a range that takes several replies only the
// first counts the listed rows.
func (c *comparison) found(reply *protocol.CompareReply, rows []store.Listed, first bool) (keys [][]any, err error) {
	take := func(kind string, n *uint64, key []any) {
		*n++
		if keys = append(keys, key); len(c.first[kind]) < compareKeys {
			c.first[kind] = append(c.first[kind], keyText(key))
		}
	}
	c.unknown = c.unknown || reply.Unknown
	for _, listed := range []struct {
		kind string
		n    *uint64
		at   []uint32
	}{{"missing at the centre", &c.result.MissingThere, reply.Missing},
		{"different", &c.result.Different, reply.Different}} {
		for _, i := range listed.at {
			if int(i) >= len(rows) {
				return nil, fmt.Errorf("the centre names row %d of %d", i, len(rows))
			}
			if first {
				take(listed.kind, listed.n, rows[i].Key)
			}
		}
	}
	if first && reply.Kept && c.job.Direction == rule.Download {
		c.kept += len(reply.Missing)
	}
	width := len(c.here.Key)
	if len(reply.Extra)%width != 0 || reply.More && len(reply.Extra) == 0 {
		return nil, errors.New("the centre answers with keys that do not fit the table")
	}
	for key := range slices.Chunk(reply.Extra, width) {
		take("missing at the point", &c.result.MissingHere, key)
	}
	return keys, nil
}

func keyText(key []any) string {
	parts := make([]string, len(key))
	for i, v := range key {
		if b, ok := v.([]byte); ok {
			parts[i] = fmt.Sprintf("0x%x", b)
		} else {
			parts[i] = fmt.Sprint(v)
		}
	}
	return strings.Join(parts, "/")
}

// note is what the counts do not say.
func (c *comparison) note() string {
	var all []string
	for _, kind := range []string{"missing at the centre", "missing at the point", "different"} {
		if keys := c.first[kind]; len(keys) > 0 {
			all = append(all, "first keys "+kind+": "+strings.Join(keys, ", "))
		}
	}
	if c.unknown {
		all = append(all, "rows that only the centre has are not known, because it does not record which point "+
			"its rows of "+
			c.job.Table+" come from; --where names the rows of the point")
	}
	if c.kept > 0 {
		all = append(all, fmt.Sprintf("%d rows that the centre does not have stay at the point, "+
			"because the rule has a condition", c.kept))
	}
	if c.skipped > 0 {
		all = append(all, fmt.Sprintf("%d ranges have many changes that have not been sent yet; "+
			"compare again later", c.skipped))
	}
	return strings.Join(all, "; ")
}

// indexOf is where a state has an item; -1: nowhere.
func indexOf(state []rowset.StateItem, name string) int {
	return slices.IndexFunc(state, func(item rowset.StateItem) bool { return item.Name == name })
}

// jobs names the loop that does the comparisons that the centre asks for.
var jobs = ruleName{"resync", "jobs"}

// resync is the turn of that loop.
func (a *Agent) resync(ctx context.Context) (time.Duration, error) {
	exchange := func(r Result) (*Job, error) {
		return ask(ctx, a.link, &protocol.Message{Op: protocol.OpResync, Body: &r}, (*protocol.Message).ResyncReply)
	}
	job, err := exchange(Result{})
	for err == nil && job.Job != 0 {
		if a.rules.find(ruleName{job.Direction, job.Table}) == nil { // it may be newer than those that were fetched
			if _, err := a.refresh(ctx); err != nil {
				return 0, err
			}
		}
		result, failed := a.compare(ctx, job, func(r Result) error {
			_, err := exchange(r)
			return err
		})
		if failed != nil && transient(failed) {
			return 0, failed
		}
		result.State = "done"
		if failed != nil {
			result.State, result.Note = "failed", failed.Error()
		}
		logResult(a.opts.Log.Info(), job, result).Uint64("job", job.Job).Msg("table compared")
		job, err = exchange(result)
	}
	if protocol.StatusOf(err) == protocol.StatusOpUnsupported { // an older server
		err = nil
	}
	return a.opts.FullInterval, err
}

// reloaded finds the rows that were deleted before a table was loaded anew, because the reader had missed changes: it
// compares the two sides. clear removes that from the state.
func (l *loop) reloaded(ctx context.Context, clear func([]rowset.StateItem) error) (done bool, err error) {
	state, err := loadState(ctx, l.opts.Store, l.name)
	at := indexOf(state, rowset.Reload)
	if err != nil || at < 0 || indexOf(state, rule.LoadItem(0)) >= 0 {
		return false, err
	}
	job := &Job{Table: l.name.table, Direction: l.name.direction}
	// What the centre changed last it may have changed again.
	c := &comparison{Agent: l.Agent, job: job, own: l.name.direction == rule.Upload}
	result, err := c.run(ctx)
	if err != nil {
		return false, fmt.Errorf("compare the loaded table with the centre: %w", err)
	}
	logResult(l.log.Warn(), job, result).
		Msg("the table was loaded anew, because changes were missed; what differed is sent")
	return true, clear(slices.Delete(state, at, at+1))
}

func logResult(e *zerolog.Event, job *Job, r Result) *zerolog.Event {
	return e.Str("table", job.Table).Str("type", job.Direction).Uint64("rows", r.Compared).
		Uint64("missing_at_centre", r.MissingThere).Uint64("missing_at_point", r.MissingHere).
		Uint64("different", r.Different).Bool("dry_run", job.DryRun).Str("note", r.Note)
}

// Resync compares a table with the centre, and sends the rows that differ unless it is a dry run. It may run beside the
// agent, which then sends them.
func (a *Agent) Resync(ctx context.Context, job Job, report func(Result) error) (result Result, err error) {
	if err := a.rules.refresh(ctx); err != nil {
		return result, err
	}
	if job.Direction == "" {
		up, down := a.rules.find(ruleName{rule.Upload, job.Table}), a.rules.find(ruleName{rule.Download, job.Table})
		switch {
		case up != nil && down != nil:
			return result, fmt.Errorf("%s is uploaded and downloaded; --type upload sends the rows of this point, "+
				"--type download those of the centre", job.Table)
		case up != nil:
			job.Direction = rule.Upload
		default:
			job.Direction = rule.Download
		}
	}
	err = a.link.connected(ctx, func(ctx context.Context) (err error) {
		result, err = a.compare(ctx, &job, report)
		return err
	})
	return result, err
}
