package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// A row that is applied conflicts when its key has a change here that the side it comes from has not seen: one of
// another origin, with no number yet or a number above Env.Known. The triggers find it, in the statement that applies
// the row and under its lock, and count it in @sync_conflicts. Conflicts are rare: the rows are applied as if there
// were none, and when the triggers have counted some, that is undone and each row is settled by itself.

// settleAttempts bounds how often rows are settled anew because the application changed one of them meanwhile.
const settleAttempts = 10

// settled applies rows of one origin in order, and settles their conflicts as the rule says.
func (r *runner) settled(items []item) error {
	u := items[0].u
	if u.Env.Known == nil || u.Plan.Present == nil {
		return r.all(items)
	}
	if err := r.c.text(r.ctx, "SAVEPOINT sync_conflicts"); err != nil {
		return err
	}
	before := map[*Upload]Outcome{}
	for _, it := range items {
		before[it.u] = it.u.out.clone()
	}
	apply := func() (int, error) { return 0, r.all(items) }
	for range settleAttempts {
		won, err := apply()
		if err != nil {
			return err
		}
		found, err := r.c.conflicts(r.ctx)
		if err != nil || found <= won { // a row that won may have been refused
			return err
		}
		if err := r.c.text(r.ctx, "ROLLBACK TO SAVEPOINT sync_conflicts"); err != nil {
			return err
		}
		r.left = nil
		for u, out := range before {
			*u.out = out.clone()
		}
		if err := r.c.text(r.ctx, "SET @sync_conflicts = 0"); err != nil {
			return err
		}
		apply = func() (int, error) { return r.settleEach(items) }
	}
	return notFromDB(fmt.Errorf("%w: rows of %s change faster than their conflicts are settled",
		ErrRetry, u.Plan.Row.Table))
}

func (o Outcome) clone() Outcome {
	o.ByOp, o.Quarantined = maps.Clone(o.ByOp), slices.Clone(o.Quarantined)
	return o
}

// settleEach applies rows one by one. won is how many of them took the place of another version, each of which the
// triggers count.
func (r *runner) settleEach(items []item) (won int, err error) {
	for _, it := range items {
		v, err := r.present(it)
		if err != nil {
			return won, err
		}
		u := it.u
		if !v.conflicts(&u.Env) {
			if err := r.items([]item{it}); err != nil {
				return won, err
			}
			continue
		}
		mine, err := it.version()
		if err != nil {
			return won, err
		}
		wins := false
		switch {
		case mine.row == v.row:
		case !it.recorded():
			wins = v.row == "" && *u.Env.Known == 0
		default:
			kept, lost := v, mine
			if wins = mine.wins(v, u.Plan); wins {
				kept, lost = mine, v
			}
			if err := r.c.recordConflict(r.ctx, it, kept, lost); err != nil {
				return won, err
			}
			r.s.count(conflictsFound, string(u.Plan.Conflict), 1, nil)
		}
		if !wins {
			it.u.out.Applied++
			it.u.out.ByOp[keptOp]++
			continue
		}
		if err := r.items([]item{it}); err != nil {
			return won, err
		}
		won++
	}
	return won, r.finish()
}

// keptOp is the operation that rows are counted under which were not applied because another version stays.
const keptOp = "kept"

// version is one of the two versions of a row that conflict.
type version struct {
	row     string // as JSON; "": the row was deleted
	origin  string // "": this database
	at      string // when it was changed, as MySQL writes it
	number  uint64 // of its change; 0: none yet
	changed bool   // it has ever changed here
}

// conflicts reports whether the version is one that the other side has not seen.
func (v version) conflicts(e *rule.Env) bool {
	return v.changed && v.origin != e.Origin && (v.number == 0 || v.number > *e.Known)
}

// wins reports whether a version that comes in takes the place of the one that is here. A download comes from the
// centre, an upload from a point.
func (v version) wins(here version, p *rule.Plan) bool {
	centre := p.Row.Type == rule.Download
	switch p.Conflict {
	case rule.PointWins:
		return !centre
	case rule.NewestWins:
		if v.at != here.at {
			return v.at > here.at
		}
	}
	return centre
}

// recorded reports whether the row in hand comes from the recorded changes. A row that comes because a whole table is
// loaded is no change, and takes the place of none. A change that is made while the table is loaded comes after the
// load. Where the other direction has not been loaded yet (Env.Known is 0), it will begin with the rows that are there.
// It does not tell of a delete that was made before, so that the row in hand is applied over it.
func (it item) recorded() bool { return slices.Contains(it.u.Rows.Columns, rowset.ChangedAt) }

// version is the row in hand.
func (it item) version() (v version, err error) {
	v.origin = it.u.Env.Origin
	if at := slices.Index(it.u.Rows.Columns, rowset.ChangedAt); at >= 0 {
		v.at, _ = it.u.Rows.Row(it.row)[at].(string)
	}
	if !it.deleted() {
		v.row, err = EncodeRow(it.u.Plan.Fields, it.u.rows.Row(it.row))
	}
	return v, notFromDB(err)
}

// present is the version that is here, which stays locked until the transaction ends.
func (r *runner) present(it item) (v version, err error) {
	u := it.u
	// The table's row first, as the application locks it: its triggers come to the change table after that.
	err = r.c.read(r.ctx, u.Plan.Find, &u.Env, it.values(), func([]any) error { return nil })
	if err != nil {
		return v, err
	}
	err = r.c.read(r.ctx, u.Plan.Present, &u.Env, it.values(), func(row []any) (err error) {
		v.changed, v.number = true, asUint(row[0])
		v.origin, _ = row[1].(string)
		v.at, _ = row[2].(string)
		if asUint(row[3]) == 0 {
			v.row, err = EncodeRow(u.Plan.Fields, row[4:])
		}
		return notFromDB(err)
	})
	return v, err
}

func (c *conn) conflicts(ctx context.Context) (n int, err error) {
	err = c.ask(ctx, "SELECT CAST(@sync_conflicts AS UNSIGNED)", func(v []any) error {
		n = int(asUint(v[0]))
		return nil
	})
	return n, err
}

// recordConflict writes both versions where a person finds them.
func (c *conn) recordConflict(ctx context.Context, it item, kept, lost version) error {
	u := it.u
	text, err := EncodeRow(u.Plan.Key, it.primaryKey())
	if err != nil {
		return notFromDB(err)
	}
	const q = `INSERT INTO sync_conflict (point_no, rule_id, sync_table, settled, row_key, kept_row, kept_origin,
		kept_at, lost_row, lost_origin, lost_at) VALUES (?, ?, ?, ?, ?,
		NULLIF(?, ''), NULLIF(?, ''), NULLIF(?, ''), NULLIF(?, ''), NULLIF(?, ''), NULLIF(?, ''))`
	_, err = c.do(ctx, q, u.Point, u.Plan.Row.ID, u.Plan.Row.Table, string(u.Plan.Conflict), text,
		kept.row, kept.origin, u.zone.utc(kept.at), lost.row, lost.origin, u.zone.utc(lost.at))
	return err
}

// stamp gives the changes of rows that were applied the time at which they were made, so that the newest version of a
// row is found whichever side it came from.
func (r *runner) stamp(items []item) error {
	u := items[0].u
	at := slices.Index(u.Rows.Columns, rowset.ChangedAt)
	if at < 0 || u.Plan.Recorded == nil || u.Plan.Conflict != rule.NewestWins {
		return nil
	}
	if len(r.left) > 0 {
		items = slices.DeleteFunc(slices.Clone(items), func(it item) bool { return r.left[it] })
	}
	width := len(u.Plan.Key) + 2
	t := rule.InsertParts{
		Head: "INSERT INTO " + u.Plan.Recorded.Name + " (" + rule.QuoteAll(u.Plan.Key) +
			", sync_origin, sync_at) VALUES ",
		Tuple: marks(width), Tail: " ON DUPLICATE KEY UPDATE sync_at = VALUES(sync_at)"}
	_, err := r.c.each(r.ctx, t, len(items), max(chunkMarks/width, 1), func(i int) error {
		it := items[i]
		r.c.args = append(append(r.c.args, it.primaryKey()...), u.Env.Origin, it.u.Rows.Row(it.row)[at])
		return nil
	})
	if err != nil {
		return &statementError{sql: t.Head, err: err}
	}
	return nil
}

// ConflictRow is a row of sync_conflict.
type ConflictRow struct {
	ID        uint64    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Point     string    `json:"point"`
	RuleID    uint64    `json:"rule"`
	Table     string    `json:"table"`
	Settled   string    `json:"settled"` // option of the rule that settled it
	Key       RowText   `json:"key"`
	Kept      Version   `json:"kept"`
	Lost      Version   `json:"lost"`
	TakenAt   time.Time `json:"taken_at,omitzero"` // zero: the version that lost was not taken
}

// Version is one version of a row.
type Version struct {
	Row    RowText `json:"row"`    // "": the row was deleted
	Origin string  `json:"origin"` // the point it came from; "*": the centre; "": this database
	At     string  `json:"at"`     // when it was changed, UTC; "": not known
}

// RowText is a row as a JSON object, in the form that DecodeRow reads; "" is none.
type RowText string

// MarshalJSON writes the object itself.
func (t RowText) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return []byte(t), nil
}

const conflictColumns = `SELECT id, UNIX_TIMESTAMP(created_at), point_no, rule_id, sync_table, settled, row_key,
	COALESCE(kept_row, ''), COALESCE(kept_origin, ''), COALESCE(kept_at, ''),
	COALESCE(lost_row, ''), COALESCE(lost_origin, ''), COALESCE(lost_at, ''),
	UNIX_TIMESTAMP(taken_at) FROM sync_conflict `

// Conflicts lists at most limit conflicts, the newest first; with open only those whose lost version was not taken.
func (s *Store) Conflicts(ctx context.Context, open bool, limit int) ([]ConflictRow, error) {
	return s.conflictRows(ctx, "WHERE NOT ? OR taken_at IS NULL ORDER BY id DESC LIMIT ?", open, limit)
}

// Conflict reads one of them, or returns ErrNotFound.
func (s *Store) Conflict(ctx context.Context, id uint64) (ConflictRow, error) {
	all, err := s.conflictRows(ctx, "WHERE id = ?", id)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: sync_conflict id=%d", ErrNotFound, id)
	}
	if err != nil {
		return ConflictRow{}, err
	}
	return all[0], nil
}

func (s *Store) conflictRows(ctx context.Context, where string, args ...any) ([]ConflictRow, error) {
	return readAll(ctx, s, conflictColumns+where, func(r *ConflictRow) []any {
		return []any{&r.ID, (*unixTime)(&r.CreatedAt), &r.Point, &r.RuleID, &r.Table, &r.Settled, &r.Key, &r.Kept.Row,
			&r.Kept.Origin, &r.Kept.At, &r.Lost.Row, &r.Lost.Origin, &r.Lost.At, (*unixTime)(&r.TakenAt)}
	}, args...)
}

// TakeConflict puts the version that lost into the table, as a change made here: it goes to every side. p is the plan
// of a rule that applies rows of the table. *RowError: the database refuses the row, and nothing is changed.
func (s *Store) TakeConflict(ctx context.Context, id uint64, p *rule.Plan) error {
	r, err := s.Conflict(ctx, id)
	if err != nil {
		return err
	}
	text := r.Lost.Row
	if text == "" {
		text = r.Key
	}
	var row rowset.Rows
	if row.Columns, row.Values, err = DecodeRow(string(text)); err != nil {
		return fmt.Errorf("sync_conflict id=%d: %w", id, err)
	}
	if r.Lost.Row == "" {
		for _, f := range p.Fields {
			if !slices.ContainsFunc(row.Columns, func(c string) bool { return strings.EqualFold(c, f) }) {
				row.Columns, row.Values = append(row.Columns, f), append(row.Values, nil)
			}
		}
		row.Columns, row.Values = append(row.Columns, rowset.Deleted), append(row.Values, int64(1))
	}
	plan := *p
	plan.AllOrNothing = true
	return s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Apply(ctx, &plan, row, rule.Env{Point: r.Point})
		if err == nil {
			_, err = tx.Exec(ctx, "UPDATE sync_conflict SET taken_at = NOW(6) WHERE id = ?", id)
		}
		return err
	})
}
