package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// oversized is a row that no frame can carry.
type oversized struct {
	columns []string
	values  []any
	size    int
}

// asideBytes bounds a value that is copied into the quarantine; larger ones are left out.
// The row itself is still in its table, and a row that lacks fields can't be replayed by
// mistake.
const asideBytes = 64 << 10

// setAside puts a row that can't be sent into the point's sync_quarantine, so that the
// rows after it are not held up, and names it in the log.
func (o *oversized) setAside(ctx context.Context, tx *store.Tx, opts *Options, row rule.Row, why string) error {
	facts, err := opts.Store.Table(ctx, row.Table)
	if err != nil && !errors.Is(err, store.ErrNoTable) {
		return err
	}
	reason := fmt.Sprintf("row %s has %d bytes, %s; its large fields are left out here", o.name(facts), o.size, why)
	fields := make(map[string]any)
	for i, c := range o.columns {
		switch v := o.values[i].(type) {
		case []byte:
			if len(v) <= asideBytes {
				fields[c] = map[string][]byte{"base64": v}
			}
		case string:
			if len(v) <= asideBytes {
				fields[c] = v
			}
		default:
			fields[c] = v
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO sync_quarantine (point_no, rule_id, sync_table, epoch, seq, row_no, row_values, error_code, error_text)
		VALUES (?, ?, ?, 0, 0, 0, ?, ?, ?)`, opts.Point, row.ID, row.Table, string(text), uint16(protocol.StatusTooLarge), reason)
	if err == nil {
		opts.Log.Error().Str("table", row.Table).Str("reason", reason).Msg("row put into sync_quarantine")
	}
	return err
}

// name says which row this is: its primary key, as far as the upside selects it, else
// its first value.
func (o *oversized) name(t *rule.Table) string {
	var parts []string
	for _, key := range t.PrimaryKey() {
		for i, c := range o.columns {
			if strings.EqualFold(c, key) {
				parts = append(parts, c+"="+printable(o.values[i]))
			}
		}
	}
	if len(parts) == 0 && len(o.columns) > 0 {
		parts = []string{o.columns[0] + "=" + printable(o.values[0])}
	}
	return strings.Join(parts, " ")
}

// printable is a value short enough for a log line.
func printable(v any) string {
	var text string
	switch v := v.(type) {
	case []byte:
		text = fmt.Sprintf("0x%x", v[:min(len(v), 32)])
	default:
		text = fmt.Sprint(v)
	}
	if len(text) > 64 {
		text = strings.ToValidUTF8(text[:64], "") + "…"
	}
	return text
}
