package rule

import (
	"fmt"
	"strings"
)

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// names checks the tables and columns that the statement mentions against the facts.
// Only what stands where nothing but a column can stand is called unknown; the
// database's PREPARE finds the rest.
func (c *compiler) names(a *analysis) {
	if c.table == nil || a.scope.table < 0 {
		return
	}
	s, p, src := a.scope, a.script.phase, a.script.src
	name := a.toks[s.table].value
	if !sameName(name, baseName(c.table.Name)) {
		if near(name, []string{baseName(c.table.Name)}) != "" {
			c.at(Warning, UnknownTable, p, src, a.toks[s.table].from, "the statement is about "+name+", the rule about "+c.table.Name, "did you mean "+c.table.Name+"?")
		}
		return
	}
	if s.table > 1 && a.toks[s.table-1].is(".") && !sameName(a.toks[s.table-2].value+"."+name, c.table.Name) {
		return // another database's table of that name
	}
	unknown := func(i int) {
		t := &a.toks[i]
		if written := strings.Trim(src.text[t.from:t.to], "`"); c.table.Column(t.value) == nil {
			c.at(Error, UnknownColumn, p, src, t.from, "unknown column "+written, c.didYouMean(t.value))
		}
	}
	if a.insert != nil {
		for _, i := range a.insert.columns {
			unknown(i)
		}
		c.unfilled(a)
		at := s.table + 1 // insert … set a = 1
		if a.insert.hasList || a.insert.open > 0 {
			at = find(a.toks, s.table, "duplicate")
		}
		if at > 0 && countWord(a.toks, "select") == 0 {
			c.expressions(a, at, unknown)
		}
		return
	}
	if s.single {
		c.expressions(a, 0, unknown)
	}
}

func baseName(table string) string { return table[strings.LastIndexByte(table, '.')+1:] }

// expressions calls unknown for each token from i on that can only be a column.
func (c *compiler) expressions(a *analysis, i int, unknown func(int)) {
	aliases := map[string]bool{}
	for j := range a.toks {
		if j > 0 && a.toks[j].isName() && !isKeyword(&a.toks[j]) && (a.toks[j-1].is("as") || endsOperand(&a.toks[j-1])) {
			aliases[strings.ToLower(a.toks[j].value)] = true
			a.scope.skip[j] = true
		}
	}
	for ; i < len(a.toks); i++ {
		t := &a.toks[i]
		if !t.isName() || isKeyword(t) || a.scope.skip[i] || aliases[strings.ToLower(t.value)] || !c.columnPlace(a, i) {
			continue
		}
		unknown(i)
	}
}

// columnPlace reports whether the name at i stands where only a column can: not a
// function, not a qualifier, not behind another table's qualifier, not a collation.
func (c *compiler) columnPlace(a *analysis, i int) bool {
	var next, prev, before token
	if i+1 < len(a.toks) {
		next = a.toks[i+1]
	}
	if i > 0 {
		prev = a.toks[i-1]
	}
	if i > 1 {
		before = a.toks[i-2]
	}
	switch {
	case next.is(".") || next.kind == tokString || next.is("(") && a.toks[i].kind == tokWord:
		return false
	case prev.is("."):
		q := before.value
		return sameName(q, a.toks[a.scope.table].value) || a.scope.alias != "" && sameName(q, a.scope.alias)
	case prev.is("over") || prev.is("window") || prev.is("for") || prev.is("collate") || prev.is("using") || prev.is("charset") || prev.is("set") && before.is("character"):
		return false
	case a.toks[i].kind == tokWord && strings.HasPrefix(a.toks[i].value, "_") && next.kind == tokNumber:
		return false
	}
	return true
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

// unfilled warns of a column that strict mode wants a value for.
func (c *compiler) unfilled(a *analysis) {
	if a.insert.open == 0 || !a.insert.hasList {
		return
	}
	var listed []string
	for _, i := range a.insert.columns {
		listed = append(listed, a.toks[i].value)
	}
	for _, col := range missingColumns(c.table, listed) {
		c.at(Warning, UnfilledColumn, a.script.phase, a.script.src, a.toks[a.insert.open].from,
			"the column "+col+" has no default and gets no value", "add it to the insert, or give it a default")
	}
}

// missingColumns is the columns that need a value and are not listed.
func missingColumns(t *Table, listed []string) (out []string) {
	for _, col := range t.Columns {
		if !col.Nullable && !col.HasDefault && !col.Auto && !col.Generated && !contains(listed, col.Name) {
			out = append(out, col.Name)
		}
	}
	return out
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if sameName(n, name) {
			return true
		}
	}
	return false
}

// didYouMean is the hint for a name that is not a column.
func (c *compiler) didYouMean(name string) string {
	if c.table == nil || len(c.out) >= maxDiagnostics {
		return ""
	}
	var names []string
	for _, col := range c.table.Columns {
		names = append(names, col.Name)
	}
	return hint(name, names)
}

func (c *compiler) didYouMeanField(name string) string { return hint(name, c.plan.Fields) }

func hint(name string, names []string) string {
	if n := near(name, names); n != "" {
		return "did you mean " + n + "?"
	}
	if len(names) > 0 && len(names) <= 12 {
		return "there are " + strings.Join(names, ", ")
	}
	return ""
}

// near is the name closest to the given one, or "" when none is close.
func near(name string, names []string) (best string) {
	limit := 1 + min(len(name)/4, 2)
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, drop, change or swap with their
// neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	if len(a) > 128 || len(b) > 128 {
		return 128
	}
	row := make([][]int, len(a)+1)
	for i := range row {
		row[i] = make([]int, len(b)+1)
		row[i][0] = i
	}
	for j := range row[0] {
		row[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(row[i-1][j]+1, row[i][j-1]+1, row[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, row[i-2][j-2]+1)
			}
			row[i][j] = d
		}
	}
	return row[len(a)][len(b)]
}

// keywords may stand without quotes where a column could, and are none. Words that
// are keywords only in front of a bracket or a string need not be here.
var keywords = wordSet(` add all alter analyze and any as asc avg_row_length before between bigint binary both by call cascade case cast
 change char character charset check collate column condition constraint continue convert create cross cube cume_dist current
 current current_date current_time current_timestamp current_user cursor database databases date datetime day day_hour day_microsecond
 day_minute day_second dec decimal declare default delayed delete desc describe deterministic distinct distinctrow div double
 drop dual duplicate each else elseif empty enclosed end escape escaped except exists exit explain false fetch first float
 following for force foreign from full fulltext function generated get grant group grouping groups having high_priority hour
 hour_microsecond hour_minute hour_second if ignore in index infile inner inout insensitive insert int integer intersect
 interval into is iterate join json key keys kill last lateral leading leave left like limit linear lines load localtime
 localtimestamp lock long loop low_priority match microsecond minute minute_microsecond minute_second mod month
 natural new next not null nulls offset on only optimize option optionally or order outer over partition percent_rank
 preceding precision primary procedure quarter quick range rank read real recursive references regexp release rename repeat
 replace require restrict return revoke right rlike row row_number rows schema second second_microsecond select separator set
 share show signed skip some sounds sql_big_result sql_buffer_result sql_cache sql_calc_found_rows sql_no_cache
 sql_small_result ssl starting straight_join system table terminated then tied ties time timestamp to trailing trigger true
 unbounded undo union unique unknown unlock unsigned update usage use using utc_date utc_time utc_timestamp value values
 varying week when where while window with within write xor year year_month zerofill
 array boolean expansion language locked member mode nowait of query quick rollup unicode wait`)

// isKeyword reports whether the token is a keyword written without quotes.
func isKeyword(t *token) bool {
	return t.kind == tokWord && keywords[t.value]
}

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}
