package protocol

import (
	"crypto/sha256"
	"fmt"
	"math"

	"syncgate/internal/rowset"
)

// UploadRequest asks that rows be applied at the centre, once.
type UploadRequest struct {
	// Confirmed: every sequence of this request's epoch up to and including it was seen acknowledged by the agent, and
	// the centre may forget it. 0: nothing yet. It is not part of Digest, since it grows between two tries.
	Confirmed uint64
	Table     string
	// Rows: Columns name the fields. The seed era sends none; there Columns holds one empty name a column, and the
	// rule's own field order holds.
	Rows rowset.Rows

	encoded []byte // the payload, when this came off the wire
}

func (u *UploadRequest) fields(c *coder) {
	if c.reading {
		u.encoded = c.buf
	}
	if c.reading || u.Confirmed != 0 {
		number(c, 1, &u.Confirmed, math.MaxUint64)
	}
	c.text(2, &u.Table, maxName)
	c.names(3, &u.Rows.Columns)
	c.values(4, &u.Rows.Values)
	c.check(u.Table != "", "no table")
	c.check(u.Rows.Whole(), "values are no whole rows")
}

// UploadReply says what became of an upload.
type UploadReply struct {
	Applied     uint64            // rows an operation took
	ByOp        map[string]uint64 // of them, by operation: insert, update, delete, replace, file
	Quarantined []QuarantinedRow  // rows no operation took; kept at the centre for a person
	Duplicate   bool              // the request had been done before: this is the stored reply
}

func (u *UploadReply) fields(c *coder) {
	number(c, 1, &u.Applied, math.MaxUint64)
	c.counts(2, &u.ByOp)
	list(c, 3, &u.Quarantined, maxValues, 1, (*coder).quarantined)
	c.flag(4, &u.Duplicate)
}

// QuarantinedRow is one row that was put aside.
type QuarantinedRow struct {
	Row    uint32 // index in the request's rows, from 0
	Status Status
	Reason string // for a person; at most 1024 bytes, longer is cut
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
}

func (r *DownloadRequest) fields(c *coder) {
	c.text(1, &r.Table, maxName)
	c.items(2, &r.State, maxState)
	number(c, 3, &r.MaxRows, math.MaxUint32)
	c.check(r.Table != "", "no table")
}

// DownloadReply is a part of the answer to a DownloadRequest. Parts come with FlagMore, the last one without.
type DownloadReply struct {
	Statement uint32   // which of the rule's upside statements the rows are of, from 0
	Columns   []string // may be empty only when Values is
	Types     []string // MySQL type names, one a column
	Values    []any    // row after row; may be empty

	// Of the last part only.
	State []rowset.StateItem // carry this next time
	More  bool               // rows are left: ask again from State
	Total uint64             // rows in all parts of this answer
}

// Rows is the part's rows.
func (r *DownloadReply) Rows() rowset.Rows { return rowset.Rows{Columns: r.Columns, Values: r.Values} }

func (r *DownloadReply) fields(c *coder) {
	r.first(c)
	c.values(4, &r.Values)
	r.last(c)
	c.check(len(r.Types) == len(r.Columns), "as many types as columns are needed")
	c.check(r.Rows().Whole(), "values are no whole rows")
}

// first are the fields before the rows, last those after them; a RowEncoder writes them apart.
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

// RulesReply carries the point's own client-side rules.
type RulesReply struct {
	Version uint64
	Rules   []RuleRow
}

// RuleRow is one row of sync_control: its columns by name, in the table's order.
type RuleRow []rowset.StateItem

func (r *RulesReply) fields(c *coder) {
	number(c, 1, &r.Version, math.MaxUint64)
	list(c, 2, &r.Rules, maxValues, 1, func(c *coder, row *RuleRow) { c.items(item, (*[]rowset.StateItem)(row), maxColumns) })
}

// PingReply answers PING and, with FlagMore, SUBSCRIBE.
type PingReply struct {
	RulesVersion uint64
	ClockMs      int64 // sender's clock, Unix ms
}

func (p *PingReply) fields(c *coder) {
	number(c, 1, &p.RulesVersion, math.MaxUint64)
	number(c, 2, &p.ClockMs, math.MaxInt64)
}

// ErrorReply is the payload of every message whose Status is not StatusOK.
type ErrorReply struct {
	Message      string // for a person; at most 1024 bytes, longer is cut; never holds SQL or values
	RetryAfterMs uint32 // 0: no hint
}

func (e *ErrorReply) fields(c *coder) {
	c.note(1, &e.Message)
	number(c, 2, &e.RetryAfterMs, math.MaxUint32)
}

// GoAway tells a client that this connection ends.
type GoAway struct {
	Reason  string // for a person; at most 1024 bytes, longer is cut
	GraceMs uint32 // replies to requests in flight come for this long
}

func (g *GoAway) fields(c *coder) {
	c.note(1, &g.Reason)
	number(c, 2, &g.GraceMs, math.MaxUint32)
}

// Digest is SHA-256 over the request's encoding without Confirmed: equal for two tries of one request, different when
// anything else differs. It is what the ledger compares.
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

// WithConfirmed returns payload, the CBOR of an UploadRequest made without Confirmed, with that value put in. An outbox
// keeps requests so and fills in the newest value at each try; the digest does not change. 0 returns payload itself.
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
