package rule

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
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

// value parses a column as JSON, or as a Python literal when it is not JSON. It reports a column that it cannot read
// and returns nil.
func (c *compiler) value(column, text string) *node {
	lim := pyliteral.Limits{Depth: maxDepth, Elements: maxElements, JSON: json.Valid([]byte(text))}
	n, err := pyliteral.Parse([]byte(text), lim)
	if bad := (*pyliteral.SyntaxError)(nil); errors.As(err, &bad) {
		c.badValue(column, &node{Start: bad.Offset}, "neither JSON nor a Python literal: "+bad.Msg, "")
	}
	return n
}

// badValue reports an error at a place in a column other than plain SQL.
func (c *compiler) badValue(column string, n *node, msg, fix string) {
	c.sayValue(Error, column, n, msg, fix)
}

func (c *compiler) sayValue(severity Severity, column string, n *node, msg, fix string) {
	d := Diagnostic{Code: BadLiteral, Severity: severity, Column: column, Message: msg, Fix: fix}
	for _, t := range c.row.texts() {
		if t.column == column {
			d.Line, d.Col = lineCol(t.value, n.Start)
		}
	}
	c.report(d)
}

// blank reports whether a column is empty, None or null.
func blank(text string) bool {
	text = strings.TrimSpace(text)
	return text == "" || text == "None" || text == "null"
}

// literalBegins is how a literal begins, and dictBegins a dict, which may have brackets around it.
var (
	literalBegins = regexp.MustCompile(`^\s*(?:[uUbB]?[rR]?['"]|[([{])`)
	dictBegins    = regexp.MustCompile(`^[\s(]*\{`)
)

func isDict(n *node) bool { _, ok := n.Value.(pyliteral.Dict); return ok }

func isList(n *node) bool {
	switch n.Value.(type) {
	case pyliteral.Tuple, pyliteral.List:
		return true
	}
	return false
}

// items is the elements of a list; anything else is a list of itself, and nil is none.
func items(n *node) []node {
	switch {
	case n == nil:
		return nil
	case isList(n):
		return n.Items
	}
	return []node{*n}
}

func text(n *node) (string, bool) { return pyliteral.Text(n.Value) }

// eachPhase calls f with each entry of a dict of phases. In sync_sql the dict may hold options as well.
func (c *compiler) eachPhase(column string, root *node, f func(key string, item *node)) {
	for i := 0; i+1 < len(root.Items); i += 2 {
		key, _ := text(&root.Items[i])
		if _, ok := phaseNamed(key); ok || column == "sync_sql" && (key == "option" || key == "options") {
			f(key, &root.Items[i+1])
			continue
		}
		severity := Error
		if c.plan.Form == Literal {
			severity = Warning // the original read the phases and nothing else
		}
		c.sayValue(severity, column, &root.Items[i], fmt.Sprintf("%q is not a phase", key), hint(key, phaseNames))
	}
}

// patch fills the seed-era placeholders of one statement, with one entry for each field of sync_patch_field.
type patch struct {
	given    bool // sync_patch_field or sync_patch_field_value says something about the statement
	entries  []patchEntry
	verbatim bool // the statement takes no values and runs as it is written
}

type patchEntry struct {
	field string
	kind  string // transfer, carry or fixed
	value any    // of fixed; the state's name of carry
}

// patches reads sync_patch_field and sync_patch_field_value for each script.
//
// A phase holds a list with one list for each statement. With one statement the outer list is often missing, because
// ("x") is no tuple in Python; both are read.
func (c *compiler) patches(scripts []*script) {
	fields := c.patchColumn("sync_patch_field", c.row.PatchField)
	values := c.patchColumn("sync_patch_field_value", c.row.PatchFieldValue)
	var total, seen [3]int
	for _, s := range scripts {
		total[s.phase]++
	}
	for _, s := range scripts {
		nth, alone := seen[s.phase], total[s.phase] == 1
		seen[s.phase]++
		c.patch(s, ofStatement(fields, s.phase, nth, alone, isName), ofStatement(values, s.phase, nth, alone, isPair))
	}
}

func (c *compiler) patchColumn(column, text string) *node {
	if blank(text) {
		return nil
	}
	n := c.value(column, text)
	if n != nil && !isDict(n) {
		c.badValue(column, n, "it must be a dict of phases", "write it like {'downside': …}")
		return nil
	}
	return n
}

func isName(n *node) bool { _, ok := text(n); return ok }

func isKind(n *node) bool {
	s, _ := text(n)
	return s == "transfer" || s == "carry" || s == "fixed"
}

// isPair reports whether n is one ("transfer", None), or the word alone.
func isPair(n *node) bool {
	all := items(n)
	return len(all) > 0 && len(all) <= 2 && isKind(&all[0]) && !(len(all) == 2 && isKind(&all[1]))
}

// ofStatement finds the nth statement's list in a column; alone says that the phase has no other. isElement knows the
// elements of such a list.
func ofStatement(column *node, p phase, nth int, alone bool, isElement func(*node) bool) *node {
	if column == nil {
		return nil
	}
	n := column.Get(p.String())
	switch {
	case n == nil || n.Value == nil:
		return nil
	case alone && (!isList(n) || len(n.Items) > 0 && isElement(&n.Items[0]) || isElement(n)):
		return n
	case isList(n) && nth < len(n.Items) && n.Items[nth].Value != nil:
		return &n.Items[nth]
	}
	return nil
}

// patch joins the fields and the values of one statement into entries.
func (c *compiler) patch(s *script, fields, values *node) {
	s.seed = &patch{given: fields != nil || values != nil}
	names, ok := c.nameList("sync_patch_field", fields)
	if !ok {
		return
	}
	pairs := items(values)
	if values != nil && isPair(values) {
		pairs = []node{*values}
	}
	if len(names) > 0 && len(pairs) > 0 && len(names) != len(pairs) {
		c.badCount(s, fmt.Sprintf("sync_patch_field names %d fields for %d values", len(names), len(pairs)))
		return
	}
	for i := range max(len(names), len(pairs)) {
		e := patchEntry{kind: "transfer"}
		if i < len(names) {
			e.field = names[i]
		}
		if i < len(pairs) && !c.pair(&e, &pairs[i]) {
			return
		}
		s.seed.entries = append(s.seed.entries, e)
	}
}

func (c *compiler) badCount(s *script, msg string) {
	c.refuse(s, 0, PlaceholderCount, msg, "give each placeholder one field and one entry")
}

// pair reads one entry: ("transfer", None), ("fixed", 7), or the word alone.
func (c *compiler) pair(e *patchEntry, n *node) bool {
	all := items(n)
	if len(all) == 0 || len(all) > 2 || !isKind(&all[0]) {
		c.badValue("sync_patch_field_value", n, "an entry is transfer, carry or fixed", `write ("transfer", None)`)
		return false
	}
	e.kind, _ = text(&all[0])
	if len(all) == 2 {
		var ok bool
		if e.value, ok = pyliteral.SQL(all[1].Value); !ok {
			c.badValue("sync_patch_field_value", &all[1], "an entry's value must be one value", "")
			return false
		}
	}
	return true
}
