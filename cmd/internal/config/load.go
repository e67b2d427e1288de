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
	"os"
	"reflect"
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

// Load fills cfg, a pointer to a struct, with the defaults in the text of a file, then from the file at path (empty:
// none), then from the environment, and checks the numbers. Every error is an *Error.
func Load(cfg any, defaults string, limits Limits, path, envPrefix string, getenv func(string) (string, bool)) error {
	if err := decode(cfg, "defaults", []byte(defaults)); err != nil {
		return err
	}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			var pe *fs.PathError
			if errors.As(err, &pe) {
				err = pe.Err
			}
			return &Error{path, err.Error()}
		}
		if err := decode(cfg, path, text); err != nil {
			return err
		}
	}
	if err := loadEnv(cfg, envPrefix, getenv); err != nil {
		return err
	}
	return limits.Check(cfg)
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

func loadEnv(cfg any, prefix string, getenv func(string) (string, bool)) error {
	return walk(reflect.ValueOf(cfg).Elem(), "", func(name string, field reflect.Value) error {
		variable := prefix + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
		text, ok := getenv(variable)
		if !ok {
			return nil
		}
		if err := setText(field, text); err != nil {
			return &Error{variable, err.Error()}
		}
		return nil
	})
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

// walk visits the leaves of a settings struct.
func walk(v reflect.Value, path string, visit func(string, reflect.Value) error) error {
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("toml"), ",")
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
