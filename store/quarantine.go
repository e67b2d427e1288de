package store

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
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
}

// MarshalJSON has fields and values as one object, in the form that DecodeRow reads.
func (r QuarantinedRow) MarshalJSON() ([]byte, error) {
	values, err := encodeRow(r.Fields, r.Values)
	if err != nil {
		return nil, err
	}
	type row QuarantinedRow // without this method
	return json.Marshal(struct {
		row
		Values json.RawMessage `json:"row_values"`
	}{row(r), json.RawMessage(values)})
}

// quarantine puts a row aside within the transaction that could not take it.
func (c *conn) quarantine(ctx context.Context, it item, code int, reason string) error {
	u := it.b.u
	values, err := encodeRow(u.Plan.Fields, it.b.rows.row(it.row))
	if err != nil {
		return notFromDB(err)
	}
	const q = `INSERT INTO sync_quarantine (point_no, rule_id, sync_table, epoch, seq, row_no, row_values, error_code, error_text)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	c.args = append(c.args[:0], u.Point, u.Plan.Row.ID, u.Plan.Row.Table, u.Epoch, u.Seq, int64(it.row), values,
		int64(code), clip(reason, textMax))
	_, err = c.exec(ctx, stmtKey{sql: q}, func() string { return q })
	return err
}

const quarantineColumns = `SELECT id, point_no, rule_id, sync_table, epoch, seq, row_no, row_values, error_code, error_text,
	UNIX_TIMESTAMP(created_at), UNIX_TIMESTAMP(edited_at) FROM sync_quarantine `

func scanQuarantined(scan func(...any) error) (QuarantinedRow, error) {
	var r QuarantinedRow
	var values string
	var created, edited sql.NullFloat64
	err := scan(&r.ID, &r.Point, &r.RuleID, &r.Table, &r.Epoch, &r.Seq, &r.Row, &values, &r.Code, &r.Reason, &created, &edited)
	if err != nil {
		return r, err
	}
	r.CreatedAt, r.EditedAt = unix(created), unix(edited)
	if r.Fields, r.Values, err = DecodeRow(values); err != nil {
		return r, notFromDB(fmt.Errorf("store: sync_quarantine id=%d: %w", r.ID, err))
	}
	return r, nil
}

// Quarantine lists at most limit rows whose id is above after, in the order of id.
func (s *Store) Quarantine(ctx context.Context, after uint64, limit int) ([]QuarantinedRow, error) {
	var all []QuarantinedRow
	err := s.each(ctx, quarantineColumns+"WHERE id > ? ORDER BY id LIMIT ?", func(scan func(...any) error) error {
		r, err := scanQuarantined(scan)
		all = append(all, r)
		return err
	}, after, limit)
	return all, public(err)
}

// QuarantineRow reads one. ErrNotFound: there is none.
func (s *Store) QuarantineRow(ctx context.Context, id uint64) (QuarantinedRow, error) {
	r, err := scanQuarantined(s.db.QueryRowContext(ctx, quarantineColumns+"WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("%w: sync_quarantine id=%d", ErrNotFound, id)
	}
	return r, public(err)
}

// EditQuarantine gives a row other values for the fields it has, before it is replayed.
func (s *Store) EditQuarantine(ctx context.Context, id uint64, fields []string, values []any) error {
	text, err := encodeRow(fields, values)
	if err != nil {
		return err
	}
	const q = "UPDATE sync_quarantine SET row_values = ?, edited_at = CURRENT_TIMESTAMP(6) WHERE id = ?"
	return s.changeOne(ctx, quarantineID(id), q, text, id)
}

// DropQuarantine forgets a row for good.
func (s *Store) DropQuarantine(ctx context.Context, id uint64) error {
	return s.changeOne(ctx, quarantineID(id), "DELETE FROM sync_quarantine WHERE id = ?", id)
}

func quarantineID(id uint64) string { return fmt.Sprintf("sync_quarantine id=%d", id) }

// ReplayQuarantine applies a row with the plan that its rule has now, and takes it out of the quarantine in the same
// transaction. *RowError: it cannot be taken now either, and stays. ErrMismatch: the rule's fields are others by now.
func (s *Store) ReplayQuarantine(ctx context.Context, id uint64, p *rule.Plan, e rule.Env) (Outcome, error) {
	var out Outcome
	plan := *p
	plan.AllOrNothing = true // it is in the quarantine already
	err := s.retry(ctx, func(c *conn) error {
		return c.inTx(ctx, func() error {
			row, err := c.lockQuarantined(ctx, id)
			if err != nil {
				return err
			}
			rows := rowset.Rows{Columns: row.Fields, Values: row.Values}
			b, err := s.newBatch(&Upload{Point: row.Point, Plan: &plan, Rows: rows, Env: e}, &out)
			if err != nil {
				return err
			}
			b.reset()
			b.u.Env.Point = row.Point
			r := &runner{ctx: ctx, c: c, s: s, files: newFiles("")}
			if err := r.batches([]*batch{b}); err != nil {
				return err
			}
			const q = "DELETE FROM sync_quarantine WHERE id = ?"
			c.args = append(c.args[:0], id)
			_, err = c.exec(ctx, stmtKey{sql: q}, func() string { return q })
			return err
		})
	})
	if err != nil {
		return Outcome{}, err
	}
	s.countRows(&out)
	return out, nil
}

// lockQuarantined reads what a replay needs and keeps others from replaying it too.
func (c *conn) lockQuarantined(ctx context.Context, id uint64) (row QuarantinedRow, err error) {
	c.args = append(c.args[:0], id)
	err = c.scan(ctx, "SELECT point_no, row_values FROM sync_quarantine WHERE id = ? FOR UPDATE", func(v []any) error {
		row.ID, row.Point = id, v[0].(string)
		row.Fields, row.Values, err = DecodeRow(v[1].(string))
		return notFromDB(err)
	})
	if err == nil && row.ID == 0 {
		err = fmt.Errorf("%w: sync_quarantine id=%d", ErrNotFound, id)
	}
	return row, err
}

// DecodeRow reads a row that is written as a JSON object: what is in sync_quarantine.row_values, or what a DBA made of
// it. A value is null, a number, a string, {"base64": bytes} or {"text64": text that is no UTF-8}.
func DecodeRow(text string) (fields []string, values []any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New(`a row is a JSON object such as {"name": "value"}`)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, nil, err
		}
		if v, err = decodeValue(v); err != nil {
			return nil, nil, fmt.Errorf("%v: %w", name, err)
		}
		fields = append(fields, name.(string)) // the decoder refuses other keys
		values = append(values, v)
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("something follows the object")
	}
	return fields, values, nil
}

func decodeValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, string:
		return v, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case json.Number:
		return decodeNumber(v.String())
	case map[string]any:
		for key, inner := range v {
			text, ok := inner.(string)
			if !ok || len(v) != 1 || key != "base64" && key != "text64" {
				break
			}
			b, err := base64.StdEncoding.DecodeString(text)
			if key == "text64" {
				return string(b), err
			}
			return b, err
		}
	}
	return nil, errors.New(`a value is null, a number, a string, {"base64": …} or {"text64": …}`)
}

func decodeNumber(text string) (any, error) {
	if strings.ContainsAny(text, ".eE") {
		return strconv.ParseFloat(text, 64)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	return strconv.ParseUint(text, 10, 64)
}
