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

// baseName is the part of db.table that names the table.
func baseName(table string) string { return table[strings.LastIndexByte(table, '.')+1:] }

// index is the place of a name among the names, or -1.
func index(names []string, name string) int {
	return slices.IndexFunc(names, func(n string) bool { return sameName(n, name) })
}

func contains(names []string, name string) bool { return index(names, name) >= 0 }

// Join is what part makes of each name, with sep between.
func Join(names []string, sep string, part func(name string) string) string {
	all := make([]string, len(names))
	for i, n := range names {
		all[i] = part(n)
	}
	return strings.Join(all, sep)
}

// Quote is a name as SQL.
func Quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// QuoteAll is names as SQL, with commas.
func QuoteAll(names []string) string { return Join(names, ", ", Quote) }

// SameKey is the condition that the rows of two tables have one key.
func SameKey(key []string, a, b string) string {
	return Join(key, " and ", func(k string) string { return a + "." + Quote(k) + " = " + b + "." + Quote(k) })
}

// Items are the names of n items of a state.
func Items(n int, item func(i int) string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = item(i)
	}
	return all
}

// anyColumn wants each column of a table.
func anyColumn(*Column) bool { return true }

func allIn(names, in []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !contains(in, n) })
}

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// hint proposes a name in place of one that is not among the names.
func hint(name string, names []string) string {
	if n := Nearest(name, names); n != "" {
		return "did you mean " + n + "?"
	}
	if len(names) > 0 && len(names) <= 12 {
		return "there are " + strings.Join(names, ", ")
	}
	return ""
}

// Nearest is the name closest to the given one, or "" when none is close.
func Nearest(name string, names []string) (best string) {
	limit := 1 + min(len(name)/4, 2)
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

// maxName is the longest word that is compared, bytes.
const maxName = 64

// distance is the number of letters to insert, drop, change or swap with their neighbour to make b of a (optimal string
// alignment).
func distance(a, b string) int {
	if len(a) > maxName || len(b) > maxName {
		return maxName
	}
	var d [maxName + 1][maxName + 1]uint8
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			if i == 0 || j == 0 {
				d[i][j] = uint8(i + j)
				continue
			}
			d[i][j] = min(d[i-1][j], d[i][j-1], d[i-1][j-1]) + 1
			if a[i-1] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return int(d[len(a)][len(b)])
}
