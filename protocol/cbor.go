package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// The payload's CBOR (RFC 8949) is a strict subset with one encoding a value: definite lengths, shortest heads, map
// keys ascending, no tags, 64-bit finite floats, null, true and false as the only simple values. It is written and
// read by hand, since rows pass here at over a million a second and one strict reader is easier to trust than two.

// Limits of a payload. Together with the frame's length they bound what decoding may allocate: 16 bytes a value and
// one copy of the payload.
const (
	MaxValues  = 1 << 21 // SQL values in one payload
	MaxColumns = 4096    // columns of a batch, as MySQL's own limit
	MaxName    = 256     // bytes in the name of a table, column, type or state item: 64 characters of UTF-8
	MaxState   = 64      // items of carried state
	MaxText    = 1024    // bytes in a text for a person
	maxDepth   = 4       // nesting of what a newer peer added and this one skips
	maxOps     = 16      // operations counted in an UploadReply
)

const (
	majorUint byte = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	_ // tag
	majorSimple
)

const (
	cborFalse byte = 0xf4
	cborTrue  byte = 0xf5
	cborNull  byte = 0xf6
	cborFloat byte = 0xfb
)

// appendHead writes the shortest head (RFC 8949, 4.2.1).
func appendHead(dst []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n <= math.MaxUint8:
		return append(dst, major|24, byte(n))
	case n <= math.MaxUint16:
		return append(dst, major|25, byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

func appendUint(dst []byte, n uint64) []byte { return appendHead(dst, majorUint, n) }

func appendInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendHead(dst, majorNegative, uint64(^n))
	}
	return appendHead(dst, majorUint, uint64(n))
}

// appendText writes a text string, or bytes where s is not UTF-8: a value is neither refused nor changed for that.
func appendText(dst []byte, s string) []byte {
	major := majorText
	if !utf8.ValidString(s) {
		major = majorBytes
	}
	return append(appendHead(dst, major, uint64(len(s))), s...)
}

// appendTextBytes is appendText for a text in a driver's buffer.
func appendTextBytes(dst, s []byte) []byte {
	major := majorText
	if !utf8.Valid(s) {
		major = majorBytes
	}
	return append(appendHead(dst, major, uint64(len(s))), s...)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, cborTrue)
	}
	return append(dst, cborFalse)
}

// appendValue writes one SQL value as a driver gives it. asText says that []byte holds the text of a column.
func appendValue(dst []byte, v any, asText bool) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, cborNull), nil
	case int64:
		return appendInt(dst, v), nil
	case string:
		return appendText(dst, v), nil
	case []byte:
		switch {
		case v == nil:
			return append(dst, cborNull), nil
		case asText:
			return appendTextBytes(dst, v), nil
		}
		return append(appendHead(dst, majorBytes, uint64(len(v))), v...), nil
	case float64:
		return appendFloat(dst, v)
	case uint64:
		return appendUint(dst, v), nil
	case float32:
		return appendFloat(dst, float64(v))
	}
	return dst, fmt.Errorf("%w: %T", ErrValue, v)
}

func appendFloat(dst []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return dst, fmt.Errorf("%w: %v", ErrValue, f)
	}
	return binary.BigEndian.AppendUint64(append(dst, cborFloat), math.Float64bits(f)), nil
}

// decoder reads one payload. The first failure is kept in err and every read after it gives a zero value, so a reader
// of a payload checks once, at its end; only loops must look at err themselves.
type decoder struct {
	buf   []byte
	text  string // buf as a string, made at the first text; all texts alias it
	pos   int
	keyAt int // where the key that fields read last begins
	err   error
}

func (d *decoder) fail(kind error, why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s at byte %d", kind, why, d.pos)
	}
}

// head reads a head and moves past it; for majorSimple the argument is not read.
func (d *decoder) head() (major byte, n uint64) {
	if d.err != nil {
		return 0, 0
	}
	if d.pos >= len(d.buf) {
		d.fail(ErrPayload, "ends early")
		return 0, 0
	}
	first := d.buf[d.pos]
	major, n = first>>5, uint64(first&31)
	if n < 24 || major == majorSimple {
		d.pos++
		return major, n
	}
	return major, d.longArg(n)
}

// longArg reads the 1, 2, 4 or 8 bytes of a head's argument and refuses one that a shorter head would have held.
func (d *decoder) longArg(info uint64) uint64 {
	if info > 27 {
		d.fail(ErrPayload, "indefinite length")
		return 0
	}
	size := 1 << (info - 24)
	rest := d.buf[d.pos+1:]
	if len(rest) < size {
		d.fail(ErrPayload, "ends early")
		return 0
	}
	var n, least uint64
	switch size {
	case 1:
		n, least = uint64(rest[0]), 24
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(rest)), math.MaxUint8+1
	case 4:
		n, least = uint64(binary.BigEndian.Uint32(rest)), math.MaxUint16+1
	default:
		n, least = binary.BigEndian.Uint64(rest), math.MaxUint32+1
	}
	if n < least {
		d.fail(ErrPayload, "head is not the shortest")
		return 0
	}
	d.pos += 1 + size
	return n
}

// expect reads a head of that major type.
func (d *decoder) expect(want byte, what string) uint64 {
	at := d.pos
	major, n := d.head()
	if d.err == nil && major != want {
		d.pos = at
		d.fail(ErrPayload, "is not "+what)
		return 0
	}
	return n
}

func (d *decoder) uint() uint64 { return d.expect(majorUint, "an unsigned integer") }

// uintMax reads an unsigned integer up to max.
func (d *decoder) uintMax(max uint64) uint64 {
	n := d.uint()
	if n > max {
		d.fail(ErrPayload, "integer over its bound")
		return 0
	}
	return n
}

func (d *decoder) bool() bool {
	if d.err == nil && d.pos < len(d.buf) {
		switch d.buf[d.pos] {
		case cborTrue:
			d.pos++
			return true
		case cborFalse:
			d.pos++
			return false
		}
	}
	d.fail(ErrPayload, "is not a boolean")
	return false
}

// span moves past n bytes of a string and returns where they are.
func (d *decoder) span(n uint64) (from, to int) {
	if n > uint64(len(d.buf)-d.pos) {
		d.fail(ErrPayload, "ends early")
		return 0, 0
	}
	from = d.pos
	d.pos += int(n)
	return from, d.pos
}

func (d *decoder) textSpan(n uint64) string {
	from, to := d.span(n)
	if from == to {
		return ""
	}
	if d.text == "" {
		d.text = string(d.buf)
	}
	s := d.text[from:to]
	if !utf8.ValidString(s) {
		d.fail(ErrPayload, "text is not UTF-8")
		return ""
	}
	return s
}

// textMax reads a text of up to max bytes.
func (d *decoder) textMax(max int) string {
	n := d.expect(majorText, "text")
	if n > uint64(max) {
		d.fail(ErrPayload, "text over its bound")
		return ""
	}
	return d.textSpan(n)
}

// array reads the head of an array of up to max elements. Each element has a byte at least, so a length that the rest
// of the payload cannot hold is refused before anything is allocated for it.
func (d *decoder) array(max int) int {
	n := d.expect(majorArray, "an array")
	if n > uint64(max) {
		d.fail(ErrLimit, "array too long")
		return 0
	}
	if n > uint64(len(d.buf)-d.pos) {
		d.fail(ErrPayload, "ends early")
		return 0
	}
	return int(n)
}

// value reads one SQL value.
func (d *decoder) value() any {
	at := d.pos
	major, n := d.head()
	if d.err != nil {
		return nil
	}
	switch major {
	case majorText:
		return d.textSpan(n)
	case majorUint:
		if n > math.MaxInt64 {
			return n
		}
		return int64(n)
	case majorNegative:
		if n <= math.MaxInt64 {
			return ^int64(n)
		}
	case majorBytes:
		from, to := d.span(n)
		return d.buf[from:to:to]
	case majorSimple:
		switch d.buf[at] {
		case cborNull:
			return nil
		case cborFloat:
			return d.float()
		}
	}
	d.pos = at
	d.fail(ErrPayload, "is not a SQL value")
	return nil
}

func (d *decoder) float() float64 {
	from, to := d.span(8)
	if from == to {
		return 0
	}
	f := math.Float64frombits(binary.BigEndian.Uint64(d.buf[from:to]))
	if math.IsNaN(f) || math.IsInf(f, 0) {
		d.fail(ErrPayload, "float is not finite")
		return 0
	}
	return f
}

// fields reads a map with small unsigned keys in ascending order, which also makes a key twice impossible, and then
// the payload must end. read is called at each value and must read it.
func (d *decoder) fields(read func(key uint64)) {
	n := d.expect(majorMap, "a map")
	next := uint64(0)
	for range n {
		d.keyAt = d.pos
		key := d.uint()
		if d.err == nil && key < next {
			d.fail(ErrPayload, "keys not ascending")
		}
		if d.err != nil {
			return
		}
		next = key + 1
		read(key)
	}
	if d.err == nil && d.pos != len(d.buf) {
		d.fail(ErrPayload, "bytes left over")
	}
}

// skip moves past a value that this version does not know.
func (d *decoder) skip(depth int) {
	if depth == maxDepth {
		d.fail(ErrLimit, "nested too deep")
		return
	}
	at := d.pos
	major, n := d.head()
	switch major {
	case majorBytes:
		d.span(n)
	case majorText:
		d.textSpan(n)
	case majorArray, majorMap:
		if n > uint64(len(d.buf)) {
			d.fail(ErrPayload, "ends early")
			return
		}
		for range n * uint64(major-majorArray+1) {
			if d.err != nil {
				return
			}
			d.skip(depth + 1)
		}
	case majorUint, majorNegative:
	default:
		d.skipSimple(at)
	}
}

func (d *decoder) skipSimple(at int) {
	if d.err != nil {
		return
	}
	switch d.buf[at] {
	case cborFalse, cborTrue, cborNull:
	case cborFloat:
		d.float()
	default:
		d.pos = at
		d.fail(ErrPayload, "tag or simple value")
	}
}
