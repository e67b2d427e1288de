package store

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// purgeRows bounds one DELETE, so that its locks and its undo stay small.
const purgeRows = 5000

// outboxID is one outbox of one point.
type outboxID struct {
	point string
	epoch uint64
}

// floors remembers what the points have confirmed since the last purge.
type floors struct {
	mu   sync.Mutex
	high map[outboxID]uint64
}

func (f *floors) note(u *Upload) {
	if u.Confirmed == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.high == nil {
		f.high = map[outboxID]uint64{}
	}
	id := outboxID{u.Point, u.Epoch}
	f.high[id] = max(f.high[id], u.Confirmed)
}

func (f *floors) take() map[outboxID]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.high
	f.high = nil
	return taken
}

// Run purges the ledger at intervals of what the points have confirmed, until ctx ends; it returns nil then. Without
// it the ledger grows and nothing else happens. What fails is tried again the next time its point confirms something.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(s.o.PurgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_ = s.Purge(ctx) // a database that is away is told of by every request; the floor rises later
		}
	}
}

// Purge raises the floor of each outbox to what its point has confirmed and deletes the ledger rows below it.
func (s *Store) Purge(ctx context.Context) error {
	for id, confirmed := range s.floors.take() {
		if err := s.purge(ctx, id, confirmed); err != nil {
			return err
		}
	}
	return nil
}

// purge raises the floor first and in a transaction of its own: enter relies on it.
func (s *Store) purge(ctx context.Context, id outboxID, confirmed uint64) error {
	err := s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sync_request_floor (point_no, epoch, confirmed) VALUES (?, ?, ?)
			ON DUPLICATE KEY UPDATE confirmed = GREATEST(confirmed, VALUES(confirmed))`, id.point, id.epoch, confirmed)
		return err
	})
	for deleted := int64(purgeRows); err == nil && deleted == purgeRows; {
		err = s.inTx(ctx, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(ctx, `DELETE FROM sync_request WHERE point_no = ? AND epoch = ? AND seq <= ?
				ORDER BY seq LIMIT ?`, id.point, id.epoch, confirmed, purgeRows)
			if err != nil {
				return err
			}
			deleted, err = res.RowsAffected()
			return err
		})
	}
	return err
}
