package protocol

// A SQL value is nil, int64, uint64 (only above math.MaxInt64), float64 (finite), string or []byte. Strings are valid
// UTF-8 and also carry DECIMAL, DATE, DATETIME, TIME, JSON, ENUM and SET in MySQL's own text, exact to the last digit;
// []byte carries BINARY, VARBINARY, BLOB, BIT and GEOMETRY.

// Rows is a batch of rows in one slice, row after row. len(Values) is a multiple of len(Columns).
type Rows struct {
	Columns []string
	Values  []any
}

// Len is the number of rows; 0 when there is no column.
func (r Rows) Len() int {
	if len(r.Columns) == 0 {
		return 0
	}
	return len(r.Values) / len(r.Columns)
}

// Row is the i-th row, an alias of Values.
func (r Rows) Row(i int) []any {
	n := len(r.Columns)
	return r.Values[i*n : (i+1)*n : (i+1)*n]
}

// StateItem is one named SQL value: a part of the carried state, or a column of a rule.
type StateItem struct {
	Name  string
	Value any
}

// UploadRequest asks that rows be applied at the centre, once.
type UploadRequest struct {
	// Confirmed: every sequence of this request's epoch up to and including it was seen acknowledged by the agent, and
	// the centre may forget it. 0: nothing yet. It is not part of Digest, since it grows between two tries.
	Confirmed uint64
	Table     string
	// Rows: Columns name the fields. The seed era sends none; there Columns holds one empty name a column, and the
	// rule's own field order holds.
	Rows Rows

	encoded []byte // what Digest is over, when this came off the wire
}

// UploadReply says what became of an upload.
type UploadReply struct {
	Applied     uint64            // rows an operation took
	ByOp        map[string]uint64 // of them, by operation: insert, update, delete, replace, file
	Quarantined []QuarantinedRow  // rows no operation took; kept at the centre for a person
	Duplicate   bool              // the request had been done before: this is the stored reply
}

// QuarantinedRow is one row that was put aside.
type QuarantinedRow struct {
	Row    uint32 // index in the request's rows, from 0
	Status Status
	Reason string // for a person; at most 1024 bytes, longer is cut
}

// DownloadRequest asks for the centre's rows of a table.
type DownloadRequest struct {
	Table   string
	State   []StateItem // from where; empty: from the start
	MaxRows uint32      // 0: the server's choice
}

// DownloadReply is a part of the answer to a DownloadRequest. Parts come with FlagMore, the last one without.
type DownloadReply struct {
	Statement uint32   // which of the rule's upside statements the rows are of, from 0
	Columns   []string // may be empty only when Values is
	Types     []string // MySQL type names, one a column
	Values    []any    // row after row; may be empty

	// Of the last part only.
	State []StateItem // carry this next time
	More  bool        // rows are left: ask again from State
	Total uint64      // rows in all parts of this answer
}

// Rows is the part's rows.
func (r *DownloadReply) Rows() Rows { return Rows{Columns: r.Columns, Values: r.Values} }

// RulesReply carries the point's own client-side rules.
type RulesReply struct {
	Version uint64
	Rules   []RuleRow
}

// RuleRow is one row of sync_control: its columns by name, in the table's order.
type RuleRow []StateItem

// PingReply answers PING and, with FlagMore, SUBSCRIBE.
type PingReply struct {
	RulesVersion uint64
	ClockMs      int64 // sender's clock, Unix ms
}

// ErrorReply is the payload of every message whose Status is not StatusOK.
type ErrorReply struct {
	Message      string // for a person; at most 1024 bytes, longer is cut; never holds SQL or values
	RetryAfterMs uint32 // 0: no hint
}

// GoAway tells a client that this connection ends.
type GoAway struct {
	Reason  string // for a person; at most 1024 bytes, longer is cut
	GraceMs uint32 // replies to requests in flight come for this long
}

// UploadRequest is the message's payload as an UploadRequest.
func (m *Message) UploadRequest() (*UploadRequest, error) {
	return bodyOf(m, (*decoder).uploadRequest)
}

// UploadReply is the message's payload as an UploadReply.
func (m *Message) UploadReply() (*UploadReply, error) { return bodyOf(m, (*decoder).uploadReply) }

// DownloadRequest is the message's payload as a DownloadRequest.
func (m *Message) DownloadRequest() (*DownloadRequest, error) {
	return bodyOf(m, (*decoder).downloadRequest)
}

// DownloadReply is the message's payload as a DownloadReply.
func (m *Message) DownloadReply() (*DownloadReply, error) {
	return bodyOf(m, (*decoder).downloadReply)
}

// RulesReply is the message's payload as a RulesReply.
func (m *Message) RulesReply() (*RulesReply, error) { return bodyOf(m, (*decoder).rulesReply) }

// PingReply is the message's payload as a PingReply; an empty payload is a zero one.
func (m *Message) PingReply() (*PingReply, error) { return bodyOf(m, (*decoder).pingReply) }

// ErrorReply is the payload of a message whose Status is not StatusOK.
func (m *Message) ErrorReply() (*ErrorReply, error) { return bodyOf(m, (*decoder).errorReply) }

// GoAway is the message's payload as a GoAway.
func (m *Message) GoAway() (*GoAway, error) { return bodyOf(m, (*decoder).goAway) }
