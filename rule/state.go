package rule

import (
	"strconv"
	"strings"
)

// stateArg is the carried value of a name, or of a number counted from 1.
func (c *compiler) stateArg(s *script, i int, name string) Arg {
	arg := Arg{Source: State, Name: name}
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		arg = Arg{Source: State, Field: n - 1}
	}
	if c.row.Type == Upload && c.row.User == Server {
		c.at(s, s.toks[i].from, Warning, StateMismatch, "an upload carries no state; this is always the initial value",
			"use a field of the row, or :now")
	}
	arg.Value = c.initial(name, comparedColumn(s.toks, i))
	return arg
}

// comparedColumn is the name that the placeholder at i is compared to, as in `update_time > :x`, `price > cast(:x as
// …)` or `t between :x and :y`.
func comparedColumn(toks []token, i int) string {
	j := i - 1
	for j > 1 && toks[j].is("(") && toks[j-1].kind == tokWord {
		j -= 2
	}
	if j > 2 && toks[j].is("and") && toks[j-2].is("between") {
		j -= 2
	}
	if j > 0 && toks[j-1].isName() && toks[j].is("<", ">", "<=", ">=", "=", "<>", "!=", "<=>", "between") {
		return toks[j-1].value
	}
	return ""
}

const (
	epoch       = "1970-01-01 00:00:00"
	smallestInt = int64(-1 << 63)
)

// initial is the smallest value a state can have before anything was carried: that of the column of its name, of the
// column it is compared to, or a guess by name.
func (c *compiler) initial(name, compared string) any {
	for _, n := range [...]string{name, compared} {
		if col := c.table.Column(n); col != nil {
			return smallest(col)
		}
	}
	switch n := strings.ToLower(compared + " " + name); {
	case strings.Contains(n, "time") || strings.Contains(n, "date") || strings.HasSuffix(n, "_at"):
		return epoch
	case strings.HasSuffix(n, "id"):
		return smallestInt
	case c.table == nil:
		return epoch // what seed-era agents send first
	}
	return ""
}

var (
	smallestTexts = map[string]string{"datetime": epoch, "timestamp": epoch, "date": epoch[:10], "time": "-838:59:59"}
	numberTypes   = wordSet("tinyint smallint mediumint int integer bigint decimal float double")
)

// smallest is a value that no value of the column is below.
func smallest(col *Column) any {
	text, known := smallestTexts[col.Type]
	switch {
	case col.Type == "year" || numberTypes[col.Type] && col.Unsigned:
		return int64(-1)
	case numberTypes[col.Type]:
		return smallestInt
	case !known && col.Binary:
		return []byte{}
	}
	return text
}
