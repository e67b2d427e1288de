package rule

import (
	"fmt"
	"slices"
	"strings"
)

// patch is how the seed-era placeholders of one statement are filled: one entry for
// each field of sync_patch_field.
type patch struct {
	given   bool // sync_patch_field or sync_patch_field_value says something about the statement
	entries []patchEntry
}

type patchEntry struct {
	field string
	kind  string // transfer, carry or fixed
	value any    // of fixed; the state's name of carry
}

// phases reads sync_sql as JSON or a Python literal: a dict of phases.
func (c *compiler) phases() (Form, []script) {
	root, isJSON := c.value("sync_sql", c.row.SQL)
	form := Literal
	if isJSON {
		form = JSON
	}
	if root == nil {
		return form, nil
	}
	var scripts []script
	for i := range root.keys {
		key, _ := root.keys[i].text()
		item := &root.items[i]
		switch key {
		case "upside", "downside", "update_state":
			scripts = append(scripts, c.phaseScripts(phaseNamed(key), item)...)
		case "option", "options":
			c.jsonOptions(item)
		default:
			c.badValue("sync_sql", root.keys[i].start, fmt.Sprintf("%q is not a phase", key), "the phases are upside, downside and update_state")
		}
	}
	c.operations(scripts, form)
	if marks, names := placeholders(scripts); marks || form == Literal && !names {
		c.patches(scripts)
	}
	return form, scripts
}

// value parses a column, or reports why it cannot be read.
func (c *compiler) value(column, text string) (n *node, isJSON bool) {
	n, isJSON, err := parseValue(text)
	if err != nil {
		c.badValue(column, err.at, err.msg, "")
		return nil, false
	}
	return n, isJSON
}

func (c *compiler) badValue(column string, at int, msg, fix string) {
	text := map[string]string{"sync_sql": c.row.SQL, "sync_field": c.row.Field, "sync_operation_type": c.row.OperationType,
		"sync_patch_field": c.row.PatchField, "sync_patch_field_value": c.row.PatchFieldValue}[column]
	line, col := lineCol(text, at)
	c.report(Diagnostic{Code: BadLiteral, Severity: Error, Column: column, Line: line, Col: col, Message: msg, Fix: fix})
}

// phaseScripts takes a phase's value: nothing, one statement, a list of them, or
// (JSON) a dict of operation and statement.
func (c *compiler) phaseScripts(p phase, n *node) []script {
	if n.isNull() {
		return nil
	}
	items, keys := n.items, n.keys
	if !n.list && !n.isDict() {
		items = []node{*n}
	}
	var out []script
	for i := range items {
		text, ok := items[i].text()
		if items[i].isNull() || ok && strings.TrimSpace(text) == "" {
			continue
		}
		if !ok {
			c.badValue("sync_sql", items[i].start, fmt.Sprintf("a statement of %s must be text", p), "")
			continue
		}
		s := script{phase: p, src: quoted(c.row.SQL, text, items[i].start, items[i].end)}
		if keys != nil {
			s.op, _ = keys[i].text()
		}
		out = append(out, s)
	}
	return out
}

func (c *compiler) jsonOptions(n *node) {
	items := n.items
	if !n.list {
		items = []node{*n}
	}
	for i := range items {
		text, _ := items[i].text()
		c.option(text, &source{text: c.row.SQL, column: c.row.SQL}, items[i].start)
	}
}

// placeholders reports whether the statements have the seed's marks, and :names.
func placeholders(scripts []script) (marks, names bool) {
	for _, s := range scripts {
		toks, _ := lex(s.src.text)
		for i := range toks {
			marks = marks || isPlaceholder(&toks[i])
			names = names || toks[i].kind == tokParam
		}
	}
	return marks, names
}

// isPlaceholder reports whether the token is one of the seed's: %s, '%s' or "%s".
func isPlaceholder(t *token) bool {
	return t.kind == tokPercent || t.kind == tokString && t.value == "%s"
}

// fieldList reads sync_field: a list, or names parted by commas.
func (c *compiler) fieldList() ([]string, bool) {
	text := strings.TrimSpace(c.row.Field)
	if text == "" || text == "None" || text == "null" {
		return nil, true
	}
	var names []string
	if strings.ContainsAny(text[:1], "([{'\"") {
		n, _ := c.value("sync_field", c.row.Field)
		if n == nil {
			return nil, false
		}
		names, n = textList(n)
		if n != nil {
			c.badValue("sync_field", n.start, "a field must be text", "")
			return nil, false
		}
	} else {
		for _, part := range strings.Split(text, ",") {
			names = append(names, strings.Trim(strings.TrimSpace(part), "`"))
		}
	}
	for _, n := range names {
		if n == "" || strings.ContainsRune(n, 0) {
			c.column(Error, UnknownField, "sync_field", "a field without a name", "remove the comma")
			return nil, false
		}
	}
	return names, true
}

// textList is the texts of a list or of one text; bad is what is not text.
func textList(n *node) (out []string, bad *node) {
	items := n.items
	if !n.list {
		items = []node{*n}
	}
	for i := range items {
		s, ok := items[i].text()
		if !ok {
			return nil, &items[i]
		}
		out = append(out, s)
	}
	return out, nil
}

// operations reads sync_operation_type and gives each script its operation. The
// column may be empty; then a statement's verb is its operation.
func (c *compiler) operations(scripts []script, form Form) {
	text := strings.TrimSpace(c.row.OperationType)
	if text == "" || text == "None" || text == "null" {
		return
	}
	chains := map[phase]string{}
	if strings.HasPrefix(text, "{") {
		root, _ := c.value("sync_operation_type", c.row.OperationType)
		if root == nil {
			return
		}
		for i := range root.keys {
			key, _ := root.keys[i].text()
			chain, ok := root.items[i].text()
			if !ok && !root.items[i].isNull() {
				c.badValue("sync_operation_type", root.items[i].start, "a chain of operations must be text", `write it like "insert|update"`)
				return
			}
			if key != "upside" && key != "downside" && key != "update_state" {
				c.badValue("sync_operation_type", root.keys[i].start, fmt.Sprintf("%q is not a phase", key), "")
				return
			}
			chains[phaseNamed(key)] = chain
		}
	} else {
		chains[c.row.mainPhase()] = strings.Trim(text, `"'`)
	}
	for _, p := range [...]phase{upside, downside, updateState} {
		c.chain(p, chains[p], scripts, form)
	}
}

func (c *compiler) chain(p phase, chain string, scripts []script, form Form) {
	if chain == "" || !c.row.role().runs[p] {
		return
	}
	ops := strings.Split(strings.ReplaceAll(strings.ToLower(chain), " ", ""), "|")
	for _, op := range ops {
		if _, ok := opNamed(op); !ok {
			c.column(Error, BadOperation, "sync_operation_type", fmt.Sprintf("%q is not an operation", op),
				"the operations are insert, update, delete, replace, select and file")
			return
		}
	}
	if form == Generated {
		if want := strings.Join(ops, "|"); p == downside && want != "insert|update" && want != "update|insert" || p == upside && want != "select" {
			c.column(Error, BadOperation, "sync_operation_type", "with an empty sync_sql nothing is generated for "+want,
				"leave sync_operation_type empty, or write the SQL")
		}
		return
	}
	n := 0
	for i := range scripts {
		if scripts[i].phase != p {
			continue
		}
		op := ops[min(n, len(ops)-1)]
		if scripts[i].op != "" && scripts[i].op != op {
			c.column(Error, BadOperation, "sync_operation_type", fmt.Sprintf("%s says %s where the statement's heading says %s", p, op, scripts[i].op), "make them agree")
		}
		scripts[i].op = op
		n++
	}
	if n > 0 && n != len(ops) && !(p == upside && len(ops) == 1) {
		c.column(Error, BadOperation, "sync_operation_type",
			fmt.Sprintf("%s has %d statements for the %d operations of %s", p, n, len(ops), chain), "give each operation one statement")
	}
}

func opNamed(s string) (Op, bool) {
	for o := Select; o <= OpFile; o++ {
		if o.String() == s {
			return o, true
		}
	}
	return 0, false
}

// namedFields is the fields that the statements of a row in hand use, in the order
// of their first mention: what it holds when neither sync_field nor the table says it.
func namedFields(scripts []script) (names []string) {
	add := func(name string) {
		if name != "" && len(names) < maxFields && !contains(names, name) {
			names = append(names, name)
		}
	}
	for _, s := range scripts {
		if s.phase == upside || s.src == nil {
			continue
		}
		if s.seed != nil {
			for _, e := range s.seed.entries {
				if e.kind == "transfer" {
					add(e.field)
				}
			}
			continue
		}
		if words := strings.Fields(s.src.text); s.op == OpFile.String() && len(words) == 3 {
			for _, name := range strings.Split(words[2], ",") {
				add(name)
			}
			continue
		}
		toks, _ := lex(s.src.text)
		for _, t := range toks {
			_, reserved := plainSources[strings.ToLower(t.value)]
			switch {
			case t.kind != tokParam || reserved:
			case t.rest == "":
				add(t.value)
			case sameName(t.value, "row"):
				add(t.rest)
			}
		}
	}
	return names
}

// selected is the columns that the first upside gives, when it names them all.
func selected(scripts []script) []string {
	for _, s := range scripts {
		if s.phase != upside || s.src == nil {
			continue
		}
		toks, err := lex(s.src.text)
		if toks = code(toks); err != nil || len(toks) == 0 {
			return nil
		}
		names, known := outputNames(toks)
		if !known || slices.Contains(names, "") {
			return nil
		}
		return names
	}
	return nil
}
