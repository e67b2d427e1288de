package protocol

import (
	"fmt"

	"syncgate/internal/rowset"
)

// RowEncoder writes rows of driver values straight into the payload that will carry them, with no allocation a row. One
// goroutine uses it; it is reused from part to part:
//
//	e.Begin(0, columns)
//	for rows {
//		e.Append(row)
//		if e.Len() >= partSize { reply(e.Part(id)) }
//	}
//	reply(e.Last(id, state, more))
type RowEncoder struct {
	head    []byte // keys 1 to 3, encoded at Begin
	asText  []bool // of the columns
	values  []byte // encoded rows of this part
	count   int    // values in them
	total   uint64 // rows since the encoder was made or Last was called
	payload []byte
}

// Begin starts a statement's rows. Rows of the statement before must have been taken by Part. Columns may be none only
// when no row follows.
func (e *RowEncoder) Begin(statement uint32, columns []rowset.Column) error {
	if e.count != 0 {
		return fmt.Errorf("%w: rows of the statement before are left", errState)
	}
	reply := DownloadReply{Statement: statement}
	e.asText = e.asText[:0]
	for _, c := range columns {
		e.asText = append(e.asText, !c.Binary)
		reply.Columns, reply.Types = append(reply.Columns, c.Name), append(reply.Types, c.Type)
	}
	c := coder{out: e.head[:0]}
	reply.first(&c)
	e.head = c.out
	return c.err
}

// Append adds a row: one value a column, each nil, int64, uint64, float32, float64, string or []byte. Values are copied.
// A row with another value is refused whole.
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

// Len is the length in bytes that Part's payload would have now, or a few bytes more.
func (e *RowEncoder) Len() int { return len(e.head) + len(e.values) + maxHeads }

// maxHeads is what head and values have around them: map head, key 4 and array head.
const maxHeads = 1 + 1 + 5

// Rows is the number of rows since the last part.
func (e *RowEncoder) Rows() int { return e.count / max(1, len(e.asText)) }

// Part finishes a part of the reply to request id, with FlagMore. The message stands in the encoder's buffer: it is to
// be sent before the encoder is used again.
func (e *RowEncoder) Part(id RequestID) (*Message, error) {
	if len(e.head) == 0 {
		return nil, fmt.Errorf("%w: no statement was begun", errState)
	}
	return &Message{Op: OpDownload, RequestID: id, Flags: FlagMore, Payload: e.finish(4, nil)}, nil
}

// Last finishes the last part, which may hold no rows; without a Begin it answers a download of nothing. Then the
// encoder is as new, but for its memory.
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
	m := &Message{Op: OpDownload, RequestID: id, Payload: e.finish(7, c.out)}
	e.head, e.asText, e.total = e.head[:0], e.asText[:0], 0
	return m, nil
}

// finish is the payload of what is at hand: so many keys, of which end holds those after the values.
func (e *RowEncoder) finish(keys byte, end []byte) []byte {
	p := append(append(e.payload[:0], majorMap<<5|keys), e.head...)
	p = appendHead(append(p, 4), majorArray, uint64(e.count))
	e.payload = append(append(p, e.values...), end...)
	e.values, e.count = e.values[:0], 0
	return e.payload
}
