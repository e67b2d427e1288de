package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Rows in sync_quarantine that another row keeps out wait: they are tried again by themselves until they are taken, a
// later version of the row is applied, or Options.RowWait has passed. A row that has passed it stays as a refused one.

const (
	retryEvery  = time.Second      // while rows wait
	lookEvery   = 10 * time.Second // for rows that another process has put there
	retryRows   = 500              // tried in one transaction
	retryShare  = 4                // a round is followed by a pause of at least so many times its length
	maxRetrying = 20_000           // rows of one round
)

// quarantined is what a store knows of sync_quarantine without asking the database.
type quarantined struct {
	mu      sync.Mutex
	known   bool                        // tables has all, but for what other processes have added since
	tables  map[string]quarantinedTable // that have rows there, by their names in lower case
	rows    map[string]int              // about how many of each point are there
	waiting bool
}

// quarantinedTable is a table as its rule writes it, and when a row of it was last added or seen.
type quarantinedTable struct {
	name string
	seen time.Time
}

// openAtMost is how long a transaction may be open that puts rows into the quarantine.
const openAtMost = 10 * time.Minute

// has reports whether a table may have rows in the quarantine.
func (q *quarantined) has(table string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, there := q.tables[strings.ToLower(table)]
	return there || !q.known
}

// add notes rows of a point. It returns false when the point then has more than most; 0 is no bound.
func (q *quarantined) add(table, point string, rows, most int, waits bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if most > 0 && q.rows[point]+rows > most {
		return false
	}
	if q.tables == nil {
		q.tables, q.rows = map[string]quarantinedTable{}, map[string]int{}
	}
	q.tables[strings.ToLower(table)] = quarantinedTable{table, time.Now()}
	q.rows[point] += rows
	q.waiting = q.waiting || waits
	return true
}

func (q *quarantined) names() (names []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.tables {
		names = append(names, t.name)
	}
	return names
}

// takeWaiting reports whether rows may wait, and forgets it.
func (q *quarantined) takeWaiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.waiting
	q.waiting = false
	return was
}

// lookForQuarantined asks the database.
func (s *Store) lookForQuarantined(ctx context.Context) error {
	q, rows := &s.quarantined, map[string]int{}
	err := s.each(ctx, `SELECT sync_table, point_no, COUNT(*), MAX(waits_until IS NOT NULL) FROM sync_quarantine
		GROUP BY sync_table, point_no`, func(scan scanner) error {
		var table, point string
		var n int
		var waits bool
		err := scan(&table, &point, &n, &waits)
		q.add(table, point, 0, 0, waits)
		rows[point] += n
		return err
	})
	if err != nil {
		return public(err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known, q.rows = true, rows
	maps.DeleteFunc(q.tables, func(_ string, t quarantinedTable) bool { return time.Since(t.seen) > openAtMost })
	return nil
}

// primaryKey are the values of the row's primary key; nil when the plan does not know it.
func (it item) primaryKey() []any { return it.u.Plan.KeyIn(it.u.Plan.Fields, it.values()) }

// key identifies the row by its primary key; "" when the plan does not know it.
func (it item) key() string { return keyHash(it.primaryKey()) }

// keyHash is sync_quarantine.row_key: a hash of the values as text.
func keyHash(key []any) string {
	if key == nil {
		return ""
	}
	h := sha256.New()
	for _, v := range key {
		text := plainText(v)
		_ = binary.Write(h, binary.BigEndian, uint32(len(text))) // a hash takes everything
		_, _ = h.Write([]byte(text))
	}
	return string(h.Sum(nil))
}

// supersede removes older versions of the rows that were applied from the quarantine.
func (r *runner) supersede(items []item) error {
	table := items[0].u.Plan.Row.Table
	if r.again || !items[0].u.Plan.HasKey() || !r.s.quarantined.has(table) {
		return nil
	}
	refused := map[string]int{}
	for it := range r.left {
		refused[it.key()] = max(it.row, refused[it.key()])
	}
	var keys []any
	for _, it := range items {
		key := it.key()
		if row, ok := refused[key]; key != "" && !r.left[it] && (!ok || row < it.row) {
			keys = append(keys, []byte(key))
		}
	}
	return inLists(keys, func(list string, values []any) error {
		gone, err := r.c.do(r.ctx, "DELETE FROM sync_quarantine WHERE row_key IN "+list+" AND sync_table = ?",
			append(values, table)...)
		r.s.count(rowsLeftQuarantine, "superseded", uint64(gone), nil)
		return err
	})
}

// FindPlan is the plan that applies a quarantined row, or nil when there is none now.
type FindPlan func(q *QuarantinedRow) (*rule.Plan, rule.Env)

// RetryWaiting tries the rows that wait in sync_quarantine until ctx ends. It tries all rows of a table when it starts
// and when the table's definition has changed, since that is how a refused row is usually cured.
func (s *Store) RetryWaiting(ctx context.Context, find FindPlan) {
	looked, pause := time.Time{}, time.Duration(0)
	tables := map[string]string{} // their definitions
	failed := func(step string, err error) bool {
		if err != nil && ctx.Err() == nil {
			s.count(retryFailures, step, 1, err)
		}
		return err != nil
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		began := time.Now()
		if time.Since(looked) >= lookEvery {
			looked = began
			if !failed("look", s.lookForQuarantined(ctx)) {
				failed("changed", s.retryChanged(ctx, find, tables))
			}
		}
		if s.quarantined.takeWaiting() {
			if left, err := s.RetryOnce(ctx, find); failed("retry", err) || left {
				s.quarantined.mu.Lock()
				s.quarantined.waiting = true
				s.quarantined.mu.Unlock()
			}
		}
		pause = max(retryEvery, retryShare*time.Since(began))
	}
}

// RetryOnce tries each waiting row, and all of them again while some are taken. left: rows wait still.
func (s *Store) RetryOnce(ctx context.Context, find FindPlan) (left bool, err error) {
	expired, err := s.exec(ctx, "UPDATE sync_quarantine SET waits_until = NULL "+
		"WHERE waits_until <= CURRENT_TIMESTAMP(6)")
	if err != nil {
		return true, err
	}
	s.count(rowsLeftQuarantine, "expired", uint64(expired), nil)
	for took := 1; took > 0; {
		rows, err := s.ListQuarantine(ctx, QuarantineFilter{Waiting: true, Limit: maxRetrying})
		if err != nil || len(rows) == 0 {
			return false, err
		}
		all := inGroups(find, rows)
		if took, err = s.retryGroups(ctx, all, false); took == 0 && err == nil {
			took, err = s.retryCircles(ctx, all)
		}
		if err != nil {
			return true, err
		}
	}
	return true, nil
}

// retryChanged tries the rows of each table whose definition is not the one in seen, and notes it there.
func (s *Store) retryChanged(ctx context.Context, find FindPlan, seen map[string]string) (err error) {
	for _, table := range s.quarantined.names() {
		t, failed := s.Table(ctx, table)
		definition := fmt.Sprintf("%+v", t)
		if errors.Is(failed, ErrNoTable) || seen[table] == definition {
			continue
		}
		filter := QuarantineFilter{Table: table, Limit: maxRetrying}
		for rows := []QuarantinedRow{{}}; failed == nil && len(rows) > 0; {
			if rows, failed = s.ListQuarantine(ctx, filter); len(rows) > 0 {
				filter.After = rows[len(rows)-1].ID
				_, failed = s.retryGroups(ctx, inGroups(find, rows), true)
			}
		}
		if failed == nil {
			seen[table] = definition
		}
		err = errors.Join(err, failed)
	}
	return err
}

// waitingRows are rows that came to one table by one rule from one point, with the same fields, and the plan that
// applies them.
type waitingRows struct {
	rows []QuarantinedRow
	plan *rule.Plan
	env  rule.Env
}

// inGroups leaves out rows that nothing applies now.
func inGroups(find FindPlan, rows []QuarantinedRow) (all []waitingRows) {
	for len(rows) > 0 {
		first, n := &rows[0], 1
		for n < len(rows) && n < retryRows && rows[n].together(first) {
			n++
		}
		if plan, env := find(first); plan != nil && !hasFile(plan.Downside) && first.Code >= mysqlErrors {
			some := *plan
			some.AllOrNothing = false
			all = append(all, waitingRows{rows[:n], &some, env})
		}
		rows = rows[n:]
	}
	return all
}

func (r *QuarantinedRow) together(other *QuarantinedRow) bool {
	return r.Point == other.Point && r.RuleID == other.RuleID && r.Table == other.Table &&
		(r.Code < mysqlErrors) == (other.Code < mysqlErrors) &&
		slices.Equal(r.Fields, other.Fields)
}

// retryGroups applies each group in a transaction. careful leaves rows alone of which the table may have a newer
// version.
func (s *Store) retryGroups(ctx context.Context, all []waitingRows, careful bool) (took int, err error) {
	for _, w := range all {
		var taken []any
		failed := s.inTx(ctx, func(tx *Tx) (err error) {
			if taken, err = tx.applyWaiting(ctx, w, careful); err == nil {
				err = tx.dropQuarantined(ctx, taken)
			}
			return err
		})
		switch {
		case failed == nil:
			s.count(rowsLeftQuarantine, "retried", uint64(len(taken)), nil)
			took += len(taken)
		case !errors.Is(failed, ErrMismatch): // the rule has other fields now; a person may edit the row
			err = errors.Join(err, failed)
		}
	}
	return took, err
}

// applyWaiting applies those of the rows that are still in the quarantine, and returns the ids of those that are taken.
func (t *Tx) applyWaiting(ctx context.Context, w waitingRows, careful bool) (taken []any, err error) {
	rows, err := t.lockQuarantined(ctx, w.rows)
	upload := rowset.Rows{}
	for _, r := range rows {
		one := rowset.Rows{Columns: r.Fields, Values: r.Values}
		present, cannot := false, error(nil)
		if careful {
			present, cannot = t.newer(ctx, w.plan, one, w.env)
		}
		_, newer := errors.AsType[*NewerError](cannot)
		if newer || present && !slices.ContainsFunc(w.plan.Fields, w.plan.IsClock) {
			continue
		}
		err = errors.Join(err, cannot)
		taken, upload.Columns, upload.Values = append(taken, r.ID), one.Columns, append(upload.Values, one.Values...)
	}
	if err != nil || len(taken) == 0 {
		return nil, err
	}
	out, err := t.apply(ctx, w.plan, upload, w.env, true)
	for _, q := range slices.Backward(out.Quarantined) {
		taken = slices.Delete(taken, q.Row, q.Row+1)
	}
	return taken, err
}

// lockQuarantined are those of the rows that are still in the quarantine; nobody else takes them out meanwhile.
func (t *Tx) lockQuarantined(ctx context.Context, rows []QuarantinedRow) ([]QuarantinedRow, error) {
	ids, there := make([]any, len(rows)), map[uint64]bool{}
	for i := range rows {
		ids[i] = rows[i].ID
	}
	err := t.Each(ctx, "SELECT id FROM sync_quarantine WHERE id IN "+marks(len(ids))+
		" FOR UPDATE", func(scan scanner) error {
		var id uint64
		err := scan(&id)
		there[id] = true
		return err
	}, ids...)
	left := slices.DeleteFunc(slices.Clone(rows), func(r QuarantinedRow) bool { return !there[r.ID] })
	return left, err
}

func (t *Tx) dropQuarantined(ctx context.Context, ids []any) (err error) {
	if len(ids) > 0 {
		_, err = t.Exec(ctx, "DELETE FROM sync_quarantine WHERE id IN "+marks(len(ids)), ids...)
	}
	return err
}
