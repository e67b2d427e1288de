package store

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// The bound makes readers wait for transactions. Rows may get a time behind it all the same: the clock goes back, an
// account may not see transactions, a program writes old times, a dump is restored. lateRows finds such rows, and
// sync_reread lists their times for every reader.

const (
	lateEvery = 5 * time.Second // how often the times behind the bound are looked at
	lateShare = 20              // a look that took d is followed by none for lateShare times d
	lateMost  = 50_000          // rows that are looked at, the latest of a table
	rereadsAt = 100             // ranges of one look; more become one
	keepLate  = "30 DAY"        // a reader that was away for longer misses them
)

// late is the lateRows of each table.
type late struct {
	tables sync.Map     // of *lateRows
	pause  atomic.Int64 // no table is looked at before, microseconds since 1970
}

// lateRows remembers which rows of a table there were up to the bound. Readers get the bound from it, so that every row
// that they may have read is among them. A row that turns up behind the bound later is late.
type lateRows struct {
	mu sync.Mutex
	reach
	floor   string   // rows at and below it are not remembered
	seen    []uint64 // hashes of the others up to bound, ascending
	looked  time.Time
	waiting map[uint64]restless // the rows beyond the bound at the last scan, by the hash of their key
}

// restless is a row beyond the bound.
type restless struct {
	row     uint64 // its hash
	since   time.Time
	changed bool   // after readers last got it, or since
	hot     uint64 // the scan after which readers get it; 0: none
}

// reach is how far one read of a table may go.
type reach struct {
	bound  string            // the largest one that readers got
	last   uint64            // id of the last row of sync_reread
	number uint64            // of the last scan
	hot    map[uint64]uint64 // the rows that keep changing, with the scan that saw them change
	fresh  uint64            // rows that came up to the bound, and late ones, since the start
}

var hashSeed = maphash.MakeSeed()

// hashOf is a hash of values. Texts and bytes differ from one another by their length.
func hashOf(values []any) uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, v := range values {
		switch v := v.(type) {
		case string:
			h.WriteString(v)
		case []byte:
			h.Write(v)
		default:
			fmt.Fprint(&h, v)
		}
		h.WriteByte(0)
	}
	return h.Sum64()
}

// reachOf is how far a plan may read now. In a transaction nothing is looked at.
func (s *Store) reachOf(ctx context.Context, c *conn, p *rule.Plan, inTx bool) (reach, error) {
	now, err := s.clockOf(ctx, c)
	if err != nil {
		return reach{}, err
	}
	bound := now.bound(p, p.Mark.Local, p.Mark.Digits)
	if inTx {
		return reach{bound: bound}, nil
	}
	known, _ := s.late.tables.LoadOrStore(fmt.Sprintf("%s\n%v", p.Mark.Scan.SQL, p.Lag), &lateRows{})
	l := known.(*lateRows)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := s.advance(ctx, c, p, l, bound); err != nil {
		return reach{}, err
	}
	return l.reach, nil
}

// advance moves the bound of l forward, after it has noted the rows up to there. Now and then it looks at the rows
// behind the bound as well.
func (s *Store) advance(ctx context.Context, c *conn, p *rule.Plan, l *lateRows, bound string) error {
	bound = max(bound, l.bound)
	if l.bound == "" || time.Since(l.looked) >= s.lateEvery && time.Now().UnixMicro() >= s.late.pause.Load() {
		began := time.Now()
		err := s.look(ctx, c, p, l, bound)
		s.late.pause.Store(time.Now().Add(lateShare * time.Since(began)).UnixMicro())
		return err
	}
	if bound == l.bound {
		return nil
	}
	scan := lateScan{from: l.bound, bound: bound}
	if err := scan.run(ctx, c, p); err != nil {
		return err
	}
	if scan.cut != "" || len(l.seen)+len(scan.seen) > 2*lateMost {
		return s.look(ctx, c, p, l, bound)
	}
	l.seen = append(l.seen, scan.seen...)
	slices.Sort(l.seen)
	l.bound = bound
	l.fresh += scan.fresh
	l.wait(scan.waiting, p.Lag)
	return nil
}

// wait finds the rows that keep changing: they were beyond the bound for half of the lag, and changed meanwhile.
func (l *lateRows) wait(rows map[uint64]uint64, lag time.Duration) {
	now := time.Now()
	l.number = max(l.number+1, uint64(now.UnixMicro()))
	next, hot := make(map[uint64]restless, len(rows)), map[uint64]uint64{}
	for key, row := range rows {
		w, ok := l.waiting[key]
		if !ok {
			w = restless{row: row, since: now}
		}
		w.changed, w.row = w.changed || w.row != row, row
		if w.changed && now.Sub(w.since) >= lag/2 {
			w.changed, w.hot = false, l.number
		}
		if next[key] = w; w.hot > 0 {
			hot[key] = w.hot
		}
	}
	l.waiting, l.hot = next, hot
}

// look compares the rows of the table with those that are remembered, and lists the times of late ones.
func (s *Store) look(ctx context.Context, c *conn, p *rule.Plan, l *lateRows, bound string) error {
	scan := lateScan{from: l.floor, bound: bound, passed: l.bound, known: l.seen}
	if err := scan.run(ctx, c, p); err != nil {
		return err
	}
	if l.bound == "" || len(scan.late) > 0 {
		last, err := s.reread(ctx, c, p, scan.late)
		if err != nil {
			return err
		}
		l.last = last
	}
	slices.Sort(scan.seen)
	l.bound, l.floor, l.seen, l.looked = bound, max(l.floor, scan.cut), scan.seen, time.Now()
	l.fresh += scan.fresh
	l.wait(scan.waiting, p.Lag)
	return nil
}

// reread writes ranges of times into sync_reread and returns the id of the last range of the table.
func (s *Store) reread(ctx context.Context, c *conn, p *rule.Plan, late []lateRange) (last uint64, err error) {
	table := p.Mark.Table
	rows := uint64(0)
	for _, l := range late {
		const add = "INSERT INTO sync_reread (sync_table, first_time, last_time) VALUES (?, ?, ?)"
		if _, err := c.do(ctx, add, table, l.first, l.last); err != nil {
			return 0, err
		}
		rows += l.rows
	}
	if rows > 0 {
		s.count(rowsLate, table, rows, fmt.Errorf("%d rows of %s with times from %s to %s were committed after "+
			"readers had passed these times", rows, table, late[len(late)-1].first, late[0].last))
		if err := c.text(ctx, "DELETE FROM sync_reread WHERE found_at < NOW(6) - INTERVAL "+keepLate); err != nil {
			return 0, err
		}
	}
	err = c.ask(ctx, "SELECT id FROM sync_reread WHERE sync_table = ? ORDER BY id DESC LIMIT 1", func(v []any) error {
		last = asUint(v[0])
		return nil
	}, table)
	return last, err
}

// lateRange is a range of times in which rows are late.
type lateRange struct {
	first, last string
	rows        uint64
}

// lateScan goes through the times and keys of the latest rows of a table, downwards.
type lateScan struct {
	from, bound string
	passed      string   // the bound that readers may have passed; "" when there is none
	known       []uint64 // the rows up to it that they may have read

	seen    []uint64          // the rows up to bound
	cut     string            // rows at and below it were not gone through; "" when all were
	waiting map[uint64]uint64 // keys and rows beyond bound
	late    []lateRange
	fresh   uint64
	inRun   bool // the row before was late
}

func (s *lateScan) run(ctx context.Context, c *conn, p *rule.Plan) error {
	s.waiting = map[uint64]uint64{}
	env := rule.Env{Limit: lateMost + 1}
	if s.from != "" {
		env.State = []rowset.StateItem{{Name: p.Mark.Column, Value: s.from}}
	}
	if err := c.useZone(ctx, utc); err != nil { // where rules with and without a condition get the same
		return err
	}
	var rows, atCut int
	err := c.read(ctx, &p.Mark.Scan, &env, nil, func(v []any) error {
		at, _ := v[0].(string)
		rows++
		if at != s.cut {
			s.cut, atCut = at, len(s.seen)
		}
		s.row(at, v)
		return nil
	})
	if rows <= lateMost {
		s.cut = ""
	} else {
		s.seen = s.seen[:atCut] // rows of the last time may be left out
	}
	return err
}

func (s *lateScan) row(at string, values []any) {
	row := hashOf(values)
	if at > s.bound {
		s.waiting[hashOf(values[1:])] = row
		return
	}
	s.seen = append(s.seen, row)
	_, known := slices.BinarySearch(s.known, row)
	if !known {
		s.fresh++
	}
	switch late := at <= s.passed && !known; {
	case !late:
		s.inRun = false
	case s.inRun || len(s.late) == rereadsAt:
		l := &s.late[len(s.late)-1]
		l.first, s.inRun = at, true
		l.rows++
	default:
		s.late, s.inRun = append(s.late, lateRange{at, at, 1}), true
	}
}
