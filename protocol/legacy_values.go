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

// fromLegacy converts a value of an agent to the SQL value that its MySQLdb would have sent. Numbers and times without
// a Go type become text. ok is false for a container.
func fromLegacy(v pyliteral.Value) (value any, ok bool) {
	switch x := v.(type) {
	case nil, int64, float64:
		return x, true
	case bool:
		if x {
			return int64(1), true
		}
		return int64(0), true
	case pyliteral.Long:
		return int64(x), true
	case *big.Int:
		if x.IsUint64() {
			return x.Uint64(), true
		}
		return x.String(), true
	case pyliteral.Str, pyliteral.Unicode:
		s, _ := pyliteral.Text(x)
		if !utf8.ValidString(s) {
			return []byte(s), true // MySQL accepts it for a binary column only
		}
		return s, true
	case pyliteral.Bytes:
		return []byte(x), true
	case pyliteral.Decimal:
		return string(x), true
	case pyliteral.DateTime, pyliteral.Date, pyliteral.Time:
		text, err := pyliteral.AppendStr(nil, x, pyliteral.Python2) // ISO, as MySQL writes it
		return string(text), err == nil
	case pyliteral.TimeDelta:
		return fromLegacyTime(x), true
	}
	return nil, false
}

// fromLegacyTime returns MySQL's text of a TIME, [-]hh:mm:ss[.ffffff]. Hours may have more than two digits.
func fromLegacyTime(d pyliteral.TimeDelta) string {
	us := (int64(d.Days)*86400+int64(d.Seconds))*1e6 + int64(d.Microseconds)
	sign := ""
	if us < 0 {
		us, sign = -us, "-"
	}
	s := us / 1e6
	text := fmt.Sprintf("%s%02d:%02d:%02d", sign, s/3600, s/60%60, s%60)
	if us %= 1e6; us != 0 {
		text += fmt.Sprintf(".%06d", us)
	}
	return text
}

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
	if !utf8.ValidString(s) {
		return pyliteral.Bytes(s)
	}
	if p.neutral && strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
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
	case float32:
		// MySQL prints a FLOAT as the shortest text that reads back the same, and MySQLdb reads that text.
		f, err := strconv.ParseFloat(strconv.FormatFloat(float64(x), 'g', -1, 32), 64)
		return f, err == nil
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

func (p legacyPrinter) integer(i int64, t string) pyliteral.Value {
	switch t {
	case "FLOAT", "DOUBLE", "REAL":
		return float64(i)
	case "TINYINT", "SMALLINT", "MEDIUMINT", "YEAR":
		return i
	}
	if p.neutral || p.dialect != pyliteral.Python2 {
		return i
	}
	return pyliteral.Long(i)
}

// parsed converts MySQL's text of a value. A zero date becomes None. A value that the Python type cannot hold, such as
// a date in year 0, stays text.
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
		if strings.HasPrefix(s, "0000-00-00") {
			return nil
		}
		if t, err := time.Parse("2006-01-02 15:04:05", s); err == nil && t.Year() >= 1 {
			return pyliteral.DateTime{Year: t.Year(), Month: int(t.Month()), Day: t.Day(),
				Hour: t.Hour(), Minute: t.Minute(), Second: t.Second(), Microsecond: t.Nanosecond() / 1000}
		}
		if t, err := time.Parse("2006-01-02", s); err == nil && t.Year() >= 1 {
			return pyliteral.Date{Year: t.Year(), Month: int(t.Month()), Day: t.Day()}
		}
	case "TIME":
		if d, ok := legacyTimedelta(s); ok {
			return d
		}
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
