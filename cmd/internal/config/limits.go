package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"syncgate/internal/limit"
)

// Limits are the limits of the numeric settings, by name. The packages whose options they are declare them.
type Limits map[string]limit.Limit

// Auto makes 0 the default of a setting: the program chooses.
func Auto(l limit.Limit) limit.Limit {
	l.Default, l.Min = 0, 0
	return l
}

// Fill writes the defaults and bounds of the numbers into a TOML file that has _ in their place.
func (limits Limits) Fill(file string) string {
	var out strings.Builder
	table := ""
	for line := range strings.Lines(file) {
		if strings.HasPrefix(line, "[") {
			table = strings.Trim(line, "[]\n") + "."
		}
		name, ok := strings.CutSuffix(line, " = _\n")
		if !ok {
			out.WriteString(line)
			continue
		}
		l := limits[table+name]
		value := l.Text(l.Default)
		if strings.Trim(value, "0123456789") != "" {
			value = `"` + value + `"`
		}
		out.WriteString(name + " = " + value + " # " + l.Text(l.Min) + " to " + l.Text(l.Max) + "\n")
	}
	return out.String()
}

// Check returns an *Error for a number that is out of its bounds.
func (limits Limits) Check(cfg any) error {
	return limits.each(cfg, func(name string, l limit.Limit, v reflect.Value) error {
		if err := l.Check(v.Int()); err != nil {
			return &Error{name, err.Error()}
		}
		return nil
	})
}

// Apply sets the options whose limits these are from the numbers of cfg.
func (limits Limits) Apply(cfg any) {
	_ = limits.each(cfg, func(_ string, l limit.Limit, v reflect.Value) error {
		l.Set(v.Int())
		return nil
	})
}

func (limits Limits) each(cfg any, visit func(name string, l limit.Limit, v reflect.Value) error) error {
	return walk(reflect.ValueOf(cfg).Elem(), "", func(name string, v reflect.Value) error {
		if l, ok := limits[name]; ok {
			return visit(name, l, v)
		}
		return nil
	})
}

// Duration is a length of time written as Go writes it: 500ms, 30s, 5m, 1h.
type Duration time.Duration

// UnmarshalText reads a duration; it must not be negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration such as 500ms, 30s, 5m or 1h", text)
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes, written plainly or with KiB, MiB, GiB or TiB behind it.
type Size int64

// UnmarshalText reads a size; it must not be negative.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range [...]struct {
		suffix string
		bytes  int64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}} {
		number, ok := strings.CutSuffix(string(text), u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	return fmt.Errorf("%q is not a size such as 65536, 512KiB or 1MiB", text)
}
