package protocol

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"syncgate/internal/pyliteral"
)

// legacyType returns the bare name of a MySQL type, without UNSIGNED and width.
func legacyType(mysqlType string) string {
	t := strings.TrimPrefix(strings.ToUpper(mysqlType), "UNSIGNED ")
	if i := strings.IndexAny(t, " ("); i >= 0 {
		t = t[:i]
	}
	return t
}

// legacyPrinter makes the Python values of one reply.
type legacyPrinter struct {
	dialect pyliteral.Dialect
	// neutral: the point has not shown its Python. ASCII text is then printed as '…' and an integer without L, since
	// both Pythons read and print these alike.
	neutral bool
}

func (p legacyPrinter) text(s string) pyliteral.Value {
	switch {
	case !utf8.ValidString(s):
		return pyliteral.Bytes(s)
	case !p.isUnicode(s):
		return pyliteral.Str(s)
	}
	return pyliteral.Unicode(s)
}

// print appends a value, or None when the dialect has no literal for it.
func (p legacyPrinter) print(dst []byte, v pyliteral.Value) []byte {
	text, err := pyliteral.Append(dst, v, p.dialect)
	if err != nil {
		return append(dst, legacyNone...)
	}
	return text
}

// appendValue prints value(v, t). The commonest values need no memory.
func (p legacyPrinter) appendValue(dst []byte, v any, t string) ([]byte, error) {
	switch x := v.(type) {
	case int64:
		if !legacyFloat(t) {
			if dst = strconv.AppendInt(dst, x, 10); p.isLong(t) {
				dst = append(dst, 'L')
			}
			return dst, nil
		}
	case string:
		switch t {
		case "CHAR", "VARCHAR", "TEXT", "ENUM", "SET":
			if utf8.ValidString(x) {
				return pyliteral.AppendText(dst, x, p.isUnicode(x), p.dialect)
			}
		case "DATETIME", "TIMESTAMP":
			if text, ok := pyliteral.AppendDateTime(dst, legacyDateTime(x)); ok {
				return text, nil
			}
		}
	}
	value, ok := p.value(v, t)
	if !ok {
		return dst, fmt.Errorf("%T", v)
	}
	return pyliteral.Append(dst, value, p.dialect)
}

// legacyDateTime is MySQL's text of a DATETIME; there is no such moment when the text is of another form.
func legacyDateTime(s string) (d pyliteral.DateTime) {
	const form = "YYYY-MM-DD hh:mm:ss"
	if len(s) < len(form) {
		return d
	}
	number := func(from, to int) (n int) {
		for i := from; i < to; i++ {
			n *= 10
			if i < len(s) && s[i] >= '0' && s[i] <= '9' { // MySQL writes nothing else there
				n += int(s[i] - '0')
			}
		}
		return n
	}
	return pyliteral.DateTime{Year: number(0, 4), Month: number(5, 7), Day: number(8, 10), Hour: number(11, 13),
		Minute: number(14, 16), Second: number(17, 19), Microsecond: number(20, 26)}
}

// isUnicode reports whether valid text is printed as u'…'.
func (p legacyPrinter) isUnicode(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return true
		}
	}
	return !p.neutral
}

// value converts a SQL value of a column of type t to the value that the agent's MySQLdb (1.2) would have returned. ok
// is false when v is not a SQL value.
func (p legacyPrinter) value(v any, t string) (value pyliteral.Value, ok bool) {
	switch x := v.(type) {
	case nil:
		return nil, true
	case int64:
		return p.integer(x, t), true
	case uint64:
		if int64(x) >= 0 {
			return p.integer(int64(x), t), true
		}
		return new(big.Int).SetUint64(x), true
	case float64:
		return x, true
	case []byte:
		if x == nil {
			return nil, true
		}
		return pyliteral.Bytes(x), true
	case string:
		return p.parsed(x, t), true
	}
	return nil, false
}

func legacyFloat(t string) bool { return t == "FLOAT" || t == "DOUBLE" || t == "REAL" }

// isLong reports whether integers of a type are printed with an L.
func (p legacyPrinter) isLong(t string) bool {
	switch t {
	case "TINYINT", "SMALLINT", "MEDIUMINT", "YEAR":
		return false
	}
	return !p.neutral && p.dialect == pyliteral.Python2
}

func (p legacyPrinter) integer(i int64, t string) pyliteral.Value {
	switch {
	case legacyFloat(t):
		return float64(i)
	case p.isLong(t):
		return pyliteral.Long(i)
	}
	return i
}

// parsed converts MySQL's text of a value. A date or time that the Python type cannot hold, such as 0000-00-00, becomes
// None, as with MySQLdb.
func (p legacyPrinter) parsed(s, t string) pyliteral.Value {
	switch t {
	case "TINYINT", "SMALLINT", "MEDIUMINT", "YEAR", "INT", "INTEGER", "BIGINT":
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return p.integer(i, t)
		}
	case "FLOAT", "DOUBLE", "REAL":
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f
		}
	case "DECIMAL", "NUMERIC":
		if _, err := pyliteral.Append(nil, pyliteral.Decimal(s), p.dialect); err == nil {
			return pyliteral.Decimal(s)
		}
	case "DATETIME", "TIMESTAMP", "DATE":
		if d := legacyDateTime(s); pyliteral.IsMoment(d) {
			return d
		}
		if t, err := time.Parse(time.DateOnly, s); err == nil && t.Year() >= 1 {
			return pyliteral.Date{Year: t.Year(), Month: int(t.Month()), Day: t.Day()}
		}
		return nil
	case "TIME":
		if d, ok := legacyTimedelta(s); ok {
			return d
		}
		return nil
	case "BINARY", "VARBINARY", "TINYBLOB", "BLOB", "MEDIUMBLOB", "LONGBLOB", "BIT", "GEOMETRY", "VECTOR":
		return pyliteral.Bytes(s)
	}
	return p.text(s)
}

// legacyTimedelta parses MySQL's text of a TIME.
func legacyTimedelta(s string) (pyliteral.TimeDelta, bool) {
	hours, rest, _ := strings.Cut(s, ":")
	minutes, seconds, ok := strings.Cut(rest, ":")
	d, err := time.ParseDuration(hours + "h" + minutes + "m" + seconds + "s")
	if !ok || err != nil {
		return pyliteral.TimeDelta{}, false
	}
	const day = 24 * time.Hour
	days := d / day
	if d %= day; d < 0 {
		d, days = d+day, days-1
	}
	return pyliteral.TimeDelta{
		Days: int(days), Seconds: int(d / time.Second), Microseconds: int(d % time.Second / time.Microsecond),
	}, true
}
