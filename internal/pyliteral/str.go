package pyliteral

import (
	"fmt"
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
	if _, err := Append(nil, v, d); err != nil {
		return dst, err
	}
	switch x := v.(type) {
	case float64:
		if d == Python2 {
			return appendFloat(dst, x, 12), nil
		}
	case Decimal:
		s, _ := canonicalDecimal(string(x))
		return append(dst, s...), nil
	case Date:
		return fmt.Appendf(dst, "%04d-%02d-%02d", x.Year, x.Month, x.Day), nil
	case Time:
		return appendClock(dst, "%02d", x.Hour, x.Minute, x.Second, x.Microsecond), nil
	case DateTime:
		dst = fmt.Appendf(dst, "%04d-%02d-%02d ", x.Year, x.Month, x.Day)
		return appendClock(dst, "%02d", x.Hour, x.Minute, x.Second, x.Microsecond), nil
	case TimeDelta:
		switch {
		case x.Days == 1 || x.Days == -1:
			dst = fmt.Appendf(dst, "%d day, ", x.Days)
		case x.Days != 0:
			dst = fmt.Appendf(dst, "%d days, ", x.Days)
		}
		return appendClock(dst, "%d", x.Seconds/3600, x.Seconds/60%60, x.Seconds%60, x.Microseconds), nil
	}
	return Append(dst, v, d)
}

// appendClock appends a time of day, the microseconds only where there are any.
func appendClock(dst []byte, hours string, h, m, s, us int) []byte {
	dst = fmt.Appendf(dst, hours+":%02d:%02d", h, m, s)
	if us != 0 {
		dst = fmt.Appendf(dst, ".%06d", us)
	}
	return dst
}
