package pyliteral

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"unicode"
)

// Append appends exactly what the dialect's repr prints for v. A dict is printed in the order it was written; Python 2
// prints its own in the order of their hashes, so a text that Python 2 must print again holds no dict of more than one
// pair. The error wraps ErrValue.
func Append(dst []byte, v Value, d Dialect) ([]byte, error) {
	switch x := v.(type) {
	case Tuple:
		return appendItems(dst, x, d, '(', ')')
	case List:
		return appendItems(dst, x, d, '[', ']')
	case Dict:
		return appendDict(dst, x, d)
	case Unicode:
		return AppendText(dst, string(x), true, d)
	case Str:
		return AppendText(dst, string(x), false, d)
	case Bytes:
		if d != Python2 {
			dst = append(dst, 'b')
		}
		return appendText(dst, string(x), false, d)
	case Long:
		dst = strconv.AppendInt(dst, int64(x), 10)
		if d == Python2 {
			dst = append(dst, 'L')
		}
		return dst, nil
	case *big.Int:
		dst = x.Append(dst, 10)
		if d == Python2 && !x.IsInt64() {
			dst = append(dst, 'L')
		}
		return dst, nil
	}
	return appendScalar(dst, v, d)
}

// appendScalar appends the values that both Pythons print alike, and timedelta.
func appendScalar(dst []byte, v Value, d Dialect) ([]byte, error) {
	if t, ok := v.(moment); ok && !t.valid() {
		return dst, fmt.Errorf("%w: no such date, time or timedelta", ErrValue)
	}
	switch x := v.(type) {
	case nil:
		return append(dst, "None"...), nil
	case bool:
		if x {
			return append(dst, "True"...), nil
		}
		return append(dst, "False"...), nil
	case int64:
		return strconv.AppendInt(dst, x, 10), nil
	case float64:
		if math.IsInf(x, 0) || math.IsNaN(x) {
			return dst, fmt.Errorf("%w: a float that is not finite", ErrValue)
		}
		return appendFloat(dst, x), nil
	case Decimal:
		s, ok := canonicalDecimal(string(x))
		if !ok {
			return dst, fmt.Errorf("%w: no decimal number", ErrValue)
		}
		return append(append(append(dst, "Decimal('"...), s...), "')"...), nil
	case DateTime:
		dst, _ = AppendDateTime(dst, x) // it is valid
		return dst, nil
	case Date:
		return appendCall(dst, "date", 3, x.Year, x.Month, x.Day), nil
	case Time:
		return appendCall(dst, "time", 2, x.Hour, x.Minute, x.Second, x.Microsecond), nil
	case TimeDelta:
		return appendTimeDelta(dst, x, d), nil
	}
	return dst, fmt.Errorf("%w: Go type %T", ErrValue, v)
}

func appendItems(dst []byte, items []Value, d Dialect, open, close byte) ([]byte, error) {
	dst = append(dst, open)
	var err error
	for i, e := range items {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if dst, err = Append(dst, e, d); err != nil {
			return dst, err
		}
	}
	if open == '(' && len(items) == 1 {
		dst = append(dst, ',')
	}
	return append(dst, close), nil
}

func appendDict(dst []byte, x Dict, d Dialect) ([]byte, error) {
	dst = append(dst, '{')
	var err error
	for i := 0; i+1 < len(x); i += 2 {
		if _, hashable := keyOf(x[i]); !hashable {
			return dst, fmt.Errorf("%w: a key that Python can't hash", ErrValue)
		}
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if dst, err = Append(dst, x[i], d); err != nil {
			return dst, err
		}
		if dst, err = Append(append(dst, ": "...), x[i+1], d); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendCall appends datetime.kind(…) without the parts that are 0 at the end, of which datetime and time drop seconds
// and microseconds only: the first keep parts always stand.
func appendCall(dst []byte, kind string, keep int, parts ...int) []byte {
	for len(parts) > keep && parts[len(parts)-1] == 0 {
		parts = parts[:len(parts)-1]
	}
	dst = append(append(append(dst, "datetime."...), kind...), '(')
	for i, n := range parts {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	return append(dst, ')')
}

func appendTimeDelta(dst []byte, x TimeDelta, d Dialect) []byte {
	if d <= Python36 {
		return appendCall(dst, "timedelta", 1, x.Days, x.Seconds, x.Microseconds)
	}
	var parts []string
	for i, n := range [...]int{x.Days, x.Seconds, x.Microseconds} {
		if n != 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", timedeltaParts[i], n))
		}
	}
	if parts == nil {
		parts = []string{"0"}
	}
	return append(dst, "datetime.timedelta("+strings.Join(parts, ", ")+")"...)
}

// appendFloat appends the fewest digits that read back as f, with an exponent below 1e-4 and from 1e16 up.
func appendFloat(dst []byte, f float64) []byte {
	if size := math.Abs(f); f != 0 && (size < 1e-4 || size >= 1e16) {
		return strconv.AppendFloat(dst, f, 'e', -1, 64)
	}
	start := len(dst)
	if dst = strconv.AppendFloat(dst, f, 'f', -1, 64); bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, ".0"...)
	}
	return dst
}

// appendASCII appends a character below 0x80, escaped where it must be.
func appendASCII(dst []byte, c, quote byte) []byte {
	switch {
	case c == quote || c == '\\':
		return append(dst, '\\', c)
	case c == '\t':
		return append(dst, `\t`...)
	case c == '\n':
		return append(dst, `\n`...)
	case c == '\r':
		return append(dst, `\r`...)
	case c < ' ' || c == 0x7f:
		return appendHex(dst, 'x', 2, rune(c))
	}
	return append(dst, c)
}

// appendHex appends an escape of so many digits.
func appendHex(dst []byte, letter byte, digits int, r rune) []byte {
	dst = append(dst, '\\', letter)
	for digits--; digits >= 0; digits-- {
		dst = append(dst, "0123456789abcdef"[r>>(4*digits)&15])
	}
	return dst
}

// AppendText is Append of a Unicode or a Str.
func AppendText(dst []byte, s string, unicode bool, d Dialect) ([]byte, error) {
	if unicode && d == Python2 {
		dst = append(dst, 'u')
	}
	return appendText(dst, s, unicode || d != Python2, d)
}

// AppendDateTime is Append of a DateTime; ok is false when there is no such moment.
func AppendDateTime(dst []byte, t DateTime) (text []byte, ok bool) {
	if !t.valid() {
		return dst, false
	}
	return appendCall(dst, "datetime", 5, t.Year, t.Month, t.Day, t.Hour, t.Minute, t.Second, t.Microsecond), true
}

// plain is how many bytes at the beginning of s are characters that stand for themselves.
func plain(s string, quote byte) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == quote || c == '\\' {
			return i
		}
	}
	return len(s)
}

// appendText appends s in the quotes that Python chooses: the double ones when there is a single one inside and no
// double one. wide says that s is text, and not bytes.
func appendText(dst []byte, s string, wide bool, d Dialect) ([]byte, error) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	dst = append(dst, quote)
	for len(s) > 0 {
		if n := plain(s, quote); n > 0 {
			dst, s = append(dst, s[:n]...), s[n:]
			continue
		}
		r, n, ok := rune(s[0]), 1, true
		if wide {
			r, n, ok = decodeRune(s)
		}
		switch {
		case !ok:
			return dst, fmt.Errorf("%w: text that is not UTF-8", ErrValue)
		case r < 0x80:
			dst = appendASCII(dst, byte(r), quote)
		case wide && d != Python2 && printable(r, d):
			dst = append(dst, s[:n]...)
		case r <= 0xff:
			dst = appendHex(dst, 'x', 2, r)
		case r <= 0xffff:
			dst = appendHex(dst, 'u', 4, r)
		default:
			dst = appendHex(dst, 'U', 8, r)
		}
		s = s[n:]
	}
	return append(dst, quote), nil
}

// canonicalDecimal returns a finite decimal number as decimal.Decimal prints it: the to-scientific-string conversion of
// the General Decimal Arithmetic Specification. 0.0000001 becomes 1E-7, and 0.0000000000 becomes 0E-10.
func canonicalDecimal(s string) (string, bool) {
	rest, sign := strings.TrimPrefix(s, "+"), ""
	if strings.HasPrefix(s, "-") {
		rest, sign = s[1:], "-"
	}
	exp := 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		n, err := strconv.ParseInt(rest[i+1:], 10, 32)
		if err != nil {
			return "", false
		}
		exp, rest = int(n), rest[:i]
	}
	whole, frac, _ := strings.Cut(rest, ".")
	digits := whole + frac
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	exp -= len(frac)
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		digits = "0"
	}
	point := len(digits) + exp // digits before the decimal point
	switch {
	case (exp > 0 || point < -5) && len(digits) > 1:
		return fmt.Sprintf("%s%s.%sE%+d", sign, digits[:1], digits[1:], point-1), true
	case exp > 0 || point < -5:
		return fmt.Sprintf("%s%sE%+d", sign, digits, point-1), true
	case exp == 0:
		return sign + digits, true
	case point > 0:
		return sign + digits[:point] + "." + digits[point:], true
	}
	return sign + "0." + strings.Repeat("0", -point) + digits, true
}

// printable reports whether that Python's repr of text shows r as it is (str.isprintable): letters, marks, numbers,
// punctuation and symbols of the Unicode version it was built with, and the space.
func printable(r rune, d Dialect) bool {
	if r < 0x80 {
		return r >= ' ' && r < 0x7f
	}
	i := sort.Search(len(since), func(i int) bool { return since[i].last >= r })
	if i < len(since) && since[i].first <= r {
		return d >= since[i].in
	}
	return unicode.IsPrint(r)
}

// sinceText lists, in order, the code points that became printable after CPython 3.6 (Unicode 9.0), and in which
// CPython they did: 3.7 has Unicode 11.0, 3.8 12.1, 3.9 and 3.10 13.0, 3.11 14.0, 3.12 15.0, 3.13 15.1. None ever
// ceased to be. What is not listed is as in Go's own tables.
//
//go:embed printable.txt
var sinceText string

type span struct {
	first, last rune
	in          Dialect
}

var since = readSince(sinceText)

func readSince(text string) (all []span) {
	for line := range strings.Lines(text) {
		var s span
		var name string
		if _, err := fmt.Sscanf(line, "%x %x %s", &s.first, &s.last, &name); err != nil {
			panic(err)
		}
		s.in, _ = ParseDialect(name)
		all = append(all, s)
	}
	return all
}
