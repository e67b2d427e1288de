package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"syncgate/internal/pyliteral"
)

// node is a value of a JSON or Python literal column with its place in the column.
type node struct {
	value      any // nil, bool, string, int64, uint64, float64, []byte; nil for a list or a dict
	list       bool
	keys       []node // of a dict, one for each item
	items      []node
	start, end int
}

func (n *node) isNull() bool { return n.value == nil && !n.list && n.keys == nil }

func (n *node) isDict() bool { return n.keys != nil }

func (n *node) text() (string, bool) {
	s, ok := n.value.(string)
	return s, ok
}

// get is the value under a key of a dict, or nil.
func (n *node) get(key string) *node {
	for i := range n.keys {
		if s, _ := n.keys[i].text(); s == key {
			return &n.items[i]
		}
	}
	return nil
}

// valueError is a place where a column stops being JSON or a literal.
type valueError struct {
	at  int
	msg string
}

// The bounds of a column's value.
const (
	maxDepth    = 12
	maxElements = 20000
)

// parseValue reads a column as JSON, and as a Python literal when it is not JSON.
// The error is that of the language the text looks like.
func parseValue(text string) (n *node, isJSON bool, err *valueError) {
	j := &jsonReader{dec: json.NewDecoder(strings.NewReader(text)), text: text}
	j.dec.UseNumber()
	if n, jerr := j.read(0); jerr == nil {
		if rest := j.rest(); rest < 0 {
			return n, true, nil
		}
	}
	lit, perr := pyliteral.Parse([]byte(text), pyliteral.Limits{Depth: maxDepth, Elements: maxElements})
	if perr == nil {
		n, err = fromLiteral(lit)
		return n, false, err
	}
	if se := (*pyliteral.SyntaxError)(nil); errors.As(perr, &se) {
		return nil, false, &valueError{se.Offset, "neither JSON nor a Python literal: " + se.Msg}
	}
	return nil, false, &valueError{0, perr.Error()}
}

// jsonReader builds nodes from encoding/json's tokens, which know where they end.
type jsonReader struct {
	dec   *json.Decoder
	text  string
	count int
}

var errJSON = errors.New("not JSON")

// rest is the offset of what follows the value, or -1.
func (j *jsonReader) rest() int {
	at := int(j.dec.InputOffset())
	if tail := strings.TrimLeft(j.text[at:], " \t\r\n"); tail != "" {
		return len(j.text) - len(tail)
	}
	return -1
}

func (j *jsonReader) read(depth int) (*node, error) {
	at := int(j.dec.InputOffset())
	for at < len(j.text) && strings.IndexByte(" \t\r\n,:", j.text[at]) >= 0 {
		at++
	}
	tok, err := j.dec.Token()
	if j.count++; err != nil || depth > maxDepth || j.count > maxElements {
		return nil, errJSON
	}
	n := &node{start: at}
	switch v := tok.(type) {
	case json.Delim:
		err = j.container(n, v, depth)
	case json.Number:
		n.value, err = number(string(v))
	default:
		n.value = v
	}
	n.end = int(j.dec.InputOffset())
	return n, err
}

func (j *jsonReader) container(n *node, open json.Delim, depth int) error {
	n.list = open == '['
	if !n.list {
		n.keys = []node{}
	}
	for j.dec.More() {
		if !n.list {
			key, err := j.read(depth + 1)
			if err != nil {
				return err
			}
			if s, _ := key.text(); n.get(s) != nil {
				return errJSON
			}
			n.keys = append(n.keys, *key)
		}
		item, err := j.read(depth + 1)
		if err != nil {
			return err
		}
		n.items = append(n.items, *item)
	}
	_, err := j.dec.Token()
	return err
}

// number is the Go value of a number's text.
func number(s string) (any, error) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, nil
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return u, nil
	}
	return strconv.ParseFloat(s, 64)
}

func fromLiteral(l *pyliteral.Node) (*node, *valueError) {
	n := &node{start: l.Start, end: l.End}
	switch v := l.Value.(type) {
	case pyliteral.Tuple, pyliteral.List:
		n.list = true
	case *pyliteral.Dict:
		n.keys = []node{}
	default:
		var err error
		if n.value, err = scalar(v); err != nil {
			return nil, &valueError{l.Start, err.Error()}
		}
	}
	for i := range l.Items {
		item, err := fromLiteral(&l.Items[i])
		if err != nil {
			return nil, err
		}
		if n.keys != nil && i%2 == 0 {
			n.keys = append(n.keys, *item)
		} else {
			n.items = append(n.items, *item)
		}
	}
	return n, nil
}

// scalar is the SQL value of a Python value.
func scalar(v pyliteral.Value) (any, error) {
	switch v := v.(type) {
	case nil, bool, int64, float64:
		return v, nil
	case pyliteral.Long:
		return int64(v), nil
	case *big.Int:
		if v.IsUint64() {
			return v.Uint64(), nil
		}
		return v.String(), nil
	case pyliteral.Str:
		return string(v), nil
	case pyliteral.Unicode:
		return string(v), nil
	case pyliteral.Bytes:
		return []byte(v), nil
	case pyliteral.Decimal:
		return string(v), nil
	}
	text, err := pyliteral.AppendStr(nil, v, pyliteral.Python3)
	if err != nil {
		return nil, fmt.Errorf("a value that SQL has no type for: %w", err)
	}
	return string(text), nil
}
