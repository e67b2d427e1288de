package rule

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

// names checks the tables and columns that the statement mentions against the facts.
// Only what stands where nothing but a column can stand is called unknown; the
// database's PREPARE finds the rest.
func (c *compiler) names(s *script) {
	if c.table == nil || s.table < 0 {
		return
	}
	at := s.table
	name, base := s.toks[at].value, baseName(c.table.Name)
	if !sameName(name, base) {
		if Nearest(name, []string{base}) != "" {
			c.at(s, s.toks[at].from, Warning, UnknownTable, "the statement is about "+name+", the rule about "+c.table.Name,
				"did you mean "+c.table.Name+"?")
		}
		return
	}
	if at > 1 && s.toks[at-1].is(".") && !sameName(s.toks[at-2].value+"."+name, c.table.Name) {
		return // another database's table of that name
	}
	if !s.inserts() {
		if s.single {
			c.expressions(s, 0)
		}
		return
	}
	for _, i := range s.columns {
		c.known(s, i)
	}
	c.unfilled(s)
	at++ // insert … set a = 1
	if s.hasList || s.tuple > 0 {
		at = find(s.toks, at, "duplicate")
	}
	if at > 0 && s.single {
		c.expressions(s, at)
	}
}

func baseName(table string) string { return table[strings.LastIndexByte(table, '.')+1:] }

// known reports the name at i when it is no column.
func (c *compiler) known(s *script, i int) {
	if t := &s.toks[i]; c.table.Column(t.value) == nil {
		c.at(s, t.from, Error, UnknownColumn, "unknown column "+strings.Trim(s.written(i), "`"), c.didYouMean(t.value))
	}
}

// expressions looks at each token from i on that can only be a column.
func (c *compiler) expressions(s *script, i int) {
	aliases := map[string]bool{}
	for j := range s.toks {
		if t := &s.toks[j]; j > 0 && t.isName() && !isKeyword(t) && (s.toks[j-1].is("as") || endsOperand(&s.toks[j-1])) {
			aliases[strings.ToLower(t.value)] = true
			t.noColumn = true
		}
	}
	for ; i < len(s.toks); i++ {
		if !aliases[strings.ToLower(s.toks[i].value)] && s.columnPlace(i) {
			c.known(s, i)
		}
	}
}

// columnPlace reports whether a name stands at i where only a column can: not a
// function, not a qualifier, not behind another table's qualifier, not a collation.
func (s *script) columnPlace(i int) bool {
	t, next, prev, before := s.tok(i), s.tok(i+1), s.tok(i-1), s.tok(i-2)
	switch {
	case !t.isName() || isKeyword(t) || t.noColumn:
		return false
	case next.is(".") || next.kind == tokString || t.kind == tokWord && next.is("("):
		return false
	case prev.is("."):
		return sameName(before.value, s.toks[s.table].value) || s.alias != "" && sameName(before.value, s.alias)
	case prev.is("over", "window", "for", "collate", "using", "charset") || prev.is("set") && before.is("character"):
		return false
	}
	return !(t.kind == tokWord && t.value[0] == '_' && next.kind == tokNumber) // _latin1 x'41'
}

// endsOperand reports whether a name right behind the token is an alias.
func endsOperand(t *token) bool {
	switch t.kind {
	case tokName, tokString, tokNumber, tokParam, tokPercent:
		return true
	case tokWord:
		return !isKeyword(t)
	}
	return t.is(")")
}

// keywordText is the words that may stand in a statement without quotes where a column
// could, and are none. Those that are keywords only in front of a bracket or a string
// need not be there.
//
//go:embed keywords.txt
var keywordText string

var keywords = wordSet(keywordText)

// isKeyword reports whether the token is a keyword written without quotes.
func isKeyword(t *token) bool { return t.kind == tokWord && keywords[t.value] }

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

// unfilled warns of a column that strict mode wants a value for.
func (c *compiler) unfilled(s *script) {
	if s.tuple == 0 || !s.hasList {
		return
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

// index is the place of a name among the names, or -1.
func index(names []string, name string) int {
	return slices.IndexFunc(names, func(n string) bool { return sameName(n, name) })
}

func contains(names []string, name string) bool { return index(names, name) >= 0 }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
