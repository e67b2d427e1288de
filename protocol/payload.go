package protocol

import (
	"crypto/sha256"
	"fmt"
	"math"

	"syncgate/internal/rowset"
)

// UploadRequest carries rows for the centre to apply once.
type UploadRequest struct {
	// Confirmed is the sequence up to which the agent has seen all replies of the epoch; the centre may forget those.
	// 0: none. Digest leaves it out, since it grows between two tries.
	Confirmed uint64
	Table     string
	// Rows.Columns name the fields. On the v1 wire the names are empty, and the values are in the order of the rule's
	// fields.
	Rows rowset.Rows

	// State is what the reader of these rows goes on from. With it the request belongs to a stream: the centre applies
	// it only when the request of the sequence before was the last of its epoch, and keeps State with its rows.
	State []rowset.StateItem
	// Seen is 1 and the number of the last change at the centre that the point has downloaded of the table. 0: the
	// table does not go both ways, and a row of the request takes the place of every other version.
	Seen uint64
	// After makes the request one that begins a generation of a stream and has no rows. It is the last sequence of the
	// epoch that the point knows of, or the request's own for a new epoch. 0: the request begins no generation.
	After uint64
	// Part is what the rows are of a read of the whole selection: rowset.PartOfAll and others. 0: they are what is new.
	Part uint32

	encoded []byte // the payload it was decoded from, or nil
}

func (u *UploadRequest) fields(c *coder) {
	if c.reading {
		u.encoded = c.buf
	}
	u.head(c)
	c.values(4, &u.Rows.Values)
	if c.has(len(u.State) > 0) {
		c.items(5, &u.State, maxState)
	}
	if c.has(u.Seen != 0) {
		number(c, 6, &u.Seen, math.MaxUint64)
	}
	if c.has(u.After != 0) {
		number(c, 7, &u.After, math.MaxUint64)
	}
	if c.has(u.Part != 0) {
		number(c, 8, &u.Part, rowset.All)
	}
	if c.has(len(u.Rows.Instants) > 0) {
		c.names(9, &u.Rows.Instants)
	}
	c.check(u.Table != "", "no table")
	c.check(u.Part == 0 || u.Part&rowset.PartOfAll != 0 && u.State == nil, "not a part of a whole read")
	c.check(u.Rows.Whole(), "the last row is not whole")
	c.check(u.After == 0 || len(u.Rows.Values) == 0, "a request that begins a generation has rows")
}

// head has the fields before the rows.
func (u *UploadRequest) head(c *coder) {
	if c.has(u.Confirmed != 0) {
		number(c, 1, &u.Confirmed, math.MaxUint64)
	}
	c.text(2, &u.Table, maxName)
	c.names(3, &u.Rows.Columns)
}

// UploadColumns returns the columns in payload, the CBOR of an UploadRequest, without reading its rows.
func UploadColumns(payload []byte) ([]string, error) {
	c := coder{decoder: decoder{buf: payload}, reading: true}
	c.entries = c.expect(majorMap, "a map")
	var u UploadRequest
	u.head(&c)
	return u.Rows.Columns, c.err
}

// Reached is how far the centre has taken a stream of uploads.
type Reached struct {
	Seq   uint64             // of the last request that was applied; 0: none
	State []rowset.StateItem // that it carried
}

// fields have the keys from first on.
func (r *Reached) fields(c *coder, first uint64) {
	if c.has(r.Seq != 0) {
		number(c, first, &r.Seq, math.MaxUint64)
	}
	if c.has(len(r.State) > 0) {
		c.items(first+1, &r.State, maxState)
	}
}

// UploadReply is the outcome of an upload.
type UploadReply struct {
	Applied     uint64            // rows that an operation applied
	ByOp        map[string]uint64 // the same by operation: insert, update, delete, replace, file
	Quarantined []QuarantinedRow  // rows that no operation could apply; the centre keeps them
	Duplicate   bool              // the request was done before, and this is the stored reply
	Reached                       // of a request that begins a generation: where the stream stood before
	LeftOut     uint64            // more rows that no operation could apply, for which the reply has no room
	Unknown     []string          // columns of the request that the centre does not have; it left their values out
}

func (u *UploadReply) fields(c *coder) {
	number(c, 1, &u.Applied, math.MaxUint64)
	c.counts(2, &u.ByOp)
	list(c, 3, &u.Quarantined, maxValues, 1, (*coder).quarantined)
	c.flag(4, &u.Duplicate)
	u.Reached.fields(c, 5)
	if c.has(u.LeftOut != 0) {
		number(c, 7, &u.LeftOut, math.MaxUint64)
	}
	if c.has(len(u.Unknown) > 0) {
		c.names(8, &u.Unknown)
	}
}

// QuarantinedRow is a row that no operation could apply.
type QuarantinedRow struct {
	Row    uint32 // index in the request's rows, from 0
	Status Status
	Reason string // for a person; cut at 1024 bytes
}

func (c *coder) quarantined(q *QuarantinedRow) {
	if !c.reading {
		c.out = appendHead(c.out, majorArray, 3)
	} else if c.array(3) != 3 {
		c.fail(ErrPayload, "is not row, status, reason")
	}
	number(c, item, &q.Row, math.MaxUint32)
	number(c, item, &q.Status, math.MaxUint16)
	c.note(item, &q.Reason)
}

// DownloadRequest asks for the centre's rows of a table.
type DownloadRequest struct {
	Table   string
	State   []rowset.StateItem // from where; empty: from the start
	MaxRows uint32             // 0: the server's choice
	Fields  []string           // of the client's rule; none when it has SQL of its own
	Held    Held               // the beginning of a message of the reply, from a connection that has ended

	Stateless string // of the v1 wire: why Content has no State; not on the v2 wire
}

func (r *DownloadRequest) fields(c *coder) {
	c.text(1, &r.Table, maxName)
	c.items(2, &r.State, maxState)
	number(c, 3, &r.MaxRows, math.MaxUint32)
	if c.has(len(r.Fields) > 0) {
		c.names(4, &r.Fields)
	}
	r.Held.fields(c, 5)
	c.check(r.Table != "", "no table")
}

// DownloadReply is a part of the answer to a DownloadRequest. All parts but the last have FlagMore.
type DownloadReply struct {
	Statement uint32   // index of the rule's upside statement that returned the rows
	Columns   []string // empty only when Values is
	Types     []string // MySQL type names, one a column
	Values    []any    // row after row; may be empty

	// Only in the last part:
	State []rowset.StateItem // the state to send next time
	More  bool               // more rows follow State: ask again
	Total uint64             // rows in all parts of this answer
}

// Rows returns the part's rows. Those of a part that was decoded have a type for each column.
func (r *DownloadReply) Rows() rowset.Rows {
	rows := rowset.Rows{Columns: r.Columns, Values: r.Values}
	for i, t := range r.Types {
		if t == rowset.Timestamp {
			rows.Instants = append(rows.Instants, r.Columns[i])
		}
	}
	return rows
}

const keyValues = 4 // of a DownloadReply's rows

func (r *DownloadReply) fields(c *coder) {
	r.first(c)
	c.values(keyValues, &r.Values)
	r.last(c)
	c.check(len(r.Types) == len(r.Columns), "not one type a column")
	c.check(r.Rows().Whole(), "the last row is not whole")
}

// first has the fields before the rows, last those after them. RowEncoder writes them separately.
func (r *DownloadReply) first(c *coder) {
	number(c, 1, &r.Statement, math.MaxUint32)
	c.names(2, &r.Columns)
	c.names(3, &r.Types)
}

func (r *DownloadReply) last(c *coder) {
	c.items(5, &r.State, maxState)
	c.flag(6, &r.More)
	number(c, 7, &r.Total, math.MaxUint64)
}

// RulesReply carries the rules that the point itself runs.
type RulesReply struct {
	Version uint64
	Rules   []RuleRow
}

// RuleRow is one row of sync_control: its columns by name, in the table's order.
type RuleRow = []rowset.StateItem

func (r *RulesReply) fields(c *coder) {
	number(c, 1, &r.Version, math.MaxUint64)
	list(c, 2, &r.Rules, maxValues, 1, func(c *coder, row *RuleRow) { c.items(item, row, maxColumns) })
}

// PingReply answers PING and, with FlagMore, SUBSCRIBE.
type PingReply struct {
	RulesVersion uint64
	ClockMs      int64 // the sender's clock, Unix ms
}

func (p *PingReply) fields(c *coder) {
	number(c, 1, &p.RulesVersion, math.MaxUint64)
	number(c, 2, &p.ClockMs, math.MaxInt64)
}

// HeldRequest asks how much the server has of a message in pieces.
type HeldRequest struct{ Digest []byte }

func (r *HeldRequest) fields(c *coder) { c.bytes(1, &r.Digest, sha256.Size) }

// HeldReply says how many bytes have come of the message.
type HeldReply struct{ Bytes uint64 }

func (r *HeldReply) fields(c *coder) { number(c, 1, &r.Bytes, hardMaxMessage) }

// ErrorReply is the payload of every message whose Status is not StatusOK.
type ErrorReply struct {
	Message      string // for a person; cut at 1024 bytes; never has SQL or values
	RetryAfterMs uint32 // 0: no hint
	Reached             // of REQUEST_ID_REUSED to an upload of a stream
}

func (e *ErrorReply) fields(c *coder) {
	c.note(1, &e.Message)
	number(c, 2, &e.RetryAfterMs, math.MaxUint32)
	e.Reached.fields(c, 3)
}

// GoAway announces the end of a connection.
type GoAway struct {
	Reason  string // for a person; cut at 1024 bytes
	GraceMs uint32 // how long the server still sends replies
}

func (g *GoAway) fields(c *coder) {
	c.note(1, &g.Reason)
	number(c, 2, &g.GraceMs, math.MaxUint32)
}

// Digest returns the SHA-256 of the encoded request without Confirmed. The ledger compares it: two tries of one request
// have the same.
func (u *UploadRequest) Digest() ([sha256.Size]byte, error) {
	d := decoder{buf: u.encoded}
	if d.buf == nil {
		var err error
		if d.buf, err = encode(nil, u); err != nil {
			return [sha256.Size]byte{}, err
		}
	}
	d.head()
	at := d.pos
	if d.uint(math.MaxUint64) == 1 {
		d.uint(math.MaxUint64)
		at = d.pos
	}
	return sha256.Sum256(d.buf[at:]), nil
}

// WithConfirmed inserts confirmed into payload, the CBOR of an UploadRequest without Confirmed. An outbox stores
// requests without it, and inserts the newest value at each try. The digest does not change. 0 returns payload itself.
func WithConfirmed(payload []byte, confirmed uint64) ([]byte, error) {
	if confirmed == 0 {
		return payload, nil
	}
	if len(payload) < 2 || payload[0]>>5 != majorMap || payload[0]&31 >= 23 || payload[1] <= 1 {
		return nil, fmt.Errorf("%w: not an upload without confirmed", ErrPayload)
	}
	out := append(make([]byte, 0, len(payload)+10), payload[0]+1, 1)
	return append(appendHead(out, majorUint, confirmed), payload[1:]...), nil
}
