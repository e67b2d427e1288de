package pyliteral

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
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
		if d == Python2 {
			dst = append(dst, 'u')
		}
		return appendText(dst, string(x), d)
	case Str:
		if d == Python2 {
			return appendBytes(dst, string(x)), nil
		}
		return appendText(dst, string(x), d)
	case Bytes:
		if d != Python2 {
			dst = append(dst, 'b')
		}
		return appendBytes(dst, string(x)), nil
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
		return appendFloat(dst, x, -1, 16), nil
	case Decimal:
		s, ok := canonicalDecimal(string(x))
		if !ok {
			return dst, fmt.Errorf("%w: no decimal number", ErrValue)
		}
		return append(append(append(dst, "Decimal('"...), s...), "')"...), nil
	case DateTime:
		return appendCall(dst, "datetime", 5, x.Year, x.Month, x.Day, x.Hour, x.Minute, x.Second, x.Microsecond), nil
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

// appendFloat appends f with so many digits behind the first, or with the fewest that read back as f when digits is -1;
// with an exponent from 1e-5 down and from 1e(most) up.
func appendFloat(dst []byte, f float64, digits, most int) []byte {
	trim := func(s string) string {
		if strings.Contains(s, ".") {
			return strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	mantissa, e, _ := strings.Cut(strconv.FormatFloat(f, 'e', digits, 64), "e")
	exp, _ := strconv.Atoi(e)
	if exp < -4 || exp >= most {
		return append(dst, trim(mantissa)+"e"+e...)
	}
	if digits >= 0 {
		digits -= exp
	}
	s := trim(strconv.FormatFloat(f, 'f', digits, 64))
	if dst = append(dst, s...); !strings.Contains(s, ".") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// appendQuote appends the quote that Python chooses and returns it: the double one when there is a single one inside
// and no double one.
func appendQuote(dst []byte, s string) ([]byte, byte) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	return append(dst, quote), quote
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

func appendBytes(dst []byte, s string) []byte {
	dst, quote := appendQuote(dst, s)
	for i := range len(s) {
		if c := s[i]; c < 0x80 {
			dst = appendASCII(dst, c, quote)
		} else {
			dst = appendHex(dst, 'x', 2, rune(c))
		}
	}
	return append(dst, quote)
}

func appendText(dst []byte, s string, d Dialect) ([]byte, error) {
	dst, quote := appendQuote(dst, s)
	for len(s) > 0 {
		r, n, ok := decodeRune(s)
		switch {
		case !ok:
			return dst, fmt.Errorf("%w: text that is not UTF-8", ErrValue)
		case r < 0x80:
			dst = appendASCII(dst, byte(r), quote)
		case d != Python2 && printable(r, d):
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

// AppendStr appends exactly what the dialect's str prints for v: for text its characters, for a date or time its ISO
// form, for a container its repr. Python 2 has no str of a Unicode beyond ASCII; that is an error like those of Append.
func AppendStr(dst []byte, v Value, d Dialect) ([]byte, error) {
	switch x := v.(type) {
	case Str:
		return append(dst, x...), nil
	case Unicode:
		for i := range len(x) {
			if d == Python2 && x[i] >= 0x80 {
				return dst, fmt.Errorf("%w: str of a unicode beyond ASCII", ErrValue)
			}
		}
		return append(dst, x...), nil
	case Bytes:
		if d == Python2 {
			return append(dst, x...), nil
		}
	case Long:
		return strconv.AppendInt(dst, int64(x), 10), nil
	case *big.Int:
		return x.Append(dst, 10), nil
	}
	if t, ok := v.(moment); ok && !t.valid() {
		return dst, fmt.Errorf("%w: no such date or time", ErrValue)
	}
	switch x := v.(type) {
	case float64:
		if d == Python2 && !math.IsInf(x, 0) && !math.IsNaN(x) {
			return appendFloat(dst, x, 11, 11), nil
		}
	case Decimal:
		if s, ok := canonicalDecimal(string(x)); ok {
			return append(dst, s...), nil
		}
	case Date:
		return appendDay(dst, x), nil
	case Time:
		return appendClock(dst, "%02d", x), nil
	case DateTime:
		return appendClock(append(appendDay(dst, x.date()), ' '), "%02d", x.clock()), nil
	case TimeDelta:
		switch x.Days {
		case 0:
		case 1, -1:
			dst = fmt.Appendf(dst, "%d day, ", x.Days)
		default:
			dst = fmt.Appendf(dst, "%d days, ", x.Days)
		}
		return appendClock(dst, "%d", Time{x.Seconds / 3600, x.Seconds / 60 % 60, x.Seconds % 60, x.Microseconds}), nil
	}
	return Append(dst, v, d)
}

func appendDay(dst []byte, d Date) []byte {
	return fmt.Appendf(dst, "%04d-%02d-%02d", d.Year, d.Month, d.Day)
}

// appendClock appends a time of day, the microseconds only where there are any.
func appendClock(dst []byte, hour string, t Time) []byte {
	dst = fmt.Appendf(dst, hour+":%02d:%02d", t.Hour, t.Minute, t.Second)
	if t.Microsecond != 0 {
		dst = fmt.Appendf(dst, ".%06d", t.Microsecond)
	}
	return dst
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
