package protocol

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
	"unsafe"
)

// Payloads are CBOR (RFC 8949), in a strict subset with one encoding for each value: definite lengths, shortest heads,
// ascending map keys, no tags, 64-bit finite floats, and null, true and false as the only simple values. The code does
// not use a CBOR library: over a million rows a second pass here, and a library would need a check for the subset.

// Limits of a payload. With the frame's length they bound the memory of a decoded payload: 24 bytes a value and one
// copy of the payload.
const (
	maxValues  = 1 << 21 // SQL values in one payload
	maxColumns = 4096    // columns of a batch: MySQL's own limit
	maxName    = 256     // bytes in the name of a table, column, type or state item: 64 characters of UTF-8
	maxState   = 64      // items of carried state
	maxText    = 1024    // bytes in a text for a person
	maxDepth   = 4       // nesting of an unknown field, which decode skips
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

// appendString writes s as text or as bytes. Strings that are not UTF-8 travel as bytes.
func appendString[S string | []byte](dst []byte, s S, text bool) []byte {
	major := majorBytes
	if text {
		major = majorText
	}
	return append(appendHead(dst, major, uint64(len(s))), s...)
}

// appendValue writes one SQL value from a driver. asText says that a []byte holds the text of a column.
func appendValue(dst []byte, v any, asText bool) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, cborNull), nil
	case int64:
		if v < 0 {
			return appendHead(dst, majorNegative, uint64(^v)), nil
		}
		return appendHead(dst, majorUint, uint64(v)), nil
	case string:
		return appendString(dst, v, utf8.ValidString(v)), nil
	case []byte:
		if v == nil {
			return append(dst, cborNull), nil
		}
		return appendString(dst, v, asText && utf8.Valid(v)), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return dst, fmt.Errorf("%w: %v", ErrValue, v)
		}
		return binary.BigEndian.AppendUint64(append(dst, cborFloat), math.Float64bits(v)), nil
	case uint64:
		return appendHead(dst, majorUint, v), nil
	case float32:
		return appendValue(dst, float64(v), false)
	}
	return dst, fmt.Errorf("%w: %T", ErrValue, v)
}

// largePayload is so many bytes that its texts alias the payload itself.
const largePayload = 4 << 20

// decoder reads one payload. It keeps the first failure in err. Reads after a failure return zero values, so that the
// caller checks err once, at the end; only loops check it themselves.
type decoder struct {
	buf  []byte
	copy string // buf as a string, made for the first text; all texts alias it
	pos  int
	err  error
}

func (d *decoder) fail(kind error, why string) {
	if d.err == nil {
		text := fmt.Sprintf("%s: %s at byte %d", Detail(kind), why, d.pos)
		d.err = &wireError{StatusOf(kind), text, kind}
	}
}

// head reads a head. It returns the first byte, whose upper three bits are the major type, and the argument, which for
// a float is its eight bytes.
func (d *decoder) head() (first byte, n uint64) {
	if d.err != nil || d.pos >= len(d.buf) {
		d.fail(ErrPayload, "ends early")
		return 0, 0
	}
	first = d.buf[d.pos]
	if n = uint64(first & 31); n < 24 {
		d.pos++
		return first, n
	}
	return first, d.longArg(first)
}

// longArg reads the 1, 2, 4 or 8 bytes of a head's argument. It refuses an argument that fits a shorter head.
func (d *decoder) longArg(first byte) (n uint64) {
	if first&31 > 27 {
		d.fail(ErrPayload, "indefinite length")
		return 0
	}
	size := 1 << (first&31 - 24)
	rest := d.buf[d.pos+1:]
	if len(rest) < size {
		d.fail(ErrPayload, "ends early")
		return 0
	}
	for _, b := range rest[:size] {
		n = n<<8 | uint64(b)
	}
	if n < max(24, uint64(1)<<(4*size)) && first != cborFloat {
		d.fail(ErrPayload, "head is not the shortest")
		return 0
	}
	d.pos += 1 + size
	return n
}

// expect reads a head of major type want and returns its argument.
func (d *decoder) expect(want byte, what string) uint64 {
	at := d.pos
	first, n := d.head()
	if d.err == nil && first>>5 != want {
		d.pos = at
		d.fail(ErrPayload, "is not "+what)
		return 0
	}
	return n
}

// uint reads an unsigned integer up to most.
func (d *decoder) uint(most uint64) uint64 {
	n := d.expect(majorUint, "an unsigned integer")
	if n > most {
		d.fail(ErrPayload, "integer over its bound")
		return 0
	}
	return n
}

func (d *decoder) bool() bool {
	first, _ := d.head()
	if first != cborTrue && first != cborFalse {
		d.fail(ErrPayload, "is not a boolean")
	}
	return first == cborTrue
}

// span moves past n bytes and returns their range in buf.
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
	if d.copy == "" && len(d.buf) > largePayload {
		d.copy = unsafe.String(unsafe.SliceData(d.buf), len(d.buf)) // nobody changes a payload
	} else if d.copy == "" {
		d.copy = string(d.buf)
	}
	s := d.copy[from:to]
	if !utf8.ValidString(s) {
		d.fail(ErrPayload, "text is not UTF-8")
		return ""
	}
	return s
}

// text reads a text of up to most bytes.
func (d *decoder) text(most int) string {
	n := d.expect(majorText, "text")
	if n > uint64(most) {
		d.fail(ErrPayload, "text over its bound")
		return ""
	}
	return d.textSpan(n)
}

// array reads the head of an array of up to most elements. An element has at least one byte, so array refuses a length
// beyond the rest of the payload before the caller allocates memory for it.
func (d *decoder) array(most int) int {
	n := d.expect(majorArray, "an array")
	if n > uint64(most) {
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
	first, n := d.head()
	if d.err != nil {
		return nil
	}
	switch first >> 5 {
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
		if f := math.Float64frombits(n); first == cborFloat && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
		if first == cborNull {
			return nil
		}
	}
	d.pos = at
	d.fail(ErrPayload, "is not a SQL value")
	return nil
}

// skip moves past the value of an unknown field.
func (d *decoder) skip(depth int) {
	if depth == maxDepth {
		d.fail(ErrLimit, "nested too deep")
		return
	}
	at := d.pos
	first, n := d.head()
	switch major := first >> 5; {
	case d.err != nil, major == majorNegative, first == cborFalse, first == cborTrue:
	case major == majorArray, major == majorMap:
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
	default:
		d.pos = at
		d.value()
	}
}
