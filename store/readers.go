package store

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// readers holds how far each reader of changes has come since the last purge.
type readers struct {
	mu sync.Mutex
	at map[readerID]uint64
}

type readerID struct{ sequence, reader string }

// note keeps that a reader asks for what comes after a change: it has all up to it.
func (r *readers) note(sequence, reader string, seq uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[readerID]uint64{}
	}
	r.at[readerID{sequence, reader}] = seq
}

// NoteReader is note for a reader of a plan that goes on from a state. Who reads for no point in particular calls it for
// each that gets the page.
func (s *Store) NoteReader(p *rule.Plan, reader string, state []rowset.StateItem) {
	if seq, ok := stateNumber(state, rowset.ChangeSeq); ok && reader != "" {
		s.readers.note(p.Recorded.Sequence, reader, seq)
	}
}

func (r *readers) take() map[readerID]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.at
	r.at = nil
	return taken
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
			s.readers.note(id.sequence, id.reader, seq)
		}
		return err
	}
	return s.forgetDeletes(ctx)
}

// forgetDeletes forgets them in the tables where every reader has passed some.
func (s *Store) forgetDeletes(ctx context.Context) error {
	type passed struct {
		table    string
		from, to uint64
	}
	var all []passed
	err := s.each(ctx, `SELECT s.sync_table, s.complete_from, MIN(r.seq) FROM sync_sequence s
		JOIN sync_change_reader r ON r.sync_table = s.sync_table
		GROUP BY s.sync_table, s.complete_from HAVING MIN(r.seq) > s.complete_from`, func(scan func(...any) error) error {
		var p passed
		err := scan(&p.table, &p.from, &p.to)
		all = append(all, p)
		return err
	})
	if err != nil {
		return public(err)
	}
	for _, p := range all {
		table, err := s.Table(ctx, p.table)
		if err != nil {
			return fmt.Errorf("deletes of %s: %w", p.table, err)
		}
		t, err := s.ChangeTable(ctx, table)
		if err != nil {
			return err
		}
		for from := p.from; from < p.to; from += sequencedAtOnce {
			if err := s.forget(ctx, t, from, min(from+sequencedAtOnce, p.to)); err != nil {
				return err
			}
		}
	}
	return nil
}

// forget deletes the changes above from and up to a number whose rows are gone, and tells readers who stand below that
// number to load the table anew.
func (s *Store) forget(ctx context.Context, t *ChangeTable, from, to uint64) error {
	on := make([]string, len(t.key))
	for i, k := range t.key {
		on[i] = "t." + quoteName(k.name) + " = f." + quoteName(k.name)
	}
	return s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, "DELETE f FROM "+t.Name+" f LEFT JOIN "+t.quoted(t.of.Name)+" t ON "+strings.Join(on, " AND ")+
			" WHERE f.sync_seq > ? AND f.sync_seq <= ? AND t."+quoteName(t.key[0].name)+" IS NULL", from, to)
		if err == nil {
			_, err = tx.Exec(ctx, `UPDATE sync_sequence SET complete_from = GREATEST(complete_from, ?)
				WHERE sync_table = ?`, to, t.Sequence)
		}
		return err
	})
}
