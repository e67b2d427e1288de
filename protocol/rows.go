package protocol

import (
	"fmt"

	"syncgate/internal/rowset"
)

// RowEncoder writes rows of driver values straight into the payload of a DownloadReply, without an allocation a row.
// One goroutine uses it, for one part after another:
//
//	e.Begin(0, columns)
//	for rows {
//		e.Append(row)
//		if e.Len() >= partSize { reply(e.Part(id, nil)) }
//	}
//	reply(e.Last(id, state, more))
type RowEncoder struct {
	head    []byte // the fields before the rows, encoded by Begin
	fields  uint64 // in head
	asText  []bool // for each column: []byte holds text
	values  []byte // encoded rows of this part
	count   int    // values in them
	total   uint64 // rows since the last call of Last
	payload []byte
}

// Begin starts a statement's rows, after a call of Part has taken those of the statement before. columns may be empty
// only when no row follows.
func (e *RowEncoder) Begin(statement uint32, columns []rowset.Column) error {
	if e.count != 0 {
		return fmt.Errorf("%w: rows of the previous statement are left", errState)
	}
	reply := DownloadReply{Statement: statement}
	e.asText = e.asText[:0]
	for _, c := range columns {
		e.asText = append(e.asText, !c.Binary)
		reply.Columns, reply.Types = append(reply.Columns, c.Name), append(reply.Types, c.Type)
	}
	c := coder{out: e.head[:0]}
	reply.first(&c)
	e.head, e.fields = c.out, c.entries
	return c.err
}

// Append adds a row: a value for each column, of type nil, int64, uint64, float32, float64, string or []byte. It copies
// the values. It refuses a whole row when one value is of another type.
func (e *RowEncoder) Append(row []any) error {
	if len(row) != len(e.asText) || len(row) == 0 {
		return fmt.Errorf("%w: %d values for %d columns", ErrValue, len(row), len(e.asText))
	}
	if e.count+len(row) > maxValues {
		return ErrLimit
	}
	values := e.values
	var err error
	for i, v := range row {
		if values, err = appendValue(values, v, e.asText[i]); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	e.values = values
	e.count += len(row)
	e.total++
	return nil
}

// Len returns the length in bytes of Part's payload, or a few bytes more.
func (e *RowEncoder) Len() int { return len(e.head) + len(e.values) + maxHeads }

// maxHeads is the most that a payload has besides head and values: map head, key 4 and array head.
const maxHeads = 1 + 1 + 5

// Rows returns the number of rows since the last part.
func (e *RowEncoder) Rows() int { return e.count / max(1, len(e.asText)) }

// Part finishes a part of the reply to request id, with FlagMore, and with the state behind its rows where one is
// known. The message aliases the encoder's buffer: the caller sends it before the next call.
func (e *RowEncoder) Part(id RequestID, state []rowset.StateItem) (*Message, error) {
	if len(e.head) == 0 {
		return nil, fmt.Errorf("%w: Part before Begin", errState)
	}
	m := &Message{Op: OpDownload, RequestID: id, Flags: FlagMore}
	if len(state) == 0 {
		m.Payload = e.finish(nil, 0)
		return m, nil
	}
	var c coder
	c.items(5, &state, maxState)
	m.Payload = e.finish(c.out, c.entries)
	return m, c.err
}

// Last finishes the last part, which may have no rows. Without a Begin it answers a download without statements. The
// encoder may then be used for another reply.
func (e *RowEncoder) Last(id RequestID, state []rowset.StateItem, more bool) (*Message, error) {
	if len(e.head) == 0 {
		if err := e.Begin(0, nil); err != nil {
			return nil, err
		}
	}
	end := DownloadReply{State: state, More: more, Total: e.total}
	var c coder
	if end.last(&c); c.err != nil {
		return nil, c.err
	}
	m := &Message{Op: OpDownload, RequestID: id, Payload: e.finish(c.out, c.entries)}
	e.head, e.asText, e.total = e.head[:0], e.asText[:0], 0
	return m, nil
}

// finish returns the payload of head, the values, and end, which holds so many fields.
func (e *RowEncoder) finish(end []byte, fields uint64) []byte {
	p := append(appendHead(e.payload[:0], majorMap, e.fields+1+fields), e.head...)
	p = appendHead(append(p, keyValues), majorArray, uint64(e.count))
	e.payload = append(append(p, e.values...), end...)
	e.values, e.count = e.values[:0], 0
	return e.payload
}
