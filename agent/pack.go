package agent

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

const (
	// batchBytes bounds a batch to half of what every server takes by default. A larger
	// row gets a batch of its own.
	batchBytes = protocol.DefaultMaxFrame / 2
	// maxRowBytes is what the largest possible frame can carry beside its heads and names.
	maxRowBytes = protocol.HardMaxFrame - 64<<10
	// pageBytes bounds what a page of a table with large rows takes in memory.
	pageBytes = 32 << 20
	// valueOverhead is the most that CBOR puts before a value: a head and eight bytes.
	valueOverhead = 9
)

// packer turns the rows of an upside into batches of bounded size while they are read.
type packer struct {
	table    string
	fields   []string // what update_state needs of each row; nil when it needs none
	maxRows  int      // of one batch
	pageRows int      // that are enough for one read; 0: there are never enough
	room     int64    // bytes that are enough
	enough   error    // what Row says then

	columns []string
	values  []any
	size    int
	total   int64

	batches []batch
	rows    int
	aside   []oversized
}

// newPacker reads a page of a rule with a cursor, and else all there is. Where
// update_state marks what was sent, a part is good, too: the rest is read when that is
// marked. Otherwise the next read would begin with the same rows again, so it has to be
// all or nothing.
func newPacker(o *Options, plan *rule.Plan) *packer {
	p := &packer{table: plan.Row.Table, maxRows: o.BatchRows, room: o.OutboxBytes, enough: store.ErrEnough}
	switch {
	case plan.Paged():
		p.pageRows, p.room = o.BatchRows, pageBytes
	case len(plan.UpdateState) == 0:
		p.enough = fmt.Errorf("the upside gives more than the outbox may hold (%d bytes)", o.OutboxBytes)
	}
	if slices.ContainsFunc(plan.UpdateState, func(s rule.Statement) bool { return s.PerRow() }) {
		p.fields = plan.Fields
	}
	return p
}

// Begin starts the rows of one statement; they do not share a batch with another's.
func (p *packer) Begin(_ int, cols []store.ColumnInfo) error {
	if err := p.flush(); err != nil {
		return err
	}
	p.columns = make([]string, len(cols))
	for i, c := range cols {
		p.columns[i] = c.Name
	}
	for _, f := range p.fields {
		if !slices.ContainsFunc(p.columns, func(c string) bool { return strings.EqualFold(c, f) }) {
			return fmt.Errorf("the upside gives no column %s, which is a field of the rule and needed by update_state", f)
		}
	}
	return nil
}

// Row takes one row. Its bytes are only valid during the call, so they are copied.
func (p *packer) Row(values []any) error {
	size := rowSize(values)
	if size > maxRowBytes {
		p.aside = append(p.aside, oversized{p.columns, copied(nil, values), size})
	} else {
		if p.size+size > batchBytes || len(p.values) >= p.maxRows*len(p.columns) {
			if err := p.flush(); err != nil {
				return err
			}
		}
		p.values, p.size = copied(p.values, values), p.size+size
	}
	p.rows++
	p.total += int64(size)
	if p.rows == p.pageRows || p.total >= p.room {
		return p.enough
	}
	return nil
}

func copied(dst, values []any) []any {
	for _, v := range values {
		if b, ok := v.([]byte); ok {
			v = bytes.Clone(b)
		}
		dst = append(dst, v)
	}
	return dst
}

// rowSize is the most bytes a row takes in a payload.
func rowSize(values []any) int {
	n := valueOverhead * len(values)
	for _, v := range values {
		switch v := v.(type) {
		case []byte:
			n += len(v)
		case string:
			n += len(v)
		}
	}
	return n
}

// flush makes a batch of the rows in hand.
func (p *packer) flush() error {
	if len(p.values) == 0 {
		return nil
	}
	rows := protocol.Rows{Columns: p.columns, Values: p.values}
	payload, err := protocol.AppendPayload(nil, &protocol.UploadRequest{Table: p.table, Rows: rows})
	if err != nil {
		return fmt.Errorf("encode %d rows: %w", rows.Len(), err)
	}
	p.batches = append(p.batches, batch{table: p.table, rows: rows.Len(), payload: payload})
	p.values, p.size = p.values[:0], 0
	return nil
}
