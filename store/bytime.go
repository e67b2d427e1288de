package store

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// The items of the state of a plan that reads by time, beside those of its cursor and those of a load.
const (
	rereadDone = "sync_reread" // ranges of sync_reread up to this id are read
	hotDone    = "sync_scan"   // rows that keep changing were read after this scan
)

const (
	// aheadOverlap is how far behind the bound a reader goes on whose own time is ahead of the database's.
	aheadOverlap = time.Hour
	farFuture    = "9999-12-31 23:59:59" // no row has a later time
	beforeAll    = "1970-01-01 00:00:00" // as the initial value of a state that is a time
)

// byTime is how a plan with a watermark is read. One part follows the other: the table by key where there is no state,
// the times that have to be read again, what is new, and the rows that change too often to be behind the bound ever.
func (r *reader) byTime() (paging, error) {
	if r.reach == nil {
		now, err := r.s.reachOf(r.ctx, r.c, r.p, r.inTx)
		if err != nil {
			return paging{}, err
		}
		r.reach = &now
	}
	mark, begun := itemOf(r.env.State, r.p.Mark.Column)
	_, loading := itemOf(r.env.State, rule.LoadItem(0))
	if loading || !begun && !r.p.Row.UseCarriedState { // a client that reads its state from its rows needs their order
		return r.loadByKey(mark, loading)
	}
	at, _ := mark.(string)
	_, ours := stateNumber(r.env.State, rereadDone)
	if ours && at > r.reach.bound {
		at = r.goBack(at)
	}
	if pages, err := r.again(at); pages.first != nil || err != nil {
		return pages, err
	}
	return r.byMark(), nil
}

// loadByKey reads the table by its primary key up to the row that was the last by time when the load began. What comes
// later is read by time from there, also when its time is not that of the clock.
func (r *reader) loadByKey(mark any, loading bool) (paging, error) {
	if !loading {
		last, err := r.lastByTime()
		if err != nil {
			return paging{}, err
		}
		mark, r.env.State = last[0].Value, append(last, number(rereadDone, r.reach.last))
	}
	bound, _ := mark.(string)
	load := paging{first: r.p.Load.Start, next: r.p.Load, columns: r.p.Key, keep: r.state(), bound: bound,
		items: rule.Items(len(r.p.Key), rule.LoadItem)}
	if loading {
		load.first = load.next
	}
	load.end = func() bool { r.setState(load.keep); return true }
	return load, nil
}

// lastByTime is the cursor of the last row that lies behind the bound; of an empty table a time before every other.
func (r *reader) lastByTime() ([]rowset.StateItem, error) {
	state := []rowset.StateItem{{Name: r.p.Mark.Column, Value: beforeAll}}
	env := r.env
	env.Bound, env.LocalBound = r.reach.bound, r.reach.bound
	if err := r.bind(&r.p.Mark.Last, &env); err != nil {
		return nil, err
	}
	err := r.c.scan(r.ctx, r.p.Mark.Last.SQL, func(values []any) error {
		state = nil
		for i, v := range rowset.AppendCopy(nil, values) {
			if col := r.p.Table.Column(r.p.Cursor[i]); col != nil && col.Type == "timestamp" {
				v = convert(v, r.session, utc)
			}
			state = append(state, rowset.StateItem{Name: r.p.Cursor[i], Value: v})
		}
		return nil
	})
	return state, err
}

// again reads the next range of times that was found late and lies behind at, if there is one.
func (r *reader) again(at string) (paging, error) {
	done, ours := stateNumber(r.env.State, rereadDone)
	if !ours {
		done = r.reach.last // a state of before there were any
	}
	for done < r.reach.last {
		var id uint64
		var first, last string
		err := r.c.ask(r.ctx, `SELECT id, first_time, last_time FROM sync_reread WHERE sync_table = ? AND id > ?
			ORDER BY id LIMIT 1`, func(v []any) error {
			id = asUint(v[0])
			first, _ = v[1].(string)
			last, _ = v[2].(string)
			return nil
		}, r.p.Mark.Table, done)
		switch {
		case err != nil:
			return paging{}, err
		case id == 0:
			done = r.reach.last
		case first > at:
			done = id // not read yet at all
		default:
			return r.readAgain(done, id, first, min(last, at)), nil
		}
	}
	r.setState(r.state(number(rereadDone, done)))
	return paging{}, nil
}

func (r *reader) readAgain(done, id uint64, first, last string) paging {
	again := &r.p.Mark.Again
	pages := paging{first: again, next: again, columns: r.p.Cursor, bound: last,
		keep: r.state(number(rereadDone, done)), items: rule.Items(len(r.p.Cursor), rule.RereadItem)}
	if _, resumed := itemOf(r.env.State, rule.RereadItem(0)); !resumed {
		r.env.State = slices.Clone(pages.keep)
		if t, err := asTime(first); err == nil {
			before := timeText(t.Add(-time.Microsecond), 6)
			r.env.State = append(r.env.State, rowset.StateItem{Name: rule.RereadItem(0), Value: before})
		}
	}
	pages.end = func() bool { r.setState(r.state(number(rereadDone, id))); return true }
	return pages
}

// byMark reads what is new, once in a read.
func (r *reader) byMark() paging {
	pages := r.byCursor(&r.p.Upside[0])
	pages.bound = r.reach.bound
	for _, name := range []string{rereadDone, hotDone} {
		if n, ok := stateNumber(r.env.State, name); ok {
			pages.keep = append(pages.keep, number(name, n))
		}
	}
	scanned, _ := stateNumber(r.env.State, hotDone)
	changed := func(hot uint64) bool { return hot > scanned }
	if !slices.ContainsFunc(slices.Collect(maps.Values(r.reach.hot)), changed) {
		return pages
	}
	if !r.caughtUp {
		pages.end = func() bool { r.caughtUp = true; return true }
		return pages
	}
	// The rows come again when they are behind the bound, so the state does not pass them.
	r.setState(r.state(number(hotDone, r.reach.number)))
	pages.bound, pages.limit = farFuture, lateMost
	pages.only = func(values []any) bool {
		key := make([]any, 0, len(r.cursor))
		for _, at := range r.cursor[1:] {
			key = append(key, values[at])
		}
		return changed(r.reach.hot[hashOf(key)])
	}
	return pages
}

// goBack makes a reader whose time is ahead of the database's go on before the bound. It was not this process that read
// up to there, so lateRows does not know what was read.
func (r *reader) goBack(at string) string {
	column := r.p.Mark.Column
	back := r.reach.bound
	if t, err := asTime(back); err == nil {
		back = timeText(t.Add(-aheadOverlap), r.p.Mark.Digits)
	}
	r.s.count(clockSteps, "state", 1, fmt.Errorf("table %s was read up to the %s %s, which the database's clock has "+
		"not reached; reading goes on from %s", r.p.Mark.Table, column, at, back))
	done, _ := stateNumber(r.env.State, rereadDone)
	r.setState([]rowset.StateItem{{Name: column, Value: back}, number(rereadDone, done)})
	return back
}

// state is the present state without the items of a load or of a range that is read again, with a number replaced.
func (r *reader) state(replaced ...rowset.StateItem) []rowset.StateItem {
	var kept []rowset.StateItem
	for _, item := range r.env.State {
		named := func(other rowset.StateItem) bool { return other.Name == item.Name }
		keep := item.Name == rereadDone || item.Name == hotDone || slices.Contains(r.p.Cursor, item.Name)
		if keep && !slices.ContainsFunc(replaced, named) {
			kept = append(kept, item)
		}
	}
	return append(kept, replaced...)
}

func (r *reader) setState(state []rowset.StateItem) { r.env.State, r.page.State = state, state }

func number(name string, n uint64) rowset.StateItem {
	return rowset.StateItem{Name: name, Value: int64(n)}
}

func itemOf(state []rowset.StateItem, name string) (any, bool) {
	i := slices.IndexFunc(state, func(item rowset.StateItem) bool { return item.Name == name && item.Value != nil })
	if i < 0 {
		return nil, false
	}
	return state[i].Value, true
}
