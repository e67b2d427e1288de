package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"syncgate/internal/rowset"
	"syncgate/migrations"
	"syncgate/rule"
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

// passed holds how far somebody has come since the last purge: a point with its confirmations, a reader with changes.
type passed[ID comparable] struct {
	mu sync.Mutex
	at map[ID]uint64
}

// note keeps n, unless there is more already and it may not go back.
func (p *passed[ID]) note(id ID, n uint64, back bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		p.at = map[ID]uint64{}
	}
	if back || n > p.at[id] {
		p.at[id] = n
	}
}

func (p *passed[ID]) take() map[ID]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.at
	p.at = nil
	return taken
}

// Run purges at intervals until ctx ends and returns nil then. It deletes the requests of the ledger that the points
// have confirmed, those of the v1 wire after a day, and the deletes of rows that every reader of changes has. A purge
// that fails is counted and tried again.
func (s *Store) Run(ctx context.Context) error {
	confirmed, unconfirmed := time.NewTicker(s.purgeEvery), time.NewTicker(forgetEvery)
	changes := time.NewTicker(changesEvery)
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
	type outbox struct {
		outboxID
		seq uint64
	}
	all, err := readAll(ctx, s, `SELECT point_no, epoch, MAX(seq) FROM (SELECT point_no, epoch, seq,
		ROW_NUMBER() OVER (PARTITION BY point_no, epoch ORDER BY seq DESC) n FROM sync_request WHERE epoch < ?) newest
		WHERE n > ? GROUP BY point_no, epoch`, func(o *outbox) []any { return []any{&o.point, &o.epoch, &o.seq} },
		uint64(unconfirmedEpochs), s.o.LedgerRows)
	for _, o := range all {
		if err == nil {
			err = s.purge(ctx, o.outboxID, o.seq)
		}
	}
	return err
}

// maxOutboxes bounds the outboxes of a point that are remembered. An agent has one, and begins another when its
// database was restored.
const maxOutboxes = 1000

// forgetOutboxes forgets the outboxes of a point that were used longest ago.
func (s *Store) forgetOutboxes(ctx context.Context) error {
	old, err := readAll(ctx, s, `SELECT point_no, epoch FROM (SELECT point_no, epoch,
		ROW_NUMBER() OVER (PARTITION BY point_no ORDER BY MAX(at) DESC) n FROM (
			SELECT point_no, epoch, updated_at at FROM sync_request_floor UNION ALL
			SELECT point_no, epoch, created_at FROM sync_request WHERE epoch < ?) used
		GROUP BY point_no, epoch) newest WHERE n > ?`, func(id *outboxID) []any { return []any{&id.point, &id.epoch} },
		uint64(unconfirmedEpochs), maxOutboxes)
	for _, id := range old {
		for _, table := range [...]string{"sync_request", "sync_request_floor"} {
			if err == nil {
				err = s.deleteAll(ctx, "DELETE FROM "+table+" WHERE point_no = ? AND epoch = ? LIMIT ?",
					id.point, id.epoch, purgeRows)
			}
		}
	}
	return err
}

// purgeConfirmed raises the floor of each outbox to what its point has confirmed and deletes the ledger rows below it.
func (s *Store) purgeConfirmed(ctx context.Context) error {
	high := s.floors.take()
	defer func() {
		for id, confirmed := range high { // those that a failure left
			s.floors.note(id, confirmed, false)
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
	_, err := s.exec(ctx, `INSERT INTO sync_request_floor (point_no, epoch, confirmed) VALUES (?, ?, ?)
		ON DUPLICATE KEY UPDATE confirmed = GREATEST(confirmed, VALUES(confirmed))`, id.point, id.epoch, confirmed)
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
		n, err := s.exec(ctx, query, args...)
		if err != nil {
			return err
		}
		deleted = n
		s.count(ledgerRows, "purged", uint64(n), nil)
	}
	return nil
}

// readerID is who reads the changes of a table.
type readerID struct{ sequence, reader string }

// NoteReader keeps how far a reader of a plan has come that goes on from a state. Who reads for no point in particular
// calls it for each that gets the page.
func (s *Store) NoteReader(p *rule.Plan, reader string, state []rowset.StateItem) {
	if seq, ok := stateNumber(state, rowset.ChangeSeq); ok && reader != "" {
		s.readers.note(readerID{p.Recorded.Sequence, reader}, seq, true)
	}
}

// purgeChanges forgets the deletes that every reader has passed. A reader that was not seen for KeepChanges does not
// count; when it comes back it loads the table anew.
func (s *Store) purgeChanges(ctx context.Context) error {
	at := s.readers.take()
	err := s.inTx(ctx, func(tx *Tx) error {
		for id, seq := range at {
			_, err := tx.Exec(ctx, `INSERT INTO sync_change_reader (sync_table, reader, seq) VALUES (?, ?, ?)
				ON DUPLICATE KEY UPDATE seq = VALUES(seq), seen_at = NOW(6)`, id.sequence, id.reader, seq)
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "DELETE FROM sync_change_reader WHERE seen_at < NOW(6) - INTERVAL ? SECOND",
			int64(s.o.KeepChanges.Seconds()))
		return err
	})
	if err != nil {
		for id, seq := range at {
			s.readers.note(id, seq, false)
		}
		return err
	}
	return s.forgetDeletes(ctx)
}

// forgetDeletes forgets them in the tables where every reader has passed some.
func (s *Store) forgetDeletes(ctx context.Context) error {
	type deletes struct {
		table    string
		from, to uint64
	}
	// A reader of a later copy of this database may stand above every number here.
	all, err := readAll(ctx, s, `SELECT s.sync_table, s.complete_from, LEAST(MIN(r.seq), s.next_seq - 1) up_to
		FROM sync_sequence s JOIN sync_change_reader r ON r.sync_table = s.sync_table
		GROUP BY s.sync_table, s.complete_from, s.next_seq HAVING up_to > s.complete_from`,
		func(d *deletes) []any { return []any{&d.table, &d.from, &d.to} })
	if err != nil {
		return err
	}
	for _, d := range all {
		var t *ChangeTable
		table, failed := s.Table(ctx, d.table)
		if failed == nil {
			t, failed = s.ChangeTable(ctx, table)
		}
		for from := d.from; failed == nil && from < d.to; from += sequencedAtOnce {
			failed = s.forget(ctx, t, from, min(from+sequencedAtOnce, d.to))
		}
		if failed != nil { // such as a table that was dropped; the others go on
			err = errors.Join(err, fmt.Errorf("deletes of %s: %w", d.table, failed))
		}
	}
	return err
}

// forget deletes the changes above from and up to a number whose rows are gone, and tells readers who stand below that
// number to load the table anew.
func (s *Store) forget(ctx context.Context, t *ChangeTable, from, to uint64) error {
	return s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, "DELETE f FROM "+t.Name+" f LEFT JOIN "+t.of.Quoted()+" t ON "+
			rule.SameKey(t.key, "t", "f")+
			" WHERE f.sync_seq > ? AND f.sync_seq <= ? AND t."+rule.Quote(t.key[0])+" IS NULL", from, to)
		if err == nil {
			_, err = tx.Exec(ctx, `UPDATE sync_sequence SET complete_from = GREATEST(complete_from, ?)
				WHERE sync_table = ?`, to, t.Sequence)
		}
		return err
	})
}
