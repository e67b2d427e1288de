package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"syncgate/internal/pyliteral"
)

// node is a value of a JSON or Python literal column with its place in the column.
type node = pyliteral.Node

// The bounds of a column's value.
const (
	maxDepth    = 12
	maxElements = 20000
)

// value parses a column as JSON, or as a Python literal when it is not JSON. It is nil when the column cannot be read,
// which has been reported then.
func (c *compiler) value(column, text string) (n *node, isJSON bool) {
	isJSON = json.Valid([]byte(text))
	n, err := pyliteral.Parse([]byte(text), pyliteral.Limits{Depth: maxDepth, Elements: maxElements, JSON: isJSON})
	if bad := (*pyliteral.SyntaxError)(nil); errors.As(err, &bad) {
		c.badValue(column, &node{Start: bad.Offset}, "neither JSON nor a Python literal: "+bad.Msg, "")
	}
	return n, isJSON
}

// badValue reports about a place in a column other than plain SQL.
func (c *compiler) badValue(column string, n *node, msg, fix string) {
	d := Diagnostic{Code: BadLiteral, Severity: Error, Column: column, Message: msg, Fix: fix}
	for _, t := range c.row.texts() {
		if t.column == column {
			d.Line, d.Col = lineCol(t.value, n.Start)
		}
	}
	c.report(d)
}

// blank reports whether a column says nothing.
func blank(text string) bool {
	text = strings.TrimSpace(text)
	return text == "" || text == "None" || text == "null"
}

func isDict(n *node) bool {
	_, ok := n.Value.(*pyliteral.Dict)
	return ok
}

func isList(n *node) bool {
	switch n.Value.(type) {
	case pyliteral.Tuple, pyliteral.List:
		return true
	}
	return false
}

// items is the elements of a list; anything else is a list of itself.
func items(n *node) []node {
	if isList(n) {
		return n.Items
	}
	return []node{*n}
}

func text(n *node) (string, bool) { return pyliteral.Text(n.Value) }

// eachPhase calls f with what a dict of phases, and of options in sync_sql, holds.
func (c *compiler) eachPhase(column string, root *node, f func(key string, item *node)) {
	for i := 0; i+1 < len(root.Items); i += 2 {
		key, _ := text(&root.Items[i])
		if _, ok := phaseNamed(key); ok || column == "sync_sql" && (key == "option" || key == "options") {
			f(key, &root.Items[i+1])
		} else {
			c.badValue(column, &root.Items[i], fmt.Sprintf("%q is not a phase", key),
				"the phases are upside, downside and update_state")
		}
	}
}

// scalar is the SQL value of a literal that is neither a list nor a dict.
func scalar(v pyliteral.Value) any {
	switch v := v.(type) {
	case nil, int64, float64:
		return v
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case pyliteral.Long:
		return int64(v)
	case pyliteral.Bytes:
		return []byte(v)
	case *big.Int:
		if v.IsUint64() {
			return v.Uint64()
		}
	}
	s, _ := pyliteral.AppendStr(nil, v, pyliteral.Python3) // all that is parsed has a str
	return string(s)
}
