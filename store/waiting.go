package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
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
	known   bool                 // tables has all, but for what other processes have added since
	tables  map[string]time.Time // that have rows there, and when such a row was last added or seen
	waiting bool
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

func (q *quarantined) add(table string, waits bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.tables == nil {
		q.tables = map[string]time.Time{}
	}
	q.tables[strings.ToLower(table)] = time.Now()
	q.waiting = q.waiting || waits
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
	err := s.each(ctx, `SELECT DISTINCT sync_table, FALSE FROM sync_quarantine
		UNION ALL (SELECT sync_table, TRUE FROM sync_quarantine WHERE waits_until IS NOT NULL LIMIT 1)`,
		func(scan scanner) error {
			var table string
			var waits bool
			err := scan(&table, &waits)
			s.quarantined.add(table, waits)
			return err
		})
	if err != nil {
		return public(err)
	}
	q := &s.quarantined
	q.mu.Lock()
	defer q.mu.Unlock()
	q.known = true
	maps.DeleteFunc(q.tables, func(_ string, seen time.Time) bool { return time.Since(seen) > openAtMost })
	return nil
}

// key identifies the row by its primary key; "" when the plan does not know it.
func (it item) key() string { return keyHash(it.u.Plan.KeyOf(it.values())) }

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
	if items[0].u.Plan.Key == nil || r.again || !r.s.quarantined.has(table) {
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
	for len(keys) > 0 {
		n := min(len(keys), chunkUp(len(keys)))
		r.c.args = append(append(r.c.args[:0], table), keys[:n]...)
		marks := chunkUp(n)
		for len(r.c.args) <= marks {
			r.c.args = append(r.c.args, keys[0]) // repeated, so that there are few different statements
		}
		q := "DELETE FROM sync_quarantine WHERE sync_table = ? AND row_key IN (?" + strings.Repeat(", ?", marks-1) + ")"
		gone, err := r.c.exec(r.ctx, stmtKey{sql: q}, func() string { return q })
		if err != nil {
			return err
		}
		r.s.count(rowsLeftQuarantine, "superseded", uint64(gone), nil)
		keys = keys[n:]
	}
	return nil
}

// FindPlan is the plan that applies a quarantined row, or nil when there is none now.
type FindPlan func(q *QuarantinedRow) (*rule.Plan, rule.Env)

// RetryWaiting tries the rows that wait in sync_quarantine until ctx ends, and returns nil then.
func (s *Store) RetryWaiting(ctx context.Context, find FindPlan) error {
	looked := time.Time{}
	pause := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = retryEvery
		if time.Since(looked) >= lookEvery {
			looked = time.Now()
			if err := s.lookForQuarantined(ctx); err != nil {
				s.count(retryFailures, "look", 1, err)
				continue
			}
		}
		if !s.quarantined.takeWaiting() {
			continue
		}
		began := time.Now()
		left, err := s.retryRound(ctx, find)
		if err != nil && ctx.Err() == nil {
			s.count(retryFailures, "retry", 1, err)
		}
		if left || err != nil {
			s.quarantined.mu.Lock()
			s.quarantined.waiting = true
			s.quarantined.mu.Unlock()
		}
		pause = max(pause, retryShare*time.Since(began))
	}
}

// retryRound tries each waiting row, and all of them again while some are taken. left: rows wait still.
func (s *Store) retryRound(ctx context.Context, find FindPlan) (left bool, err error) {
	expired := int64(0)
	err = s.inTx(ctx, func(tx *Tx) (err error) {
		expired, err = tx.Exec(ctx, `UPDATE sync_quarantine SET waits_until = NULL
			WHERE waits_until <= CURRENT_TIMESTAMP(6)`)
		return err
	})
	if err != nil {
		return true, err
	}
	s.count(rowsLeftQuarantine, "expired", uint64(expired), nil)
	for took := 1; took > 0; {
		rows, more := s.ListQuarantine(ctx, QuarantineFilter{Waiting: true, Limit: maxRetrying})
		if more != nil || len(rows) == 0 {
			return false, more
		}
		took, err = 0, nil
		for len(rows) > 0 {
			first := &rows[0]
			n := 1
			for n < len(rows) && n < retryRows && rows[n].together(first) {
				n++
			}
			if plan, env := find(first); plan != nil {
				applied, failed := s.retryTogether(ctx, plan, env, rows[:n])
				took += applied
				err = errors.Join(err, failed) // rows of other rules may go
			}
			rows = rows[n:]
		}
	}
	return true, err
}

// together reports whether two rows came to one table by one rule from one point, with the same fields.
func (r *QuarantinedRow) together(other *QuarantinedRow) bool {
	return r.Point == other.Point && r.RuleID == other.RuleID && r.Table == other.Table &&
		slices.Equal(r.Fields, other.Fields)
}

// retryTogether applies rows in one transaction and removes those that are taken from the quarantine.
func (s *Store) retryTogether(ctx context.Context, p *rule.Plan, e rule.Env, rows []QuarantinedRow) (took int, err error) {
	err = s.inTx(ctx, func(tx *Tx) error {
		took = 0
		ids, upload := []any{}, rowset.Rows{Columns: rows[0].Fields}
		locked := map[uint64]bool{} // those that nobody has taken out meanwhile
		for i := range rows {
			ids = append(ids, rows[i].ID)
		}
		in := " WHERE id IN (?" + strings.Repeat(", ?", len(ids)-1) + ")"
		err := tx.Each(ctx, "SELECT id FROM sync_quarantine"+in+" FOR UPDATE", func(scan scanner) error {
			var id uint64
			err := scan(&id)
			locked[id] = true
			return err
		}, ids...)
		if err != nil || len(locked) == 0 {
			return err
		}
		ids = ids[:0]
		for i := range rows {
			if locked[rows[i].ID] {
				ids, upload.Values = append(ids, rows[i].ID), append(upload.Values, rows[i].Values...)
			}
		}
		out, err := tx.apply(ctx, p, upload, e, true)
		if err != nil {
			return err
		}
		for i := len(out.Quarantined) - 1; i >= 0; i-- {
			ids = slices.Delete(ids, out.Quarantined[i].Row, out.Quarantined[i].Row+1)
		}
		if took = len(ids); took > 0 {
			_, err = tx.Exec(ctx, "DELETE FROM sync_quarantine WHERE id IN (?"+strings.Repeat(", ?", took-1)+")", ids...)
		}
		return err
	})
	s.count(rowsLeftQuarantine, "retried", uint64(took), nil)
	return took, err
}
