package store

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// purgeRows bounds one DELETE, so that its locks and its undo stay small.
const purgeRows = 5000

// A point of the seed era confirms nothing. Its epochs have the top bit set, and its requests are refused by their time
// an hour after they were made at the latest, so that a day in the ledger is more than enough.
const (
	unconfirmedEpochs = 1 << 63
	unconfirmedHours  = 24
	forgetEvery       = 10 * time.Minute // no index helps this DELETE, and none is worth its price in every insert
)

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

// Run purges the ledger at intervals of what the points have confirmed, and of what points of the seed era sent a day
// ago, until ctx ends; it returns nil then. Without it the ledger grows and nothing else happens. What fails is tried
// again the next time its point confirms something.
func (s *Store) Run(ctx context.Context) error {
	purge, forget := time.NewTicker(s.o.PurgeEvery), time.NewTicker(forgetEvery)
	defer purge.Stop()
	defer forget.Stop()
	for {
		// A database that is away is told of by every request, and both are tried again.
		select {
		case <-ctx.Done():
			return nil
		case <-purge.C:
			_ = s.Purge(ctx)
		case <-forget.C:
			_ = s.forgetUnconfirmed(ctx)
		}
	}
}

// forgetUnconfirmed deletes the ledger rows of the seed era that no request can meet any more.
func (s *Store) forgetUnconfirmed(ctx context.Context) error {
	return s.deleteAll(ctx, `DELETE FROM sync_request WHERE epoch >= ? AND created_at < CURRENT_TIMESTAMP(6) - INTERVAL ? HOUR LIMIT ?`,
		uint64(unconfirmedEpochs), unconfirmedHours, purgeRows)
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
	if err != nil {
		return err
	}
	return s.deleteAll(ctx, `DELETE FROM sync_request WHERE point_no = ? AND epoch = ? AND seq <= ? ORDER BY seq LIMIT ?`,
		id.point, id.epoch, confirmed, purgeRows)
}

// deleteAll runs a DELETE of at most purgeRows rows until it finds fewer.
func (s *Store) deleteAll(ctx context.Context, query string, args ...any) error {
	for deleted := int64(purgeRows); deleted == purgeRows; {
		err := s.inTx(ctx, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(ctx, query, args...)
			if err != nil {
				return err
			}
			deleted, err = res.RowsAffected()
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
