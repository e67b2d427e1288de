package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

const (
	// batchBytes bounds a batch. A larger row gets a batch of its own.
	batchBytes = protocol.DefaultMaxFrame / 2
	// besideRow is the room for headers and names in the message of one row.
	besideRow = 64 << 10
	// pageBytes bounds the memory of a page of large rows.
	pageBytes = 32 << 20
)

// packer turns the rows of an upside into batches of bounded size while they are read.
type packer struct {
	table    string
	fields   []string // columns that update_state needs of each row; nil when it needs none
	maxRows  int      // in one batch
	maxRow   int      // bytes of a row that can be sent
	pageRows int      // at which a read stops; 0: no limit
	maxBytes int64    // at which a read stops
	enough   error    // error that Row then returns
	most     int      // bytes of one batch
	whole    bool     // a read gives all rows that the rule selects
	single   bool     // one batch is all that is wanted; it is left in values

	columns  []string
	instants []string
	values   []any
	size     int
	total    int64

	batches   []batch
	bytes     int64 // of their payloads
	rows      int
	oversized []store.Unsent // rows that no frame can carry
	full      bool           // a row did not fit into the single batch
}

// newPacker makes a packer that reads one page of a paged rule, and all rows of any other rule. When update_state marks
// the sent rows, a part of the rows is enough: the next read gets the rest. Otherwise the next read would begin with
// the same rows, so the packer takes all rows or none.
func newPacker(o *Options, plan *rule.Plan) *packer {
	p := &packer{table: plan.Row.Table, maxRows: o.BatchRows, maxBytes: o.OutboxBytes,
		enough: store.ErrEnough, most: batchBytes, maxRow: o.MaxMessage - besideRow}
	if packet := o.Store.MaxPacket() - besideRow; !streamed(plan) { // the outbox keeps a batch in one statement
		p.most, p.maxRow = min(p.most, packet), min(p.maxRow, packet)
	}
	switch {
	case plan.Paged():
		p.pageRows, p.maxBytes = o.BatchRows, pageBytes
	case len(plan.UpdateState) == 0:
		p.whole = true
		p.enough = fmt.Errorf("the upside gives more than the outbox may hold (%d bytes)", o.OutboxBytes)
	}
	if slices.ContainsFunc(plan.UpdateState, func(s rule.Statement) bool { return s.PerRow() }) {
		p.fields = plan.Fields
	}
	return p
}

// Begin starts the rows of one statement. Statements do not share a batch.
func (p *packer) Begin(_ int, cols []rowset.Column) error {
	if p.single && p.rows > 0 {
		return store.ErrFull
	}
	if err := p.flush(); err != nil {
		return err
	}
	p.columns = make([]string, len(cols))
	for i, c := range cols {
		p.columns[i] = c.Name
	}
	p.instants = rowset.Instants(cols)
	for _, f := range p.fields {
		if !slices.ContainsFunc(p.columns, func(c string) bool { return strings.EqualFold(c, f) }) {
			return fmt.Errorf("the upside gives no column %s, which update_state needs", f)
		}
	}
	return nil
}

// Row adds a copy of one row, because its bytes are valid only during the call.
func (p *packer) Row(values []any) error {
	size := rowset.Size(values)
	if p.single && p.rows > 0 && p.size+size > p.most {
		p.full = true
		return store.ErrFull
	}
	if size > p.maxRow {
		p.oversized = append(p.oversized, store.NewUnsent(p.columns, values))
	} else {
		if p.size+size > p.most || len(p.values) >= p.maxRows*len(p.columns) {
			if err := p.flush(); err != nil {
				return err
			}
		}
		p.values, p.size = rowset.AppendCopy(p.values, values), p.size+size
	}
	p.rows++
	p.total += int64(size)
	if p.rows == p.pageRows || p.single && len(p.oversized) > 0 || p.total >= p.maxBytes {
		return p.enough
	}
	return nil
}

func (p *packer) collected() rowset.Rows {
	return rowset.Rows{Columns: p.columns, Values: p.values, Instants: p.instants}
}

// flush makes a batch of the collected rows.
func (p *packer) flush() error {
	if len(p.values) == 0 {
		return nil
	}
	rows := p.collected()
	request := &protocol.UploadRequest{Table: p.table, Rows: rows}
	if p.whole {
		request.Part = rowset.PartOfAll
		if len(p.batches) == 0 {
			request.Part |= rowset.FirstPart
		}
	}
	payload, err := protocol.AppendPayload(nil, request)
	if err != nil {
		return fmt.Errorf("encode %d rows: %w", rows.Len(), err)
	}
	p.batches = append(p.batches, batch{table: p.table, rows: rows.Len(), payload: payload})
	p.bytes += int64(len(payload))
	p.values, p.size = p.values[:0], 0
	return nil
}

// end makes a batch of the rows that are left. The last batch of a read of all rows says so.
func (p *packer) end() error {
	err := p.flush()
	if err != nil || !p.whole || len(p.batches) == 0 {
		return err
	}
	last := &p.batches[len(p.batches)-1]
	request, err := (&protocol.Message{Op: protocol.OpUpload, Payload: last.payload}).UploadRequest()
	if err == nil {
		request.Part |= rowset.LastPart
		last.payload, err = protocol.AppendPayload(nil, request)
	}
	return err
}

// quarantineRow puts a row that cannot be sent into the point's sync_quarantine, so that later rows go on.
func (a *Agent) quarantineRow(ctx context.Context, tx *store.Tx, p *rule.Plan, row store.Unsent, why string) error {
	reason, err := tx.QuarantineUnsent(ctx, a.opts.Point, p, row, int(protocol.StatusTooLarge), why)
	if err == nil {
		a.opts.Log.Error().Str("table", p.Row.Table).Str("reason", reason).Msg("row put into sync_quarantine")
	}
	return err
}
