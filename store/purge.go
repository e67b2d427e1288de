package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"syncgate/migrations"
)

const (
	purgeEvery   = 10 * time.Second
	changesEvery = time.Minute
	purgeRows    = 5000 // of one DELETE, so that its locks and its undo stay small
)

// A point on the v1 wire confirms nothing. Its epochs have the top bit set. The server refuses its requests an hour
// after they were made at the latest, so that the ledger can forget them after a day.
const (
	unconfirmedEpochs = 1 << 63
	unconfirmedHours  = 24
	forgetEvery       = 10 * time.Minute // no index helps this DELETE: every insert would pay for one
)

// outboxID is one outbox of one point.
type outboxID struct {
	point string
	epoch uint64
}

// floors holds what the points have confirmed since the last purge.
type floors struct {
	mu   sync.Mutex
	high map[outboxID]uint64
}

func (f *floors) raise(id outboxID, confirmed uint64) {
	if confirmed == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.high == nil {
		f.high = map[outboxID]uint64{}
	}
	f.high[id] = max(f.high[id], confirmed)
}

func (f *floors) take() map[outboxID]uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.high
	f.high = nil
	return taken
}

// Run purges at intervals until ctx ends and returns nil then. It deletes the requests of the ledger that the points
// have confirmed, those of the v1 wire after a day, and the deletes of rows that every reader of changes has. A purge
// that fails is counted and tried again.
func (s *Store) Run(ctx context.Context) error {
	confirmed, unconfirmed, changes := time.NewTicker(s.purgeEvery), time.NewTicker(forgetEvery), time.NewTicker(changesEvery)
	defer confirmed.Stop()
	defer unconfirmed.Stop()
	defer changes.Stop()
	for {
		what, purge := "confirmed", s.purgeConfirmed
		select {
		case <-ctx.Done():
			return nil
		case <-confirmed.C:
		case <-unconfirmed.C:
			what, purge = "unconfirmed", s.purgeUnconfirmed
		case <-changes.C:
			what, purge = "changes", s.purgeChanges
		}
		if what != "changes" && s.o.Set == migrations.Agent {
			continue // a point has no ledger
		}
		if err := purge(ctx); err != nil && ctx.Err() == nil {
			s.count(purgeFailures, what, 1, err)
		}
	}
}

// purgeUnconfirmed deletes the ledger rows of the v1 wire that no request can meet any more, and bounds what clients of
// version 2 leave there that confirm nothing.
func (s *Store) purgeUnconfirmed(ctx context.Context) error {
	err := s.deleteAll(ctx, `DELETE FROM sync_request
		WHERE epoch >= ? AND created_at < CURRENT_TIMESTAMP(6) - INTERVAL ? HOUR LIMIT ?`,
		uint64(unconfirmedEpochs), unconfirmedHours, purgeRows)
	if err != nil {
		return err
	}
	return errors.Join(s.confirmOldest(ctx), s.forgetOutboxes(ctx))
}

// confirmOldest takes the oldest requests of an outbox with more than LedgerRows for confirmed. One of them that comes
// again is refused and not run again.
func (s *Store) confirmOldest(ctx context.Context) error {
	high := map[outboxID]uint64{}
	err := s.each(ctx, `SELECT point_no, epoch, MAX(seq) FROM (SELECT point_no, epoch, seq,
		ROW_NUMBER() OVER (PARTITION BY point_no, epoch ORDER BY seq DESC) n FROM sync_request WHERE epoch < ?) newest
		WHERE n > ? GROUP BY point_no, epoch`, func(scan scanner) error {
		var id outboxID
		var seq uint64
		err := scan(&id.point, &id.epoch, &seq)
		high[id] = seq
		return err
	}, uint64(unconfirmedEpochs), s.o.LedgerRows)
	for id, seq := range high {
		if err == nil {
			err = s.purge(ctx, id, seq)
		}
	}
	return public(err)
}

// maxOutboxes bounds the outboxes of a point that are remembered. An agent has one, and begins another when its database
// was restored.
const maxOutboxes = 1000

// forgetOutboxes forgets the outboxes of a point that were used longest ago.
func (s *Store) forgetOutboxes(ctx context.Context) error {
	var old []outboxID
	err := s.each(ctx, `SELECT point_no, epoch FROM (SELECT point_no, epoch,
		ROW_NUMBER() OVER (PARTITION BY point_no ORDER BY MAX(at) DESC) n FROM (
			SELECT point_no, epoch, updated_at at FROM sync_request_floor UNION ALL
			SELECT point_no, epoch, created_at FROM sync_request WHERE epoch < ?) used
		GROUP BY point_no, epoch) newest WHERE n > ?`, func(scan scanner) error {
		var id outboxID
		err := scan(&id.point, &id.epoch)
		old = append(old, id)
		return err
	}, uint64(unconfirmedEpochs), maxOutboxes)
	for _, id := range old {
		for _, table := range [...]string{"sync_request", "sync_request_floor"} {
			if err == nil {
				err = s.deleteAll(ctx, "DELETE FROM "+table+" WHERE point_no = ? AND epoch = ? LIMIT ?", id.point, id.epoch, purgeRows)
			}
		}
	}
	return public(err)
}

// purgeConfirmed raises the floor of each outbox to what its point has confirmed and deletes the ledger rows below it.
func (s *Store) purgeConfirmed(ctx context.Context) error {
	high := s.floors.take()
	defer func() {
		for id, confirmed := range high { // those that a failure left
			s.floors.raise(id, confirmed)
		}
	}()
	for id, confirmed := range high {
		if err := s.purge(ctx, id, confirmed); err != nil {
			return err
		}
		delete(high, id)
	}
	return nil
}

// purge raises the floor first and in a transaction of its own: insertLedger relies on it.
func (s *Store) purge(ctx context.Context, id outboxID, confirmed uint64) error {
	err := s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO sync_request_floor (point_no, epoch, confirmed) VALUES (?, ?, ?)
			ON DUPLICATE KEY UPDATE confirmed = GREATEST(confirmed, VALUES(confirmed))`, id.point, id.epoch, confirmed)
		return err
	})
	if err != nil {
		return err
	}
	return s.deleteAll(ctx, `DELETE FROM sync_request
		WHERE point_no = ? AND epoch = ? AND seq <= ? ORDER BY seq LIMIT ?`,
		id.point, id.epoch, confirmed, purgeRows)
}

// deleteAll runs a DELETE of at most purgeRows rows until it finds fewer.
func (s *Store) deleteAll(ctx context.Context, query string, args ...any) error {
	for deleted := int64(purgeRows); deleted == purgeRows; {
		err := s.inTx(ctx, func(tx *Tx) (err error) {
			deleted, err = tx.Exec(ctx, query, args...)
			return err
		})
		if err != nil {
			return err
		}
		s.count(ledgerRows, "purged", uint64(deleted), nil)
	}
	return nil
}
