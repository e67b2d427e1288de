// Package limit declares numeric options: each with its default and its bounds, in one place. A package with options
// lists its limits once; its constructor fills and checks them with Fill, and the commands print the same list.
package limit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limit is one numeric option. Default, Min and Max count things, bytes or nanoseconds, as the constructor says.
type Limit struct {
	Name              string // as the options' struct spells it
	Default, Min, Max int64

	text func(int64) string
	fill func(def int64) int64 // sets a zero option to def and returns the option
}

type integer interface {
	~int | ~int32 | ~int64 | ~uint32
}

// Count is a limit on a number of things.
func Count[T integer](name string, option *T, def, least, most T) Limit {
	return of(formatCount, name, option, def, least, most)
}

// Bytes is a limit on a size.
func Bytes[T integer](name string, option *T, def, least, most T) Limit {
	return of(FormatBytes, name, option, def, least, most)
}

// Time is a limit on a length of time.
func Time(name string, option *time.Duration, def, least, most time.Duration) Limit {
	return of(func(v int64) string { return FormatTime(time.Duration(v)) }, name, option, def, least, most)
}

func of[T integer](text func(int64) string, name string, option *T, def, least, most T) Limit {
	return Limit{Name: name, Default: int64(def), Min: int64(least), Max: int64(most), text: text,
		fill: func(def int64) int64 {
			if *option == 0 {
				*option = T(def)
			}
			return int64(*option)
		}}
}

// Set gives an option that is zero the value v.
func (l Limit) Set(v int64) { l.fill(v) }

// Text is a value of the limit, written as a setting is.
func (l Limit) Text(v int64) string { return l.text(v) }

// Check returns an error when v is out of bounds.
func (l Limit) Check(v int64) error {
	if v < l.Min || v > l.Max {
		return fmt.Errorf("%s is not between %s and %s", l.text(v), l.text(l.Min), l.text(l.Max))
	}
	return nil
}

// Fill gives every option that is zero its default. The error names each option that is out of bounds, and owner, the
// package whose options these are.
func Fill(owner string, limits []Limit) error {
	var errs []error
	for _, l := range limits {
		if err := l.Check(l.fill(l.Default)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s %w", owner, l.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Find returns the limit of that name. A name that is not there is a mistake of the caller's, and panics.
func Find(limits []Limit, name string) Limit {
	for _, l := range limits {
		if l.Name == name {
			return l
		}
	}
	panic("limit: no limit is named " + name)
}

func formatCount(v int64) string { return strconv.FormatInt(v, 10) }

// FormatBytes writes a size in the largest unit that divides it: 1000, 512KiB, 1MiB.
func FormatBytes(v int64) string {
	for i, unit := range [...]string{"TiB", "GiB", "MiB", "KiB"} {
		if size := int64(1) << (40 - 10*i); v != 0 && v%size == 0 {
			return formatCount(v/size) + unit
		}
	}
	return formatCount(v)
}

// FormatTime writes a length of time as time.Duration does, but without zeros at the end: 5m, not 5m0s.
func FormatTime(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
