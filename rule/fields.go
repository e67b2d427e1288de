package rule

import (
	"fmt"
	"slices"
	"strings"
)

// fields reads sync_field, or takes what a client's upside selects, the table's columns that can be written, or else
// the fields that the statements name.
func (c *compiler) fields(scripts []*script) {
	names, ok := c.fieldList()
	if !ok {
		return
	}
	if len(names) > maxFields {
		c.refuseIn(TooLarge, "sync_field", fmt.Sprintf("%d fields; at most %d", len(names), maxFields), "")
		return
	}
	seen, all := map[string]bool{}, []string(nil)
	if c.table != nil {
		all = c.table.names(anyColumn)
	}
	for _, n := range names {
		if seen[strings.ToLower(n)] {
			c.refuseIn(DuplicateField, "sync_field", "it names "+n+" twice", "remove one")
		}
		seen[strings.ToLower(n)] = true
		if c.table != nil && c.table.Column(n) == nil && !c.full(Warning) {
			says := c.row.Table + " has no column " + n
			if c.plan.Form == Generated {
				says += "; the field is left out until it has"
			}
			c.warnIn(UnknownField, "sync_field", says, hint(n, all))
		}
	}
	c.plan.listed = names
	if c.plan.Form == Generated && c.table != nil {
		c.plan.Fields = c.row.fieldsOf(c.table, names)
		return
	}
	if len(names) == 0 && c.row.Type == Upload && c.row.User == Client {
		names = selected(scripts)
	}
	if len(names) == 0 && c.table != nil {
		names = c.table.names(func(col *Column) bool { return !col.Generated })
	}
	if len(names) == 0 {
		names = namedFields(scripts)
	}
	c.plan.Fields = names
}

// fieldList reads sync_field: a list, or names parted by commas.
func (c *compiler) fieldList() (names []string, ok bool) {
	column := strings.TrimSpace(c.row.Field)
	if blank(column) {
		return nil, true
	}
	if literalBegins.MatchString(column) {
		root := c.value("sync_field", c.row.Field)
		if names, ok = c.nameList("sync_field", root); !ok || root == nil {
			return nil, false
		}
	} else {
		for _, part := range strings.Split(column, ",") {
			names = append(names, strings.Trim(strings.TrimSpace(part), "`"))
		}
	}
	if slices.ContainsFunc(names, func(n string) bool { return n == "" || strings.ContainsRune(n, 0) }) {
		c.refuseIn(UnknownField, "sync_field", "a field without a name", "remove the comma")
		return nil, false
	}
	return names, true
}

// nameList is the names in a list of fields, or in one text.
func (c *compiler) nameList(column string, n *node) (out []string, ok bool) {
	for _, item := range items(n) {
		s, ok := text(&item)
		if !ok {
			c.badValue(column, &item, "a field must be text", "")
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// namedFields is the fields that the statements of a row in hand use, in the order
// of their first mention.
func namedFields(scripts []*script) (names []string) {
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
		} else if s.op == OpFile.String() {
			if words := strings.Fields(s.src.text); len(words) == 3 {
				for _, name := range strings.Split(words[2], ",") {
					add(name)
				}
			}
		} else {
			for i := range s.toks {
				add(s.toks[i].fieldName())
			}
		}
	}
	return names
}

// fieldName is the field that a parameter names; "" for what is none.
func (t *token) fieldName() string {
	_, reserved := plainSources[strings.ToLower(t.value)]
	switch {
	case t.kind == tokParam && t.rest == "" && !reserved:
		return t.value
	case t.kind == tokParam && sameName(t.value, "row"):
		return t.rest
	}
	return ""
}

// selected is the columns that the first upside gives, when all have a name.
func selected(scripts []*script) []string {
	i := slices.IndexFunc(scripts, func(s *script) bool { return s.phase == upside && s.src != nil })
	if i < 0 || scripts[i].err != nil {
		return nil
	}
	names := outputNames(scripts[i].toks)
	if slices.Contains(names, "") {
		return nil
	}
	return names
}
