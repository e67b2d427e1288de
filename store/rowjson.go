package store

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// EncodeRow writes a row as a JSON object in the order of its fields. Text is a string, or {"text64": …} when it is not
// valid UTF-8. Bytes are {"base64": …}. A float always has a point or an exponent, so that it stays a float.
func EncodeRow(fields []string, row []any) (string, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, field := range fields {
		if i > 0 {
			b.WriteString(", ")
		}
		name, err := marshal(field)
		if err != nil {
			return "", err
		}
		value, err := encodeValue(row[i])
		if err != nil {
			return "", err
		}
		b.WriteString(name + ": " + value)
	}
	b.WriteByte('}')
	return b.String(), nil
}

func encodeValue(v any) (string, error) {
	switch v := v.(type) {
	case []byte:
		return marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString(v)})
	case string:
		if strings.ToValidUTF8(v, "") != v {
			return marshal(map[string]string{"text64": base64.StdEncoding.EncodeToString([]byte(v))})
		}
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return text, nil
	}
	return marshal(v)
}

// marshal is json.Marshal that leaves <, > and & as they are.
func marshal(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// DecodeRow reads a row from a JSON object: sync_quarantine.row_values, also after an edit by hand. A value is null, a
// number, a string, {"base64": bytes} or {"text64": text that is no UTF-8}.
func DecodeRow(text string) (fields []string, values []any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, errors.New(`a row is a JSON object such as {"name": "value"}`)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, nil, err
		}
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, nil, err
		}
		if v, err = decodeValue(v); err != nil {
			return nil, nil, fmt.Errorf("%v: %w", name, err)
		}
		fields = append(fields, name.(string)) // the decoder refuses other keys
		values = append(values, v)
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("there is text after the object")
	}
	return fields, values, nil
}

// SetFields sets the fields of a row that a JSON object names.
func SetFields(text string, fields []string, row []any) error {
	names, values, err := DecodeRow(text)
	if errors.Is(err, io.EOF) {
		err = errors.New("the object does not end")
	}
	if err != nil {
		return err
	}
	for i, name := range names {
		at := slices.Index(fields, name)
		if at < 0 {
			return fmt.Errorf("%q is not a field of the rule; its fields are %s", name, strings.Join(fields, ", "))
		}
		row[at] = values[i]
	}
	return nil
}

func decodeValue(v any) (any, error) {
	switch v := v.(type) {
	case nil, string:
		return v, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case json.Number:
		return decodeNumber(v.String())
	case map[string]any:
		for key, inner := range v {
			text, ok := inner.(string)
			if !ok || len(v) != 1 || key != "base64" && key != "text64" {
				break
			}
			b, err := base64.StdEncoding.DecodeString(text)
			if key == "text64" {
				return string(b), err
			}
			return b, err
		}
	}
	return nil, errors.New(`a value is null, a number, a string, {"base64": …} or {"text64": …}`)
}

func decodeNumber(text string) (any, error) {
	if strings.ContainsAny(text, ".eE") {
		return strconv.ParseFloat(text, 64)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	return strconv.ParseUint(text, 10, 64)
}
