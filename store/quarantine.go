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

// MarshalJSON writes fields and values as one object, in the form that DecodeRow reads.
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

// quarantine writes a row into sync_quarantine within the transaction that could not apply it.
func (c *conn) quarantine(ctx context.Context, it item, code int, reason string) error {
	u := it.u
	values, err := encodeRow(u.Plan.Fields, u.rows.Row(it.row))
	if err != nil {
		return notFromDB(err)
	}
	const q = `INSERT INTO sync_quarantine
		(point_no, rule_id, sync_table, epoch, seq, row_no, row_values, error_code, error_text)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	c.args = append(c.args[:0], u.Point, u.Plan.Row.ID, u.Plan.Row.Table, u.Epoch, u.Seq, int64(it.row), values,
		int64(code), clip(reason, textMax))
	_, err = c.exec(ctx, stmtKey{sql: q}, func() string { return q })
	return err
}

// Quarantine lists at most limit rows whose id is above after, in the order of id.
func (s *Store) Quarantine(ctx context.Context, after uint64, limit int) ([]QuarantinedRow, error) {
	var all []QuarantinedRow
	err := s.each(ctx, `SELECT id, point_no, rule_id, sync_table, epoch, seq, row_no, row_values, error_code,
		error_text, UNIX_TIMESTAMP(created_at), UNIX_TIMESTAMP(edited_at)
		FROM sync_quarantine WHERE id > ? ORDER BY id LIMIT ?`,
		func(scan scanner) error {
			var r QuarantinedRow
			var values string
			err := scan(&r.ID, &r.Point, &r.RuleID, &r.Table, &r.Epoch, &r.Seq, &r.Row, &values, &r.Code, &r.Reason,
				(*unixTime)(&r.CreatedAt), (*unixTime)(&r.EditedAt))
			if err != nil {
				return err
			}
			if r.Fields, r.Values, err = DecodeRow(values); err != nil {
				return fmt.Errorf("store: %s: %w", quarantineID(r.ID), err)
			}
			all = append(all, r)
			return nil
		}, after, limit)
	return all, public(err)
}

// QuarantineRow reads one row. ErrNotFound: there is none.
func (s *Store) QuarantineRow(ctx context.Context, id uint64) (QuarantinedRow, error) {
	all, err := s.Quarantine(ctx, id-1, 1)
	if err == nil && (len(all) == 0 || all[0].ID != id) {
		return QuarantinedRow{}, fmt.Errorf("%w: %s", ErrNotFound, quarantineID(id))
	}
	if err != nil {
		return QuarantinedRow{}, err
	}
	return all[0], nil
}

// EditQuarantine replaces the fields and values of a row.
func (s *Store) EditQuarantine(ctx context.Context, id uint64, fields []string, values []any) error {
	text, err := encodeRow(fields, values)
	if err != nil {
		return err
	}
	const q = "UPDATE sync_quarantine SET row_values = ?, edited_at = CURRENT_TIMESTAMP(6) WHERE id = ?"
	return s.changeOne(ctx, quarantineID(id), q, text, id)
}

// DropQuarantine deletes a row.
func (s *Store) DropQuarantine(ctx context.Context, id uint64) error {
	return s.changeOne(ctx, quarantineID(id), "DELETE FROM sync_quarantine WHERE id = ?", id)
}

func quarantineID(id uint64) string { return fmt.Sprintf("sync_quarantine id=%d", id) }

// ReplayQuarantine applies a row with the present plan of its rule and deletes it from the quarantine in the same
// transaction. *RowError: the database refuses it again, and it stays. ErrMismatch: the rule has other fields now.
func (s *Store) ReplayQuarantine(ctx context.Context, id uint64, p *rule.Plan, e rule.Env) (out Outcome, err error) {
	if hasFile(p.Downside) {
		return out, mismatch("a file takes whole batches, not one row")
	}
	plan := *p
	plan.AllOrNothing = true // it is in the quarantine already
	err = s.inTx(ctx, func(tx *Tx) error {
		var text string
		err := tx.One(ctx, "SELECT point_no, row_values FROM sync_quarantine WHERE id = ? FOR UPDATE", []any{id},
			&e.Point, &text)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: %s", ErrNotFound, quarantineID(id))
		}
		var row rowset.Rows
		if err == nil {
			row.Columns, row.Values, err = DecodeRow(text)
		}
		if err == nil {
			out, err = tx.Apply(ctx, &plan, row, e)
		}
		if err == nil {
			_, err = tx.Exec(ctx, "DELETE FROM sync_quarantine WHERE id = ?", id)
		}
		return err
	})
	if err != nil {
		return Outcome{}, err
	}
	return out, nil
}

// DecodeRow reads a row from a JSON object: sync_quarantine.row_values, also after an edit by hand. A value is null, a
// number, a string, {"base64": bytes} or {"text64": text that is no UTF-8}.
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
		return nil, nil, errors.New("there is text after the object")
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
