package pyliteral

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
)

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
		return appendClock(append(appendDay(dst, x.Date()), ' '), "%02d", x.Time()), nil
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
