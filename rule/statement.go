package rule

import (
	"slices"
	"strings"
)

// script is one statement of sync_sql on its way from the text in the column to the Statement that runs.
type script struct {
	phase phase
	op    string  // the operation that the rule names; "" takes the statement's own verb
	src   *source // nil for a file without a name
	seed  *patch  // how %s are filled; nil where names are used
	all   []token // with comments
	toks  []token // without comments
	err   *lexError

	verb   Op
	args   []Arg // in the order of the placeholders
	argAt  []int // the token of each
	sent   []int // where each token begins in Statement.SQL
	table  int   // token of the table's name; -1 when there is none or several
	single bool  // the statement names no other table

	columns []string // of an insert with a column list
	tuple   int      // of an insert: the bracket that opens the first tuple; 0 when there is none

	out Statement
}

// read cuts the statement into tokens.
func (s *script) read() {
	s.all, s.err = lex(s.src.text)
	for _, t := range s.all {
		if t.kind != tokComment && t.kind != tokHint {
			s.toks = append(s.toks, t)
		}
	}
}

// tokenText is the token at i as it stands in the statement.
func (s *script) tokenText(i int) string { return s.src.text[s.toks[i].from:s.toks[i].to] }

// tok is the token at i, or one that is nothing.
func (s *script) tok(i int) *token {
	if i >= 0 && i < len(s.toks) {
		return &s.toks[i]
	}
	return &token{}
}

// statement compiles one script to its out. It reports each mistake and returns false when there is one.
func (c *compiler) statement(s *script) bool {
	if s.op == OpFile.String() {
		return c.file(s)
	}
	before := c.errors
	if s.err != nil {
		return c.refuse(s, s.err.at, BadSQL, s.err.msg, "")
	}
	for _, t := range s.all {
		if t.kind == tokHint {
			c.refuse(s, t.from, ExecutableComment, "a server would run this comment", "write a plain comment")
		}
	}
	if !c.shape(s) || !c.allowed(s) || !c.placeholders(s) {
		return false
	}
	s.render()
	s.readScope()
	c.readInsert(s)
	c.guardState(s)
	c.checkTable(s)
	return c.errors == before
}

// render writes the SQL that is sent: the statement as written, with ? for each placeholder and a space for each
// comment.
func (s *script) render() {
	var sql, named strings.Builder
	put := func(s string) { sql.WriteString(s); named.WriteString(s) }
	at, end := s.toks[0].from, s.toks[len(s.toks)-1].to
	s.out = Statement{Op: s.verb, Args: s.args, phase: s.phase, text: s.src, start: at}
	n := 0 // arguments so far
	for _, t := range s.all {
		if t.from < at || t.to > end {
			continue
		}
		put(s.src.text[at:t.from])
		at = t.to
		written := s.src.text[t.from:t.to]
		switch {
		case t.kind == tokComment:
			put(" ")
			continue
		case s.seed != nil && !s.seed.verbatim && (t.kind == tokString || t.is("%%")):
			written = strings.ReplaceAll(written, "%%", "%")
		}
		i := len(s.sent)
		s.sent = append(s.sent, sql.Len())
		if n < len(s.argAt) && s.argAt[n] == i {
			sql.WriteString("?")
			named.WriteString(s.args[n].named())
			n++
		} else {
			put(written)
		}
	}
	s.out.SQL, s.out.named = sql.String(), named.String()
}

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

// find is the index of the first keyword w at or behind i and outside brackets, or -1.
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
			c.warn(s, s.toks[at].from, UnknownTable, "the statement is about "+name+", the rule about "+c.row.Table,
				"did you mean "+c.row.Table+"?")
		}
		return
	}
	if at > 1 && s.toks[at-1].is(".") && !sameName(s.toks[at-2].value, c.table.Schema) {
		return // another database's table of that name
	}
	if s.tuple == 0 || s.columns == nil {
		return
	}
	for _, col := range missingColumns(c.table, s.columns) {
		c.warn(s, s.toks[s.tuple].from, UnfilledColumn, col+" has no default and gets no value", "add it to the insert")
	}
}

// missingColumns is the columns that need a value and are not in the list.
func missingColumns(t *Table, listed []string) []string {
	return t.names(func(col *Column) bool {
		return !col.Nullable && !col.HasDefault && !col.Auto && !col.Generated && !contains(listed, col.Name)
	})
}

// readInsert finds the column list and the first tuple of an insert or replace; SET and SELECT have neither. Rows may
// share one statement where that cannot change the outcome: the statement has one tuple, reads nothing that an earlier
// row wrote, and takes no value behind the tuple.
func (c *compiler) readInsert(s *script) {
	if !s.inserts() || s.table < 0 {
		return
	}
	i := s.table + 1
	if s.tok(i).is("(") {
		end := closing(s.toks, i)
		for _, p := range split(s.toks, i+1, end) {
			if last := p[1] - 1; last >= p[0] && s.toks[last].isName() {
				s.columns = append(s.columns, s.toks[last].value)
			}
		}
		i = end + 1
	}
	if !s.tok(i).is("values", "value") || !s.tok(i+1).is("(") {
		return
	}
	s.tuple = i + 1
	end := closing(s.toks, s.tuple)
	values := split(s.toks, s.tuple+1, end)
	if s.columns != nil && len(s.columns) != len(values) {
		counts := plural(len(s.columns), "column") + " but " + plural(len(values), "value")
		c.refuse(s, s.toks[s.tuple].from, PlaceholderCount, counts, "give each column one value")
		return
	}
	c.readNarrow(s, values)
	outside := func(at int) bool { return at < s.tuple || at > end }
	if s.tok(end+1).is(",") || s.phase != downside || slices.ContainsFunc(s.argAt, outside) ||
		countWord(s.toks, "select", "last_insert_id", "row_count", "found_rows", "nextval", "next") > 0 {
		return
	}
	from, to := s.sent[s.tuple], s.sent[end]+1
	sql := s.out.SQL
	s.out.Insert = &InsertParts{Head: sql[:from], Tuple: sql[from:to], Tail: sql[to:]}
}
