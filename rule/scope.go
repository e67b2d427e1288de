package rule

import (
	"slices"
)

// inserts reports whether the statement is an insert or a replace.
func (s *script) inserts() bool { return s.verb == Insert || s.verb == Replace }

// afterModifiers is the token behind the words between an insert and its table.
func afterModifiers(toks []token) int {
	i := 1
	for i < len(toks) && toks[i].is("low_priority", "high_priority", "delayed", "ignore") {
		i++
	}
	if i < len(toks) && toks[i].is("into") {
		i++
	}
	return i
}

// readScope finds the table of the statement and whether it is the only one.
func (s *script) readScope() {
	toks, from := s.toks, find(s.toks, 0, "from")
	s.table = -1
	i := afterModifiers(toks)
	if s.verb == Select || s.verb == Delete {
		if i = from + 1; from < 0 || toks[0].is("with", "(") {
			return
		}
	}
	if !s.tok(i).isName() {
		return
	}
	if i+2 < len(toks) && toks[i+1].is(".") {
		i += 2
	}
	s.table = i
	switch selects := countWord(toks, "select"); s.verb {
	case Select:
		s.single = selects == 1 && !s.joins()
	case Delete: // delete a, b from … names tables in front of from
		s.single = selects == 0 && !s.joins() && (from == 1 || toks[from-1].is("low_priority", "quick", "ignore"))
	default:
		s.single = selects == 0 && (s.inserts() || !s.joins())
	}
}

// joins reports whether another table follows the statement's own.
func (s *script) joins() bool {
	for i := s.table + 1; i < len(s.toks); i++ {
		switch t := &s.toks[i]; {
		case t.is("where", "group", "order", "having", "limit", "set"):
			return false
		case t.is("join", "straight_join") || t.is(",") && t.depth == 0:
			return true
		}
	}
	return false
}

// find is the index of the first keyword w outside brackets from i on, or -1.
func find(toks []token, i int, w string) int {
	for ; i < len(toks); i++ {
		if toks[i].depth == 0 && toks[i].is(w) && (i == 0 || !toks[i-1].is(".")) {
			return i
		}
	}
	return -1
}

// countWord is how often one of the words stands in the statement.
func countWord(toks []token, words ...string) (n int) {
	for i := range toks {
		if toks[i].is(words...) {
			n++
		}
	}
	return n
}

// closing is the index of the bracket that closes the one at i.
func closing(toks []token, i int) int {
	end := i + 1
	for end < len(toks)-1 && toks[end].depth != toks[i].depth {
		end++
	}
	return end
}

// split cuts toks[from:to] at its commas outside brackets.
func split(toks []token, from, to int) (parts [][2]int) {
	at := from
	for i := from; i < to; i++ {
		if toks[i].is(",") && toks[i].depth == toks[from].depth {
			parts = append(parts, [2]int{at, i})
			at = i + 1
		}
	}
	if at < to {
		parts = append(parts, [2]int{at, to})
	}
	return parts
}

// checkTable compares the statement's table with the rule's, and an insert's columns with those that need a value.
func (c *compiler) checkTable(s *script) {
	if c.table == nil || s.table < 0 {
		return
	}
	at, name := s.table, s.toks[s.table].value
	if !sameName(name, c.table.Name) {
		if Nearest(name, []string{c.table.Name}) != "" {
			c.at(s, s.toks[at].from, Warning, UnknownTable, "the statement is about "+name+", the rule about "+c.row.Table,
				"did you mean "+c.row.Table+"?")
		}
		return
	}
	if at > 1 && s.toks[at-1].is(".") && !sameName(s.toks[at-2].value, c.table.Schema) || s.tuple == 0 || !s.hasList {
		return // another database's table of that name, or no list of columns
	}
	var listed []string
	for _, i := range s.columns {
		listed = append(listed, s.toks[i].value)
	}
	for _, col := range missingColumns(c.table, listed) {
		c.at(s, s.toks[s.tuple].from, Warning, UnfilledColumn, "the column "+col+" has no default and gets no value",
			"add it to the insert, or give it a default")
	}
}

// missingColumns is the columns that need a value and are not listed.
func missingColumns(t *Table, listed []string) []string {
	return t.names(func(col *Column) bool {
		return !col.Nullable && !col.HasDefault && !col.Auto && !col.Generated && !contains(listed, col.Name)
	})
}

// readInsert finds the column list and the first tuple of an insert or replace; SET and SELECT have neither.
// Consecutive rows may be joined where that cannot change the outcome: one tuple, nothing that reads what an earlier
// row wrote, no value behind it.
func (c *compiler) readInsert(s *script, st *Statement) {
	if !s.inserts() || s.table < 0 {
		return
	}
	i := s.table + 1
	if s.tok(i).is("(") {
		end := closing(s.toks, i)
		for _, p := range split(s.toks, i+1, end) {
			if last := p[1] - 1; last >= p[0] && s.toks[last].isName() {
				s.columns = append(s.columns, last)
			}
		}
		s.hasList, i = true, end+1
	}
	if !s.tok(i).is("values", "value") || !s.tok(i+1).is("(") {
		return
	}
	s.tuple = i + 1
	end := closing(s.toks, s.tuple)
	if width := len(split(s.toks, s.tuple+1, end)); s.hasList && len(s.columns) != width {
		c.at(s, s.toks[s.tuple].from, Error, PlaceholderCount, plural(len(s.columns), "column")+" but "+plural(width, "value"),
			"give each column one value")
		return
	}
	outside := func(at int) bool { return at < s.tuple || at > end }
	if s.tok(end+1).is(",") || s.phase != downside || slices.ContainsFunc(s.argAt, outside) ||
		countWord(s.toks, "select", "last_insert_id", "row_count", "found_rows", "nextval", "next") > 0 {
		return
	}
	from, to := s.sent[s.tuple], s.sent[end]+1
	st.Insert = &InsertParts{Head: st.SQL[:from], Tuple: st.SQL[from:to], Tail: st.SQL[to:]}
}
