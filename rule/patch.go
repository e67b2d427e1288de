package rule

import "fmt"

// patches reads sync_patch_field and sync_patch_field_value for each script.
//
// What a phase holds is a list with one list a statement. With one statement the
// outer list is often missing, because ("x") is no tuple in Python; both are read.
func (c *compiler) patches(scripts []script) {
	fields := c.patchColumn("sync_patch_field", c.row.PatchField)
	values := c.patchColumn("sync_patch_field_value", c.row.PatchFieldValue)
	var total, seen [3]int
	for i := range scripts {
		total[scripts[i].phase]++
	}
	for i := range scripts {
		s := &scripts[i]
		s.seed = &patch{}
		nth := seen[s.phase]
		seen[s.phase]++
		f := ofStatement(phaseOf(fields, s.phase), nth, total[s.phase], isTextItem)
		v := ofStatement(phaseOf(values, s.phase), nth, total[s.phase], isPair)
		c.patch(s, f, v)
	}
}

func (c *compiler) patchColumn(column, text string) *node {
	if text == "" || text == "None" {
		return nil
	}
	n, _ := c.value(column, text)
	if n != nil && !n.isDict() && !n.isNull() {
		c.badValue(column, n.start, "it must be a dict of phases", "write it like {'downside': …}")
		return nil
	}
	return n
}

func phaseOf(n *node, p phase) *node {
	if n == nil {
		return nil
	}
	return n.get(p.String())
}

func isTextItem(n *node) bool { _, ok := n.text(); return ok }

// isPair reports whether n is one ("transfer", None), or the word alone.
func isPair(n *node) bool {
	if !n.list {
		return isKind(n)
	}
	return len(n.items) > 0 && len(n.items) <= 2 && isKind(&n.items[0]) && !(len(n.items) == 2 && isKind(&n.items[1]))
}

// ofStatement finds the nth statement's list in a phase's value.
func ofStatement(n *node, nth, total int, isElement func(*node) bool) *node {
	if n == nil || n.isNull() {
		return nil
	}
	if total == 1 && (!n.list || len(n.items) > 0 && isElement(&n.items[0]) || isElement(n)) {
		return n
	}
	if n.list && nth < len(n.items) && !n.items[nth].isNull() {
		return &n.items[nth]
	}
	return nil
}

// patch joins the fields and the values of one statement into entries.
func (c *compiler) patch(s *script, fields, values *node) {
	var names []string
	if fields != nil {
		var bad *node
		if names, bad = textList(fields); bad != nil {
			c.badValue("sync_patch_field", bad.start, "a field must be text", "")
			return
		}
	}
	var pairs []node
	if values != nil {
		if pairs = values.items; isPair(values) {
			pairs = []node{*values}
		}
	}
	s.seed.given = fields != nil || values != nil
	if len(names) > 0 && len(pairs) > 0 && len(names) != len(pairs) {
		c.badCount(s, fmt.Sprintf("sync_patch_field names %d fields and sync_patch_field_value has %d entries", len(names), len(pairs)))
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
	c.at(Error, PlaceholderCount, s.phase, s.src, 0, msg, "give each placeholder one field and one entry")
}

func isKind(n *node) bool {
	s, _ := n.text()
	return s == "transfer" || s == "carry" || s == "fixed"
}

// pair reads one entry: ("transfer", None), ("fixed", 7), or the word alone.
func (c *compiler) pair(e *patchEntry, n *node) bool {
	kind := n
	if n.list && len(n.items) > 0 {
		kind = &n.items[0]
	}
	if !isKind(kind) || n.list && len(n.items) > 2 {
		c.badValue("sync_patch_field_value", n.start, "an entry must be transfer, carry or fixed with its value", `write it like ("transfer", None)`)
		return false
	}
	e.kind, _ = kind.text()
	if n.list && len(n.items) == 2 {
		v := &n.items[1]
		if v.list || v.isDict() {
			c.badValue("sync_patch_field_value", v.start, "an entry's value must be one value", "")
			return false
		}
		e.value = v.value
		if b, ok := e.value.(bool); ok {
			e.value = int64(0)
			if b {
				e.value = int64(1)
			}
		}
	}
	return true
}
