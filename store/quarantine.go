package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// QuarantinedRow is a row of sync_quarantine.
type QuarantinedRow struct {
	ID        uint64    `json:"id"`
	Point     string    `json:"point"`
	RuleID    uint64    `json:"rule_id"`
	Table     string    `json:"sync_table"`
	Epoch     uint64    `json:"epoch"` // of the request it came in; 0 at a point
	Seq       uint64    `json:"seq"`
	Row       int       `json:"row"` // its place there, from 0
	Fields    []string  `json:"-"`
	Values    []any     `json:"-"`
	Code      int       `json:"error_code"`
	Reason    string    `json:"reason"`
	CreatedAt time.Time `json:"created_at"`
	EditedAt  time.Time `json:"edited_at,omitzero"` // zero: never

	WaitsUntil time.Time `json:"waits_until,omitzero"` // until then it is tried again by itself; zero: it is refused
}

// MarshalJSON writes fields and values as one object, in the form that DecodeRow reads.
func (r QuarantinedRow) MarshalJSON() ([]byte, error) {
	values, err := EncodeRow(r.Fields, r.Values)
	if err != nil {
		return nil, err
	}
	type row QuarantinedRow // without this method
	return json.Marshal(struct {
		row
		Values json.RawMessage `json:"row_values"`
	}{row(r), json.RawMessage(values)})
}

// quarantine writes a row into sync_quarantine within the transaction that could not apply it. The row takes the place
// of an older version of it.
func (r *runner) quarantine(it item, code int, reason string, waits bool) error {
	u := it.u
	fields, row := u.Plan.Fields, it.values()
	if u.marks != nil && u.marks[it.row] != int64(0) { // it must not be replayed as another kind of change
		fields, row = append(slices.Clip(fields), rowset.Deleted), append(slices.Clone(row), u.marks[it.row])
	}
	values, err := EncodeRow(fields, row)
	if err == nil && len(values) > r.s.maxPacket/2 { // the database would not take it here either
		u := NewUnsent(fields, row)
		values, err = EncodeRow(u.Row.Columns, u.Row.Values)
		reason = fmt.Sprintf("%s (the row has %d bytes; its large fields are left out here)", reason, u.Size)
	}
	if err != nil {
		return notFromDB(err)
	}
	q := &quarantineEntry{point: u.Point, rule: &u.Plan.Row, epoch: u.Epoch, seq: u.Seq, row: it.row, key: it.key(),
		values: values, code: code, reason: reason}
	if waits {
		q.wait = r.s.o.RowWait
	}
	return r.c.addQuarantine(r.ctx, r.s, q)
}

// quarantineEntry is a row for sync_quarantine.
type quarantineEntry struct {
	point      string
	rule       *rule.Row
	epoch, seq uint64
	row        int
	key        string // keyHash; "": it is not known
	values     string // as encodeRow writes them
	code       int
	reason     string
	wait       time.Duration // how long it is tried again by itself
}

func (c *conn) addQuarantine(ctx context.Context, s *Store, e *quarantineEntry) error {
	var key any
	more := 1
	if e.key != "" {
		key = []byte(e.key)
		if s.quarantined.has(e.rule.Table) {
			n, err := c.do(ctx, "DELETE FROM sync_quarantine WHERE sync_table = ? AND row_key = ?", e.rule.Table, key)
			if err != nil {
				return err
			}
			more -= int(n)
		}
	}
	if !s.quarantined.add(e.rule.Table, e.point, more, s.o.QuarantineRows, e.wait > 0) {
		return notFromDB(fmt.Errorf("%w: %d", ErrQuarantineFull, s.o.QuarantineRows))
	}
	_, err := c.do(ctx, `INSERT INTO sync_quarantine
		(point_no, rule_id, sync_table, epoch, seq, row_no, row_key, row_values, error_code, error_text, waits_until)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, CURRENT_TIMESTAMP(6) + INTERVAL NULLIF(?, 0) MICROSECOND)`,
		e.point, e.rule.ID, e.rule.Table, e.epoch, e.seq, int64(e.row), key, e.values, int64(e.code),
		clip(e.reason, textMax), e.wait.Microseconds())
	return err
}

// Unsent is a row that was read and cannot be sent.
type Unsent struct {
	Row  rowset.Rows // without its large fields: it is still in its table
	Size int         // bytes of the whole row
}

// unsentBytes bounds a value of an unsent row that is kept.
const unsentBytes = 64 << 10

// NewUnsent copies what is kept of a row.
func NewUnsent(columns []string, row []any) Unsent {
	u := Unsent{Size: rowset.Size(row)}
	for i, c := range columns {
		if rowset.Size(row[i:i+1]) <= unsentBytes {
			u.Row.Columns, u.Row.Values = append(u.Row.Columns, c), rowset.AppendCopy(u.Row.Values, row[i:i+1])
		}
	}
	return u
}

// mysqlErrors is the lowest number of MySQL's errors. A row in the quarantine with a lower one could not be sent.
const mysqlErrors = 1000

// QuarantineUnsent puts a row that cannot be sent into sync_quarantine, so that the rows after it go on. p is the plan
// that it was read by; its Key may be empty. code is a number of syncgate's and why says the same in words, as "more
// than a frame can carry". reason also says which row it is.
func (t *Tx) QuarantineUnsent(
	ctx context.Context, point string, p *rule.Plan, u Unsent, code int, why string,
) (reason string, err error) {
	values, err := EncodeRow(u.Row.Columns, u.Row.Values)
	if err != nil {
		return "", err
	}
	key := p.KeyIn(u.Row.Columns, u.Row.Values)
	var named []string
	for i, v := range key {
		named = append(named, p.Key[i]+"="+clip(plainText(v), 64))
	}
	reason = fmt.Sprintf("row %s has %d bytes, %s; its large fields are left out here",
		strings.Join(named, ", "), u.Size, why)
	e := &quarantineEntry{point: point, rule: &p.Row, key: keyHash(key), values: values, code: code, reason: reason}
	return reason, t.on(func(c *conn) error { return c.addQuarantine(ctx, t.s, e) })
}

// QuarantineFilter chooses rows of sync_quarantine. A field that is empty chooses all.
type QuarantineFilter struct {
	ID           uint64
	Point, Table string
	Rule         uint64
	Code         int
	Waiting      bool   // only those that are tried again by themselves
	After        uint64 // only rows with a higher id
	Limit        int    // rows at most; 0: all
}

func (f *QuarantineFilter) where() (where string, args []any) {
	w := conditions{" WHERE id > ?", []any{f.After}}
	w.add(f.ID != 0, "id = ?", f.ID)
	w.add(f.Point != "", "point_no = ?", f.Point)
	w.add(f.Table != "", "sync_table = ?", f.Table)
	w.add(f.Rule != 0, "rule_id = ?", f.Rule)
	w.add(f.Code != 0, "error_code = ?", f.Code)
	w.add(f.Waiting, "waits_until IS NOT NULL")
	return w.where, w.args
}

// conditions are those of a query and their values.
type conditions struct {
	where string
	args  []any
}

func (c *conditions) add(when bool, condition string, values ...any) {
	if when {
		c.where, c.args = c.where+" AND "+condition, append(c.args, values...)
	}
}

// first is where for the rows in the order of id, Limit at most.
func (f *QuarantineFilter) first() (where string, args []any) {
	where, args = f.where()
	if where += " ORDER BY id"; f.Limit > 0 {
		where, args = where+" LIMIT ?", append(args, f.Limit)
	}
	return where, args
}

// ListQuarantine lists rows in the order of id.
func (s *Store) ListQuarantine(ctx context.Context, f QuarantineFilter) ([]QuarantinedRow, error) {
	var all []QuarantinedRow
	where, args := f.first()
	err := s.each(ctx, `SELECT id, point_no, rule_id, sync_table, epoch, seq, row_no, row_values, error_code,
		error_text, UNIX_TIMESTAMP(created_at), UNIX_TIMESTAMP(edited_at),
		UNIX_TIMESTAMP(waits_until) FROM sync_quarantine`+where,
		func(scan scanner) error {
			var r QuarantinedRow
			var values string
			err := scan(&r.ID, &r.Point, &r.RuleID, &r.Table, &r.Epoch, &r.Seq, &r.Row, &values, &r.Code, &r.Reason,
				(*unixTime)(&r.CreatedAt), (*unixTime)(&r.EditedAt), (*unixTime)(&r.WaitsUntil))
			if err != nil {
				return err
			}
			if r.Fields, r.Values, err = DecodeRow(values); err != nil {
				return fmt.Errorf("store: %s: %w", quarantineID(r.ID), err)
			}
			all = append(all, r)
			return nil
		}, args...)
	return all, public(err)
}

// QuarantineCount is how many rows have one rule and one error.
type QuarantineCount struct {
	RuleID  uint64    `json:"rule_id"`
	Table   string    `json:"sync_table"`
	Code    int       `json:"error_code"`
	Rows    int       `json:"rows"`
	Waiting int       `json:"waiting"` // of them are tried again by themselves
	Oldest  time.Time `json:"oldest"`
	Reason  string    `json:"reason"` // of one of them
}

// CountQuarantine counts rows by rule, table and error.
func (s *Store) CountQuarantine(ctx context.Context, f QuarantineFilter) (all []QuarantineCount, err error) {
	where, args := f.where()
	err = s.each(ctx, `SELECT rule_id, sync_table, error_code, COUNT(*), COUNT(waits_until),
		UNIX_TIMESTAMP(MIN(created_at)), MIN(error_text) FROM sync_quarantine`+where+`
		GROUP BY rule_id, sync_table, error_code ORDER BY COUNT(*) DESC, rule_id, sync_table, error_code`,
		func(scan scanner) error {
			var n QuarantineCount
			err := scan(&n.RuleID, &n.Table, &n.Code, &n.Rows, &n.Waiting, (*unixTime)(&n.Oldest), &n.Reason)
			all = append(all, n)
			return err
		}, args...)
	return all, public(err)
}

// QuarantineRow reads one row. ErrNotFound: there is none.
func (s *Store) QuarantineRow(ctx context.Context, id uint64) (QuarantinedRow, error) {
	all, err := s.ListQuarantine(ctx, QuarantineFilter{ID: id})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: %s", ErrNotFound, quarantineID(id))
	}
	if err != nil {
		return QuarantinedRow{}, err
	}
	return all[0], nil
}

// EditQuarantine replaces the fields and values of a row.
func (s *Store) EditQuarantine(ctx context.Context, id uint64, fields []string, values []any) error {
	text, err := EncodeRow(fields, values)
	if err != nil {
		return err
	}
	const q = "UPDATE sync_quarantine SET row_values = ?, edited_at = CURRENT_TIMESTAMP(6) WHERE id = ?"
	return s.changeOne(ctx, quarantineID(id), q, text, id)
}

// DropQuarantine deletes the rows that a filter chooses and returns their number. ErrNotFound: there is none with the
// filter's ID.
func (s *Store) DropQuarantine(ctx context.Context, f QuarantineFilter) (n int64, err error) {
	where, args := f.first()
	n, err = s.exec(ctx, "DELETE FROM sync_quarantine"+where, args...)
	if err == nil && n == 0 && f.ID != 0 {
		err = fmt.Errorf("%w: %s", ErrNotFound, quarantineID(f.ID))
	}
	return n, err
}

func quarantineID(id uint64) string { return fmt.Sprintf("sync_quarantine id=%d", id) }

// NewerError says that a quarantined row is older than the one that is in the table.
type NewerError struct{ Column, There, Quarantined string }

func (e *NewerError) Error() string {
	return fmt.Sprintf("the row in the table is newer: its %s is %s, that of the quarantined row is %s",
		e.Column, e.There, e.Quarantined)
}

// Replayed is the outcome of a replay.
type Replayed struct {
	Op      string // the operation that took the row
	Present bool   // a row with its key was there before
}

// ReplayQuarantine applies a row with the present plan of its rule and deletes it from the quarantine in the same
// transaction. *RowError: the database refuses it again, and it stays. *NewerError: a newer version is in the table;
// force replaces that. ErrMismatch: the rule has other fields now.
func (s *Store) ReplayQuarantine(
	ctx context.Context, id uint64, p *rule.Plan, e rule.Env, force bool,
) (out Replayed, err error) {
	if hasFile(p.Downside) {
		return out, mismatch("a file takes whole batches, not one row")
	}
	plan := *p
	plan.AllOrNothing = true // it is in the quarantine already
	err = s.inTx(ctx, func(tx *Tx) error {
		var text string
		code := 0
		err := tx.One(ctx, "SELECT point_no, row_values, error_code FROM sync_quarantine WHERE id = ? FOR UPDATE",
			[]any{id}, &e.Point, &text, &code)
		if err == nil && code < mysqlErrors {
			return mismatch("the row was read here and could not be sent; it is still in its table")
		}
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: %s", ErrNotFound, quarantineID(id))
		}
		var row rowset.Rows
		if err == nil {
			row.Columns, row.Values, err = DecodeRow(text)
		}
		if err == nil {
			out.Present, err = tx.newer(ctx, &plan, row, e)
		}
		if newer := (*NewerError)(nil); force && errors.As(err, &newer) {
			err = nil
		}
		var applied Outcome
		if err == nil {
			applied, err = tx.apply(ctx, &plan, row, e, true)
		}
		for op := range applied.ByOp {
			out.Op = op
		}
		if err == nil {
			_, err = tx.Exec(ctx, "DELETE FROM sync_quarantine WHERE id = ?", id)
		}
		return err
	})
	if err != nil {
		return Replayed{}, err
	}
	return out, nil
}

// newer compares a row with the one that has its key in the table: a *NewerError when that has a later time.
func (t *Tx) newer(ctx context.Context, p *rule.Plan, rows rowset.Rows, e rule.Env) (present bool, err error) {
	if p.Find == nil {
		return false, nil
	}
	row, _, err := fit(rows, p)
	if err != nil {
		return false, err
	}
	at := slices.IndexFunc(p.Fields, p.IsClock)
	err = t.on(func(c *conn) error {
		local, err := t.s.localZone(ctx, c) // that of the row
		if err == nil {
			err = c.useZone(ctx, local)
		}
		if err != nil {
			return err
		}
		return c.read(ctx, p.Find, &e, row.Row(0), func(there []any) error {
			present = true
			if at < 0 || there[at] == nil || row.Values[at] == nil {
				return nil
			}
			was, is := plainText(row.Values[at]), plainText(there[at])
			if strings.TrimRight(is, "0") > strings.TrimRight(was, "0") { // YYYY-MM-DD hh:mm:ss.ffffff
				return notFromDB(&NewerError{p.Fields[at], is, was})
			}
			return nil
		})
	})
	return present, err
}
