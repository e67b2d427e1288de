package pyliteral

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Dialect says whose literals are meant. Those of the Python 3 versions differ in which characters their repr shows as
// they are, which follows the version of Unicode; and up to 3.6 in timedelta(1, 2, 3), whose parts have names since.
type Dialect int

const (
	// Python2 is CPython 2.7: '…' holds bytes, u'…' text, 1L a long.
	Python2 Dialect = iota
	// Python36 is CPython 3.6. In it and all that follow '…' holds text and b'…' bytes.
	Python36
	Python37
	Python38
	Python39 // and 3.10
	Python311
	Python312
	Python313

	// Python3 stands for a Python 3 whose version is not known.
	Python3 = Python312
)

// dialects are the names used in configuration and documents.
var dialects = [...]string{"python2", "python3.6", "python3.7", "python3.8", "python3.9", "python3.11", "python3.12",
	"python3.13"}

// ParseDialect reads python2, python3, or python3.6 to python3.13.
func ParseDialect(name string) (Dialect, error) {
	switch name {
	case "python2.7":
		return Python2, nil
	case "python3":
		return Python3, nil
	case "python3.10":
		return Python39, nil
	}
	if i := slices.Index(dialects[:], name); i >= 0 {
		return Dialect(i), nil
	}
	return 0, fmt.Errorf("pyliteral: unknown dialect %q: want python2, python3, or python3.6 to python3.13", name)
}

// Value is one literal: nil (None), bool, int64, *big.Int (an int beyond 64 bits), Long, float64 (finite), Str,
// Unicode, Bytes, Tuple, List, Dict, DateTime, Date, Time, TimeDelta or Decimal.
type Value = any

// Long is Python 2's 1L that fits 64 bits. A larger one is a *big.Int, which Python 2 prints with its L and Python 3
// without.
type Long int64

// Str is '…': any bytes under Python 2, text in UTF-8 under Python 3.
type Str string

// Unicode is u'…': text in UTF-8. Python 3 prints it as '…'.
type Unicode string

// Bytes is b'…'. Python 2 prints it as '…'.
type Bytes string

// Tuple is (…).
type Tuple []Value

// List is […].
type List []Value

// Dict is {…}: key, value, key, value, … in the order in which it was written.
type Dict []Value

// DateTime is datetime.datetime, without a time zone.
type DateTime struct {
	Year, Month, Day, Hour, Minute, Second, Microsecond int
}

// Date is datetime.date.
type Date struct{ Year, Month, Day int }

// Time is datetime.time, without a time zone.
type Time struct{ Hour, Minute, Second, Microsecond int }

// TimeDelta is datetime.timedelta in Python's normal form: only Days may be negative, 0 ≤ Seconds < 86400, 0 ≤
// Microseconds < 1000000.
type TimeDelta struct{ Days, Seconds, Microseconds int }

// IsMoment reports whether there is such a date and time.
func IsMoment(d DateTime) bool { return d.valid() }

// moment is a date, a time, both or a timedelta; valid is false for what Python refuses to make, or makes otherwise.
type moment interface{ valid() bool }

func (d Date) valid() bool {
	t := time.Date(d.Year, time.Month(d.Month), d.Day, 0, 0, 0, 0, time.UTC) // the 30th of February is in March
	return d.Year >= 1 && d.Year <= 9999 && Date{t.Year(), int(t.Month()), t.Day()} == d
}

func (t Time) valid() bool {
	return t.Hour >= 0 && t.Hour < 24 && t.Minute >= 0 && t.Minute < 60 &&
		t.Second >= 0 && t.Second < 60 && t.Microsecond >= 0 && t.Microsecond < 1e6
}

func (d DateTime) valid() bool { return d.date().valid() && d.clock().valid() }

func (d DateTime) date() Date { return Date{d.Year, d.Month, d.Day} }

func (d DateTime) clock() Time { return Time{d.Hour, d.Minute, d.Second, d.Microsecond} }

func (d TimeDelta) valid() bool {
	return d.Days >= -999999999 && d.Days <= 999999999 &&
		d.Seconds >= 0 && d.Seconds < 86400 && d.Microseconds >= 0 && d.Microseconds < 1e6
}

// Decimal is decimal.Decimal as Python prints it: "1.50", "0E-10". Append accepts any finite number and prints that
// form.
type Decimal string

// Text returns the value of a Str or Unicode.
func Text(v Value) (string, bool) {
	switch s := v.(type) {
	case Str:
		return string(s), true
	case Unicode:
		return string(s), true
	}
	return "", false
}

// ErrValue reports a value that has no literal in the dialect: an infinite float, a date that is none, text that is not
// UTF-8, a foreign Go type.
var ErrValue = errors.New("pyliteral: value has no literal")

// MaxDict is the number of pairs that one dict may have.
const MaxDict = 128

// SQL returns the SQL value that a client of MySQL sends for v. Dates, times and numbers without a Go type become
// MySQL's text. ok is false for a container, and for a date or time that there is not.
func SQL(v Value) (value any, ok bool) {
	if t, timed := v.(moment); timed && !t.valid() {
		return nil, false
	}
	switch x := v.(type) {
	case nil, int64, float64:
		return x, true
	case bool:
		if x {
			return int64(1), true
		}
		return int64(0), true
	case Long:
		return int64(x), true
	case *big.Int:
		if x.IsUint64() {
			return x.Uint64(), true
		}
		return x.String(), true
	case Str, Unicode:
		s, _ := Text(x)
		if !utf8.ValidString(s) {
			return []byte(s), true // MySQL accepts it for a binary column only
		}
		return s, true
	case Bytes:
		return []byte(x), true
	case Decimal:
		return string(x), true
	case Date:
		return x.sql(), true
	case Time:
		return x.sql(), true
	case DateTime:
		return x.date().sql() + " " + x.clock().sql(), true
	case TimeDelta:
		s, us := x.Days*86400+x.Seconds, x.Microseconds
		if s >= 0 {
			return strings.TrimPrefix(Time{s / 3600, s / 60 % 60, s % 60, us}.sql(), "0"), true // as str() prints it
		}
		if s = -s; us > 0 {
			s, us = s-1, 1e6-us
		}
		return "-" + Time{s / 3600, s / 60 % 60, s % 60, us}.sql(), true
	}
	return nil, false
}

func (d Date) sql() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// sql has the microseconds only where there are any, and may have more than two digits of hours.
func (t Time) sql() string {
	text := fmt.Sprintf("%02d:%02d:%02d", t.Hour, t.Minute, t.Second)
	if t.Microsecond != 0 {
		text += fmt.Sprintf(".%06d", t.Microsecond)
	}
	return text
}

// keyOf is the same text for values that Python takes for one key: 1, 1L, 1.0 and True are, and so are 'a' and u'a'. ok
// is false for what Python can't hash.
func keyOf(v Value) (key string, ok bool) {
	switch x := v.(type) {
	case List, Dict:
		return "", false
	case Str, Unicode:
		text, _ := Text(x)
		return "'" + text, true
	case Tuple:
		for _, e := range x {
			k, ok := keyOf(e)
			if !ok {
				return "", false
			}
			key += fmt.Sprintf("%q,", k)
		}
		return "(" + key, true
	case float64:
		if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
			return strconv.FormatInt(int64(x), 10), true
		}
	case int64:
		return strconv.FormatInt(x, 10), true
	case bool, Long, *big.Int:
		n, _ := SQL(x)
		return fmt.Sprint(n), true
	}
	return fmt.Sprintf("%T %v", v, v), true
}
