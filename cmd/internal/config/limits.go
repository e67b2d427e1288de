package config

import (
	"reflect"
	"strings"

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
