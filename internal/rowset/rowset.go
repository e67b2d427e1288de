// Package rowset holds the words that the wire, the rules and the database share: rows of SQL values, the columns of
// a result, and the named values of a carried state.
//
// A SQL value is nil, int64, uint64 (only above math.MaxInt64), float64 (finite), string or []byte. Strings also carry
// DECIMAL, DATE, DATETIME, TIME, JSON, ENUM and SET in MySQL's own text, exact to the last digit; []byte carries
// BINARY, VARBINARY, BLOB, BIT and GEOMETRY.
package rowset

import (
	"bytes"
	"strings"
	"time"
)

// Rows is a batch of rows in one slice, row after row. len(Values) is a multiple of len(Columns).
type Rows struct {
	Columns  []string
	Values   []any
	Instants []string // the columns of type TIMESTAMP, whose values are in UTC
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

// Whole reports whether Values are whole rows.
func (r Rows) Whole() bool {
	return len(r.Values) == 0 || len(r.Columns) > 0 && len(r.Values)%len(r.Columns) == 0
}

// Timestamp is the Column.Type of instants. Their values are in UTC.
const Timestamp = "TIMESTAMP"

// Column describes a column of a result.
type Column struct {
	Name   string
	Type   string // MySQL's name of the type: "VARCHAR", "UNSIGNED BIGINT", "DATETIME"
	Binary bool   // []byte of the column are bytes, not text
}

// Instant is the value of a TIMESTAMP, in UTC, as the state of a rule with SQL of its own has it. CutInstant takes the
// mark off again. Nothing else says of a value in a state that it is an instant.
func Instant(text string) string { return text + "Z" }

// CutInstant is described with Instant.
func CutInstant(v any) (text string, ok bool) {
	if text, ok = v.(string); ok {
		text, ok = strings.CutSuffix(text, "Z")
	}
	return text, ok && len(text) >= len(time.DateTime) && text[4] == '-' && text[10] == ' '
}

// Instants are the names of the columns whose values are in UTC.
func Instants(columns []Column) (names []string) {
	for _, c := range columns {
		if c.Type == Timestamp {
			names = append(names, c.Name)
		}
	}
	return names
}

// StateItem is one named SQL value: a part of the carried state, or a column of a rule.
type StateItem struct {
	Name  string
	Value any
}

// The columns that a row may have beside its table's, where its changes are recorded.
const (
	ChangeSeq = "sync_seq"     // the number of its last change; it does not leave the side where it was given
	Deleted   = "sync_deleted" // 1: the row is no longer there, and only its key is known; 2: see Caseless
	ChangedAt = "sync_at"      // when it was last changed
)

// Reload is the item of a state whose reader has missed changes and loads the table anew. Rows that are gone meanwhile
// are found when the table is loaded.
const Reload = "sync_reload"

// The values of Deleted besides 0, for a row that is there and whose key has one spelling.
const (
	Gone     int64 = 1
	Caseless int64 = 2 // the row is there; the key's collation takes different letters for the same, as a and A
)

// What an upload is of a read that gives the whole selection of a rule and not what is new in it. 0: the rule reads on
// from where it was.
const (
	PartOfAll = 1 << iota // the upload is a part of such a read
	FirstPart
	LastPart

	All = PartOfAll | FirstPart | LastPart
)

// valueOverhead is the most bytes that CBOR puts before a value: a head and eight bytes.
const valueOverhead = 9

// Size is the most bytes that a row takes in a payload. In a packet of MySQL's a row takes about as much.
func Size(values []any) int {
	n := valueOverhead * len(values)
	for _, v := range values {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

// AppendCopy appends a row to dst and copies its []byte, which a driver lends for the length of a call.
func AppendCopy(dst, values []any) []any {
	for _, v := range values {
		if b, ok := v.([]byte); ok {
			v = bytes.Clone(b)
		}
		dst = append(dst, v)
	}
	return dst
}
