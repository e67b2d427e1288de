// Package config reads the settings of the two commands: defaults that work, then a TOML file, then environment
// variables, then flags; the later wins.
//
// A setting is a struct field with a toml tag, its name. A commented TOML file, which `syncgate config` prints, has its
// meaning and its default; the package whose option a number sets declares that number's default and bounds.
// The environment variable follows from the name: SYNCGATE_ and the name in capitals, with _ between a table and its
// keys (legacy.token_key is SYNCGATE_LEGACY_TOKEN_KEY).
package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"syncgate/rule"
)

// Error is a setting that cannot be used. Place is file:line:column, or the name of an environment variable, flag or
// setting.
type Error struct {
	Place, Problem string
}

func (e *Error) Error() string { return e.Place + ": " + e.Problem }

// File is the configuration file to read without --config: the one that the variable names, else the installed one if
// it exists, else none.
func File(variable, installed string) string {
	if path := os.Getenv(variable); path != "" {
		return path
	}
	if _, err := os.Stat(installed); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return installed // also one that may not be read: reading it says so
}

// Source is where settings come from beside the defaults.
type Source struct {
	Path    string   // of the file; empty: none
	Prefix  string   // of the environment's variables
	Environ []string // as os.Environ returns it
	Secrets []string // settings that only the program's own account may read
	Others  []string // variables with the prefix that are no settings; those that end in _ are prefixes themselves
}

// Origin is where each setting was given.
type Origin struct {
	places  map[string]string // file:line:column, or the variable
	unknown []string
}

// Unknown has a line about each variable of the environment that has the prefix and is no setting.
func (o *Origin) Unknown() []string { return o.unknown }

// Locate returns err with the place where the setting was given, when err is an *Error about a setting.
func (o *Origin) Locate(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && o.places[e.Place] != "" {
		return &Error{o.places[e.Place], e.Place + ": " + e.Problem}
	}
	return err
}

// Load fills cfg, a pointer to a struct, with the defaults in the text of a file, then from the source's file, then
// from the environment, and checks the numbers. Every error is an *Error.
func Load(cfg any, defaults string, limits Limits, src Source) (*Origin, error) {
	o := &Origin{places: map[string]string{}}
	if err := decode(cfg, "defaults", []byte(defaults)); err != nil {
		return nil, err
	}
	if src.Path != "" {
		text, err := readFile(src.Path)
		if err != nil {
			return nil, err
		}
		for _, name := range Names(cfg) {
			if line, column := find(string(text), name); line > 0 {
				o.places[name] = fmt.Sprintf("%s:%d:%d", src.Path, line, column)
			}
		}
		if err := checkUnits(cfg, text); err != nil {
			return nil, o.Locate(err)
		}
		if err := decode(cfg, src.Path, text); err != nil {
			return nil, err
		}
		if err := checkSecret(cfg, src); err != nil {
			return nil, err
		}
	}
	if err := o.loadEnv(cfg, src); err != nil {
		return nil, err
	}
	return o, o.Locate(limits.Check(cfg))
}

func readFile(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		return nil, &Error{path, err.Error()}
	}
	return text, nil
}

// checkSecret refuses a file that holds a secret and that every account may read. A DSN is one when it has a password.
func checkSecret(cfg any, src Source) error {
	info, err := os.Stat(src.Path)
	if err != nil || info.Mode().Perm()&0o007 == 0 || !info.Mode().IsRegular() {
		return nil // the file was read before
	}
	return walk(reflect.ValueOf(cfg).Elem(), "", func(name string, v reflect.Value) error {
		account, _, isDSN := strings.Cut(v.String(), "@")
		if !slices.Contains(src.Secrets, name) || v.IsZero() || isDSN && !strings.Contains(account, ":") {
			return nil
		}
		return &Error{src.Path, fmt.Sprintf("has %s, and others may read it (mode %04o); chmod o= it", name,
			info.Mode().Perm())}
	})
}

// find returns the line and column of a setting in a TOML file, or 0.
func find(text, name string) (line, column int) {
	table, key := "", name
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		table, key = name[:i], name[i+1:]
	}
	in := ""
	for l := range strings.Lines(text) {
		line++
		content := strings.TrimSpace(l)
		if strings.HasPrefix(content, "[") {
			in = strings.Trim(strings.TrimSpace(strings.SplitN(content, "#", 2)[0]), "[] ")
		}
		before, _, assigned := strings.Cut(content, "=")
		if before = strings.Trim(strings.TrimSpace(before), `"'`); assigned &&
			(in == table && before == key || in == "" && before == name) {
			return line, strings.Index(l, content) + 1
		}
	}
	return 0, 0
}

// checkUnits refuses a duration without a unit, which would be nanoseconds.
func checkUnits(cfg any, text []byte) error {
	var all map[string]any
	if err := toml.Unmarshal(text, &all); err != nil {
		return nil // decode reports it with its place
	}
	return walk(reflect.ValueOf(cfg).Elem(), "", func(name string, field reflect.Value) error {
		if field.Type() != reflect.TypeFor[Duration]() {
			return nil
		}
		var v any = all
		for key := range strings.SplitSeq(name, ".") {
			in, _ := v.(map[string]any)
			v = in[key]
		}
		switch v.(type) {
		case int64, float64:
			return &Error{name, fmt.Sprintf("%v has no unit; write %q for seconds", v, fmt.Sprint(v, "s"))}
		}
		return nil
	})
}

func decode(cfg any, path string, text []byte) error {
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(cfg)
	var missing *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing):
		row, col := missing.Errors[0].Position()
		key := strings.Join(missing.Errors[0].Key(), ".")
		problem := fmt.Sprintf("unknown setting %q", key)
		if near := rule.Nearest(key, Names(cfg)); near != "" {
			problem += fmt.Sprintf("; did you mean %q?", near)
		}
		return &Error{fmt.Sprintf("%s:%d:%d", path, row, col), problem}
	case errors.As(err, &decode):
		row, col := decode.Position()
		problem := strings.TrimPrefix(decode.Error(), "toml: ")
		if key := strings.Join(decode.Key(), "."); key != "" {
			problem = key + ": " + problem
		}
		return &Error{fmt.Sprintf("%s:%d:%d", path, row, col), problem}
	default:
		return &Error{path, err.Error()}
	}
}

func (o *Origin) loadEnv(cfg any, src Source) error {
	given := map[string]string{}
	for _, v := range src.Environ {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, src.Prefix) {
			given[name] = value
		}
	}
	var known []string
	err := walk(reflect.ValueOf(cfg).Elem(), "", func(name string, field reflect.Value) error {
		variable := src.Prefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
		known = append(known, variable)
		text, ok := given[variable]
		if !ok {
			return nil
		}
		delete(given, variable)
		o.places[name] = variable
		if err := setText(field, text); err != nil {
			return &Error{variable, err.Error()}
		}
		return nil
	})
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if slices.ContainsFunc(src.Others, func(other string) bool {
			return name == other || strings.HasSuffix(other, "_") && strings.HasPrefix(name, other)
		}) {
			continue
		}
		line := name + " is no setting and has no effect"
		if near := rule.Nearest(name, known); near != "" {
			line += "; did you mean " + near + "?"
		}
		o.unknown = append(o.unknown, line)
	}
	return err
}

// Names lists the settings of cfg, dotted, in the order of declaration.
func Names(cfg any) []string {
	var names []string
	_ = walk(reflect.ValueOf(cfg).Elem(), "", func(name string, _ reflect.Value) error {
		names = append(names, name)
		return nil
	})
	return names
}

// Changed lists the settings in which two structs of one type differ.
func Changed(a, b any) []string {
	values := map[string]any{}
	_ = walk(reflect.ValueOf(a).Elem(), "", func(name string, v reflect.Value) error {
		values[name] = v.Interface()
		return nil
	})
	var changed []string
	_ = walk(reflect.ValueOf(b).Elem(), "", func(name string, v reflect.Value) error {
		if !reflect.DeepEqual(values[name], v.Interface()) {
			changed = append(changed, name)
		}
		return nil
	})
	return changed
}

// walk visits the leaves of a settings struct.
func walk(v reflect.Value, path string, visit func(string, reflect.Value) error) error {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("toml"), ",")
		if name == "" {
			continue // not a setting
		}
		field := v.Field(i)
		_, text := field.Addr().Interface().(encoding.TextUnmarshaler)
		var err error
		if field.Kind() == reflect.Struct && !text {
			err = walk(field, path+name+".", visit)
		} else {
			err = visit(path+name, field)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// setText gives field the value that text stands for.
func setText(field reflect.Value, text string) error {
	if u, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		field.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		field.SetInt(n)
	case reflect.Uint32:
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is not a whole number from 0 to 4294967295", text)
		}
		field.SetUint(n)
	case reflect.Slice:
		var items []string
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		field.Set(reflect.ValueOf(items))
	case reflect.Map:
		return errors.New("this setting can be given only in the file")
	default:
		return fmt.Errorf("a setting of kind %s cannot be read from text", field.Kind())
	}
	return nil
}
