package rule

// scope is what one statement reads or writes, as far as its tokens tell.
type scope struct {
	table  int          // token of the table's name; -1 when there is none or several
	single bool         // nothing but that table is mentioned
	alias  string       // the table's other name
	skip   map[int]bool // tokens that name no column: tables, aliases, index names
}

// insertShape is an insert or replace cut into its parts, as token indexes.
type insertShape struct {
	columns     []int // names in the column list
	hasList     bool
	open, close int  // the brackets of the first tuple; 0 when there is none
	width       int  // values in that tuple
	several     bool // more tuples follow
}

// readScope finds the table of the statement and whether it is the only one.
func readScope(toks []token, op Op) scope {
	s := scope{table: -1, skip: map[int]bool{}}
	i := 1
	switch op {
	case Select:
		i = find(toks, 0, "from") + 1
		if i == 0 || toks[0].is("(") || toks[0].is("with") {
			return s
		}
	case Delete:
		if i = find(toks, 0, "from") + 1; i == 0 {
			return s
		}
	default:
		for i < len(toks) && (toks[i].is("low_priority") || toks[i].is("high_priority") || toks[i].is("delayed") || toks[i].is("ignore") || toks[i].is("into")) {
			i++
		}
	}
	if i >= len(toks) || !toks[i].isName() {
		return s
	}
	s.skip[i] = true
	if i+2 < len(toks) && toks[i+1].is(".") {
		i += 2
		s.skip[i] = true
	}
	s.table, s.single = i, countWord(toks, "select") == map[Op]int{Select: 1}[op]
	s.readAlias(toks, op, i+1)
	if op == Delete && !isKeyword(&toks[find(toks, 0, "from")-1]) {
		s.single = false // delete a, b from …
	}
	return s
}

// readAlias takes `as x` or `x` behind a table and sees whether more tables follow.
func (s *scope) readAlias(toks []token, op Op, i int) {
	if op == Insert || op == Replace {
		return
	}
	if i < len(toks) && toks[i].is("as") {
		i++
	}
	if i < len(toks) && toks[i].isName() && !isKeyword(&toks[i]) {
		s.alias, s.skip[i] = toks[i].value, true
		i++
	}
	for ; i < len(toks); i++ {
		switch t := &toks[i]; {
		case t.is("where"), t.is("group"), t.is("order"), t.is("having"), t.is("limit"), t.is("set"):
			return
		case t.is(","), t.is("join"), t.is("straight_join"):
			s.single = false
		case t.is("index"), t.is("key"), t.is("partition"):
			for i++; i < len(toks) && !toks[i].is(")"); i++ {
				s.skip[i] = true
			}
		}
	}
}

func countWord(toks []token, w string) (n int) {
	for i := range toks {
		if toks[i].is(w) {
			n++
		}
	}
	return n
}

// readInsert cuts an insert or replace that follows its table's name with an
// optional column list and VALUES; nil for SET and SELECT.
func readInsert(toks []token, table int) *insertShape {
	s := &insertShape{}
	i := table + 1
	if i < len(toks) && toks[i].is("(") {
		end := closing(toks, i)
		for _, p := range split(toks, i+1, end) {
			last := p[1] - 1
			if last >= p[0] && toks[last].isName() {
				s.columns = append(s.columns, last)
			}
		}
		s.hasList, i = true, end+1
	}
	if i+1 >= len(toks) || !toks[i].is("values") && !toks[i].is("value") || !toks[i+1].is("(") {
		return s
	}
	s.open = i + 1
	s.close = closing(toks, s.open)
	s.width = len(split(toks, s.open+1, s.close))
	s.several = s.close+1 < len(toks) && toks[s.close+1].is(",")
	return s
}

// insertParts lets consecutive rows be joined where that cannot change the outcome:
// one tuple, nothing that reads what an earlier row wrote, no value behind the tuple.
func (c *compiler) insertParts(a *analysis, st *Statement) {
	a.scope = readScope(a.toks, a.op)
	if a.op != Insert && a.op != Replace || a.scope.table < 0 {
		return
	}
	a.insert = readInsert(a.toks, a.scope.table)
	s := a.insert
	if s.open == 0 {
		return
	}
	if s.hasList && len(s.columns) != s.width {
		c.at(Error, PlaceholderCount, a.script.phase, a.script.src, a.toks[s.open].from,
			plural(len(s.columns), "column")+" but "+plural(s.width, "value"), "give each column one value")
		return
	}
	if s.several || countWord(a.toks, "select") > 0 || a.script.phase != downside {
		return
	}
	for _, at := range a.argAt {
		if at < s.open || at > s.close {
			return
		}
	}
	for i := range a.toks {
		if t := &a.toks[i]; t.is("last_insert_id") || t.is("row_count") || t.is("found_rows") || t.is("nextval") || t.is("next") {
			return
		}
	}
	st.Insert = &InsertParts{Head: st.SQL[:a.from[s.open]], Tuple: st.SQL[a.from[s.open]:a.to[s.close]], Tail: st.SQL[a.to[s.close]:]}
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
