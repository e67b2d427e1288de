package agent

import (
	"context"
	"encoding/json"
	"fmt"

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
// rows after it are not held up, and names it in the log by its first column.
func (a *Agent) setAside(ctx context.Context, tx *store.Tx, of rule.Row, o oversized, why string) error {
	fields := make(map[string]any)
	for i, c := range o.columns {
		v := o.values[i]
		if rowSize(o.values[i:i+1]) > asideBytes {
			continue
		}
		if b, ok := v.([]byte); ok {
			v = map[string][]byte{"base64": b}
		}
		fields[c] = v
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	first := o.values[0]
	if b, ok := first.([]byte); ok {
		first = fmt.Sprintf("0x%x", b[:min(len(b), 32)])
	}
	reason := fmt.Sprintf("row %s=%.64s has %d bytes, %s; its large fields are left out here", o.columns[0], fmt.Sprint(first), o.size, why)
	_, err = tx.Exec(ctx, `INSERT INTO sync_quarantine (point_no, rule_id, sync_table, epoch, seq, row_no, row_values, error_code, error_text)
		VALUES (?, ?, ?, 0, 0, 0, ?, ?, ?)`, a.opts.Point, of.ID, of.Table, string(text), uint16(protocol.StatusTooLarge), reason)
	if err == nil {
		a.opts.Log.Error().Str("table", of.Table).Str("reason", reason).Msg("row put into sync_quarantine")
	}
	return err
}
