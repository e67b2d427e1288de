package pyliteral

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
)

// AppendStr appends exactly what the dialect's str prints for v: for text its
// characters, for a date or time its ISO form, for a container its repr. Python
// 2 has no str of a Unicode beyond ASCII; that is an error like those of
// Append.
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
	if t, ok := v.(interface{ valid() bool }); ok && !t.valid() {
		return dst, fmt.Errorf("%w: no such date or time", ErrValue)
	}
	switch x := v.(type) {
	case float64:
		if d == Python2 && !math.IsInf(x, 0) && !math.IsNaN(x) {
			return appendFloat(dst, x, 12), nil
		}
	case Decimal:
		if s, ok := canonicalDecimal(string(x)); ok {
			return append(dst, s...), nil
		}
	case Date:
		return appendDay(dst, x), nil
	case Time:
		return appendClock(dst, 2, x.Hour, x.Minute, x.Second, x.Microsecond), nil
	case DateTime:
		return appendClock(append(appendDay(dst, x.Date()), ' '), 2, x.Hour, x.Minute, x.Second, x.Microsecond), nil
	case TimeDelta:
		if x.Days != 0 {
			dst = append(strconv.AppendInt(dst, int64(x.Days), 10), " day"...)
			if x.Days != 1 && x.Days != -1 {
				dst = append(dst, 's')
			}
			dst = append(dst, ", "...)
		}
		return appendClock(dst, 1, x.Seconds/3600, x.Seconds/60%60, x.Seconds%60, x.Microseconds), nil
	}
	return Append(dst, v, d)
}

func appendDay(dst []byte, d Date) []byte {
	dst = append(appendPadded(dst, d.Year, 4), '-')
	dst = append(appendPadded(dst, d.Month, 2), '-')
	return appendPadded(dst, d.Day, 2)
}

// appendClock appends a time of day, the microseconds only where there are any.
func appendClock(dst []byte, hourDigits, h, m, s, us int) []byte {
	dst = append(appendPadded(dst, h, hourDigits), ':')
	dst = append(appendPadded(dst, m, 2), ':')
	dst = appendPadded(dst, s, 2)
	if us != 0 {
		dst = appendPadded(append(dst, '.'), us, 6)
	}
	return dst
}

// appendPadded appends n, which is not negative, with zeros before it up to so many digits.
func appendPadded(dst []byte, n, digits int) []byte {
	for least := 10; digits > 1; digits-- {
		if n < least {
			dst = append(dst, '0')
		}
		least *= 10
	}
	return strconv.AppendInt(dst, int64(n), 10)
}
