package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"syncgate/internal/harness/harnesstest"
)

// write is one session of a site's application: transaction after transaction until ctx ends.
func (m *model) write(ctx context.Context, s *site, session int, r *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		w := &transaction{m: m, s: s, session: session, r: r, rows: map[string]modelRows{}}
		for name, rows := range s.ends[session] {
			w.rows[name] = maps.Clone(rows)
		}
		done, err := w.run(n)
		for err != nil { // it is not known whether it was committed
			if m.t.Failed() {
				return
			}
			var found int
			query := s.app.QueryRow("SELECT COUNT(*) FROM journal WHERE session = ? AND n = ?", session, n)
			if err = query.Scan(&found); err == nil {
				done = found == 1
				break
			}
			time.Sleep(20 * time.Millisecond) // the database comes back
		}
		if done {
			s.ends[session] = w.rows
		}
	}
}

// transaction is one of a session. rows are what there is if it is committed.
type transaction struct {
	m       *model
	s       *site
	session int
	r       *rand.Rand
	tx      *sql.Tx
	rows    map[string]modelRows
}

// run makes a few statements. The error says that the end is not known.
func (w *transaction) run(n int) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	defer cancel()
	if w.tx, err = w.s.app.BeginTx(ctx, nil); err != nil {
		return false, err
	}
	defer w.tx.Rollback() // after a commit it does nothing
	for range 1 + w.r.IntN(5) {
		table := w.s.writes[w.r.IntN(len(w.s.writes))]
		if table.shared {
			err = w.shared(table)
		} else {
			err = w.own(table)
		}
		if err != nil {
			break // a deadlock with what is applied, or the database was killed
		}
	}
	if w.r.IntN(12) == 0 {
		time.Sleep(time.Duration(w.r.IntN(4000)) * time.Millisecond) // the transaction stays open
	}
	if err == nil {
		_, err = w.tx.Exec("INSERT INTO journal VALUES (?, ?)", w.session, n)
	}
	if err != nil || w.r.IntN(8) == 0 {
		return false, errors.Join(err, w.tx.Rollback())
	}
	if err = w.tx.Commit(); err == nil {
		time.Sleep(time.Duration(w.r.IntN(30)) * time.Millisecond) // the application thinks
	}
	return err == nil, err
}

// own changes a row that only this session writes.
func (w *transaction) own(table modelTable) error {
	rows := w.rows[table.name]
	if rows == nil {
		rows = modelRows{}
		w.rows[table.name] = rows
	}
	id := sessions*w.r.IntN(40) + w.session
	key := fmt.Sprint(w.s.name, " ", id)
	version, note := w.m.versions.Add(1), []any{nil, "", "it's", "中文 😀"}[w.r.IntN(4)]
	row := fmt.Sprint(version, " ", note)
	_, there := rows[key]
	kind := w.r.IntN(6)
	if !table.changes {
		kind = 2 + kind%2*3 // its rule sees neither deletes nor moved keys
	}
	var err error
	switch {
	case there && kind == 0:
		_, err = w.tx.Exec("DELETE FROM "+table.name+" WHERE side = ? AND id = ?", w.s.name, id)
		delete(rows, key)
	case there && kind == 1:
		to := sessions*w.r.IntN(40) + w.session
		moved := fmt.Sprint(w.s.name, " ", to)
		if _, taken := rows[moved]; taken {
			return nil
		}
		_, err = w.tx.Exec("UPDATE "+table.name+" SET id = ?, v = ?, note = ? WHERE side = ? AND id = ?", to, version,
			note, w.s.name, id)
		delete(rows, key)
		rows[moved] = row
	case there && kind == 2:
		_, err = w.tx.Exec("UPDATE "+table.name+" SET v = ?, note = ? WHERE side = ? AND id = ?", version, note,
			w.s.name, id)
		rows[key] = row
	case there && kind == 3:
		_, err = w.tx.Exec("REPLACE INTO "+table.name+" (side, id, v, note) VALUES (?, ?, ?, ?)", w.s.name, id,
			version, note)
		rows[key] = row
	default:
		_, err = w.tx.Exec("INSERT INTO "+table.name+" (side, id, v, note) VALUES (?, ?, ?, ?) ON DUPLICATE KEY "+
			"UPDATE v = VALUES(v), note = VALUES(note)",
			w.s.name, id, version, note)
		rows[key] = row
	}
	return err
}

// shared changes a row that everybody writes.
func (w *transaction) shared(table modelTable) error {
	id, version := w.r.IntN(30), w.m.versions.Add(1)
	var err error
	switch w.r.IntN(5) {
	case 0:
		_, err = w.tx.Exec("DELETE FROM "+table.name+" WHERE id = ?", id)
	case 1:
		_, err = w.tx.Exec("UPDATE IGNORE "+table.name+" SET id = ?, v = ? WHERE id = ?", w.r.IntN(30), version, id)
	default:
		_, err = w.tx.Exec("INSERT INTO "+table.name+" (side, id, v, note) VALUES ('all', ?, ?, ?) ON DUPLICATE KEY "+
			"UPDATE v = VALUES(v), note = VALUES(note)",
			id, version, w.s.name)
	}
	return err
}
