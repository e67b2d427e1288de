package pyliteral

import "time"

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

func (d DateTime) valid() bool { return d.Date().valid() && d.Time().valid() }

// Date returns the day.
func (d DateTime) Date() Date { return Date{d.Year, d.Month, d.Day} }

// Time returns the time of day.
func (d DateTime) Time() Time { return Time{d.Hour, d.Minute, d.Second, d.Microsecond} }

func (d TimeDelta) valid() bool {
	return d.Days >= -999999999 && d.Days <= 999999999 &&
		d.Seconds >= 0 && d.Seconds < 86400 && d.Microseconds >= 0 && d.Microseconds < 1e6
}
