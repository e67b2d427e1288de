package protocol

import (
	"fmt"
	"slices"
)

// Column describes one column of a download.
type Column struct {
	Name   string
	Type   string // MySQL's type name
	Binary bool   // []byte of the column are bytes, not text
}

// RowEncoder writes rows of driver values straight into the payload that will carry them, with no allocation a row. One
// goroutine uses it; it is reused from part to part:
//
//	e.Begin(0, columns)
//	for rows {
//		e.Append(row)
//		if e.Len() >= partSize { reply(e.Part(id)) }
//	}
//	reply(e.Last(id, state, more))
//
// The values stand at a fixed place in the buffer. What comes before them is put there when the part is finished, since
// the length of key 4's array head is known only then:
//
//	| unused | map head, keys 1..3 | key 4, array head | values | keys 5..7 |
//	          Payload                                   start
type RowEncoder struct {
	buf     []byte
	head    []byte // keys 1 to 3, encoded at Begin
	asText  []bool
	start   int // where values begin in buf
	values  int
	total   uint64
	started bool
}

// maxKey4 is map head, key 4 and array head at its longest.
const maxKey4 = 1 + 1 + 5

// Begin starts a statement's rows. Rows of the statement before must have been taken by Part. Columns may be none only
// when no row follows.
func (e *RowEncoder) Begin(statement uint32, columns []Column) error {
	if e.values != 0 {
		return fmt.Errorf("%w: rows of the statement before are left", errState)
	}
	if len(columns) > MaxColumns {
		return ErrLimit
	}
	reply := DownloadReply{Statement: statement}
	e.asText = e.asText[:0]
	for _, c := range columns {
		e.asText = append(e.asText, !c.Binary)
		reply.Columns, reply.Types = append(reply.Columns, c.Name), append(reply.Types, c.Type)
	}
	c := coder{out: e.head[:0]}
	if reply.first(&c); c.err != nil {
		return c.err
	}
	e.head, e.started = c.out, true
	e.start = maxKey4 + len(e.head)
	e.buf = slices.Grow(e.buf[:0], e.start)[:e.start]
	return nil
}

// Append adds a row: one value a column, each nil, int64, uint64, float32, float64, string or []byte. Values are copied.
// A row with another value is refused whole.
func (e *RowEncoder) Append(row []any) error {
	if len(row) != len(e.asText) || len(row) == 0 {
		return fmt.Errorf("%w: %d values for %d columns", ErrValue, len(row), len(e.asText))
	}
	if e.values+len(row) > MaxValues {
		return ErrLimit
	}
	buf := e.buf
	var err error
	for i, v := range row {
		if buf, err = appendValue(buf, v, e.asText[i]); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	e.buf = buf
	e.values += len(row)
	e.total++
	return nil
}

// Len is the length in bytes that Part's payload would have now, or a few bytes more.
func (e *RowEncoder) Len() int { return len(e.buf) }

// Rows is the number of rows since the last part.
func (e *RowEncoder) Rows() int {
	if e.values == 0 {
		return 0
	}
	return e.values / len(e.asText)
}

// Total is the number of rows since the encoder was made or Last was called.
func (e *RowEncoder) Total() uint64 { return e.total }

// Part finishes a part of the reply to request id, with FlagMore. The message stands in the encoder's buffer: it is to
// be sent before the encoder is used again, and once.
func (e *RowEncoder) Part(id RequestID) (*Message, error) {
	m, err := e.finish(id, 4)
	if err != nil {
		return nil, err
	}
	m.Flags = FlagMore
	return m, nil
}

// Last finishes the last part, which may hold no rows; without a Begin it answers a download of nothing. Then the
// encoder is as new, but for its memory.
func (e *RowEncoder) Last(id RequestID, state []StateItem, more bool) (*Message, error) {
	if !e.started {
		if err := e.Begin(0, nil); err != nil {
			return nil, err
		}
	}
	reply := DownloadReply{State: state, More: more, Total: e.total}
	c := coder{out: e.buf}
	if reply.last(&c); c.err != nil {
		return nil, c.err
	}
	e.buf = c.out
	m, err := e.finish(id, 7)
	e.total, e.started = 0, false
	return m, err
}

func (e *RowEncoder) finish(id RequestID, keys byte) (*Message, error) {
	if !e.started {
		return nil, fmt.Errorf("%w: no statement was begun", errState)
	}
	var key4 [maxKey4]byte
	tail := appendHead(append(key4[:0], 4), majorArray, uint64(e.values))
	at := e.start - len(tail) - len(e.head) - 1
	e.buf[at] = majorMap<<5 | keys
	copy(e.buf[at+1:], e.head)
	copy(e.buf[e.start-len(tail):], tail)
	m := &Message{Op: OpDownload, RequestID: id, Payload: e.buf[at:]}
	e.buf, e.values = e.buf[:e.start], 0
	return m, nil
}
