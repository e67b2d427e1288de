package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// placeholders finds the value of each placeholder.
func (c *compiler) placeholders(s *script) bool {
	before := c.errors
	if s.seed != nil {
		s.seed.verbatim = !c.formats(s)
	}
	for i := range s.toks {
		switch {
		case s.seed == nil:
			c.namedMark(s, i)
		case !s.seed.verbatim:
			c.seedMark(s, i)
		case isPlaceholder(&s.toks[i]) && !s.isText(i):
			c.refuse(s, s.toks[i].from, PlaceholderCount, "the rule has no value for this placeholder",
				"give it a period, a carried state, or a field")
		}
	}
	if s.seed != nil && !s.seed.verbatim && c.errors == before {
		c.fill(s)
		for i := range s.args {
			s.args[i].AsText = s.toks[s.argAt[i]].kind == tokString && s.args[i].mayBeNumber()
		}
	}
	return c.errors == before
}

// formats reports whether the original formatted the statement. One that it had no values for ran as it is written,
// with %Y and %% in it.
func (c *compiler) formats(s *script) bool {
	if s.phase == upside {
		return c.plan.Period > 0 || c.carried() || len(s.seed.entries) > 0
	}
	marks := 0
	for i := range s.toks {
		if isPlaceholder(&s.toks[i]) {
			marks++
		}
	}
	transfers := slices.ContainsFunc(s.seed.entries, func(e patchEntry) bool { return e.kind == "transfer" })
	return transfers || marks > 0 && (s.phase == downside || len(s.seed.entries) > 0 || marks == len(c.plan.Fields))
}

// carried reports whether an upside is filled with the carried state.
func (c *compiler) carried() bool {
	return c.plan.Period == 0 && (c.row.UseCarriedState || c.row.User == Client && c.row.CarryState)
}

// isPlaceholder reports whether the token is a seed-era placeholder: %s, '%s' or "%s".
func isPlaceholder(t *token) bool {
	return t.kind == tokPercent || t.kind == tokString && t.value == "%s"
}

// isText reports whether '%s' at i can be meant as it stands: in the format of a date it is the seconds, and behind
// like a pattern.
func (s *script) isText(i int) bool {
	open := i - 1
	for open > 0 && !(s.toks[open].is("(") && s.toks[open].depth < s.toks[i].depth) {
		open--
	}
	return s.toks[i].kind == tokString && (s.tok(i-1).is("like") ||
		s.tok(i-1).is(",") && s.tok(open-1).is("date_format", "time_format", "str_to_date", "from_unixtime"))
}

// namedMark takes a :name at token i and refuses the other kinds of placeholder.
func (c *compiler) namedMark(s *script, i int) {
	t := &s.toks[i]
	switch {
	case t.kind == tokMark:
		c.refuse(s, t.from, OldPlaceholder, "a bare ? has no name", "write the field's name, like :url")
	case isPlaceholder(t) && !s.isText(i):
		c.refuse(s, t.from, OldPlaceholder, "nothing fills %s in plain SQL", "write the field's name, like :url")
	case t.kind == tokString && strings.HasPrefix(t.value, ":") && c.fieldIndex(t.value[1:]) >= 0:
		c.warn(s, t.from, PlaceholderInText, "a :name inside quotes is text", "remove the quotes, or use concat()")
	case t.kind == tokParam:
		if arg, ok := c.param(s, i); ok {
			arg.AsText = t.asText && arg.mayBeNumber()
			s.args, s.argAt = append(s.args, arg), append(s.argAt, i)
		}
	}
}

var plainSources = map[string]Source{"since": Since, "until": Until, "now": Now, "limit": Limit, "point_no": PointNo,
	"sync_origin": Origin, "sync_bound": Bound}

// param resolves the :name at token i.
func (c *compiler) param(s *script, i int) (arg Arg, ok bool) {
	t := &s.toks[i]
	bad := func(code Code, msg, fix string) (Arg, bool) {
		c.refuse(s, t.from, code, msg, fix)
		return Arg{}, false
	}
	name := t.fieldName()
	switch {
	case name != "" && s.phase == upside:
		fix := "upside knows :since, :until, :now, :limit, :point_no, :sync_origin, :sync_bound and :state.name"
		if c.fieldIndex(name) >= 0 {
			fix = "did you mean :state." + name + "?"
		}
		return bad(UnknownParameter, "there is no row in hand at upside for :"+name, fix)
	case name != "":
		if arg, ok = c.field(s.phase, name); !ok {
			return bad(UnknownParameter, "there is no field "+name+" for :"+name, hint(name, c.plan.Fields))
		}
		return arg, true
	case sameName(t.value, "state") && t.rest != "":
		return c.stateArg(s, i, t.rest), true
	case t.rest != "":
		return bad(UnknownParameter, "there is no parameter :"+t.value+"."+t.rest, "write :state.name or :row.name")
	}
	name = strings.ToLower(t.value)
	switch source := plainSources[name]; {
	case source == Limit && s.phase != upside:
		return bad(UnknownParameter, ":limit is the size of a page and belongs to upside", "write the number")
	case source == Bound && s.phase != upside:
		return bad(UnknownParameter, ":sync_bound is how far a read may go and belongs to upside", "write :now")
	case source == Bound && c.isLocal(comparedColumn(s.toks, i)):
		return Arg{Source: LocalBound, Name: name}, true
	case source == Since && c.plan.Period == 0:
		return bad(BadRange, ":since needs a period", "set sync_range to period and sync_range_value to, say, day:1")
	default:
		return Arg{Source: source, Name: name}, true
	}
}

// isLocal reports whether a column of the rule's table holds times of the server's own zone.
func (c *compiler) isLocal(column string) bool {
	col := c.table.Column(column)
	return col != nil && col.Type == "datetime"
}

const updateTimeColumn = "update_time"

// field is the value of a field of the row in hand; sync_is_update_time sets its update_time to now.
func (c *compiler) field(p phase, name string) (arg Arg, ok bool) {
	i := c.fieldIndex(name)
	if i < 0 {
		return arg, false
	}
	if p == downside && c.row.UpdateTime && sameName(name, updateTimeColumn) {
		return Arg{Source: Now, Name: c.plan.Fields[i]}, true
	}
	return Arg{Source: Field, Name: c.plan.Fields[i], Field: i}, true
}

func (c *compiler) fieldIndex(name string) int { return index(c.plan.Fields, name) }

// seedMark takes a seed-era placeholder at token i and refuses the other kinds.
func (c *compiler) seedMark(s *script, i int) {
	t, next := &s.toks[i], s.tok(i+1)
	switch {
	case isPlaceholder(t):
		s.argAt = append(s.argAt, i)
	case (t.kind == tokString || t.kind == tokName || t.kind == tokNumber) &&
		strings.Contains(strings.ReplaceAll(s.tokenText(i), "%%", ""), "%s"):
		c.refuse(s, t.from, PlaceholderInText, "%s inside a longer text cannot be bound", "write concat('…', %s, '…')")
	case t.kind == tokParam || t.kind == tokMark:
		c.refuse(s, t.from, OldPlaceholder, s.tokenText(i)+" has no meaning beside %s", "use names only, or %s only")
	case t.is("%") && next.from == t.to && (next.kind == tokWord || next.is("(")):
		c.refuse(s, t.from, PlaceholderInText, "only %s of Python's placeholders is filled", "write %s, or a % b")
	}
}

// fill gives each seed-era placeholder its value from the rule's other columns.
func (c *compiler) fill(s *script) {
	if s.phase == upside {
		c.fillUpside(s)
		return
	}
	// A fixed or carry entry fills none when there are as many placeholders as transfer entries.
	n, entries := len(s.argAt), s.seed.entries
	if row := c.wholeRow(n); !s.seed.given {
		for _, f := range row {
			entries = append(entries, patchEntry{field: f, kind: "transfer"})
		}
		if row == nil && n > 0 && len(c.plan.Fields) == 0 {
			c.refuseIn(NoTableFacts, "sync_field",
				"the whole row fills the statement, and the table's columns are not known",
				"create the table, or name the fields")
			return
		}
	}
	transfer := slices.DeleteFunc(slices.Clone(entries), func(e patchEntry) bool { return e.kind != "transfer" })
	if n == len(transfer) {
		entries = transfer
	} else if n != len(entries) {
		c.badCount(s, fmt.Sprintf("%d placeholders for %d fields, %d of them transfer", n, len(entries), len(transfer)))
		return
	}
	for i, e := range entries {
		s.args = append(s.args, c.seedArg(s, i, e))
	}
}

// wholeRow is the fields that fill n placeholders without sync_patch_field: all of them, or those behind a first id,
// which the original dropped; nil for another number.
func (c *compiler) wholeRow(n int) []string {
	fields := c.plan.Fields
	if n > 0 && n == len(fields)-1 && sameName(fields[0], "id") {
		fields = fields[1:]
	}
	if n != len(fields) {
		return nil
	}
	return fields
}

// fillUpside takes carried state in order, or the period's start and end, with fixed values where they are given.
func (c *compiler) fillUpside(s *script) {
	n, entries := len(s.argAt), s.seed.entries
	if len(entries) != n {
		entries = make([]patchEntry, n)
	}
	free, states := 0, 0
	for i, e := range entries {
		arg := Arg{Source: Fixed, Value: e.value}
		switch {
		case e.kind == "fixed":
		case c.carried() || e.kind == "carry":
			arg = Arg{Source: State, Field: states}
			arg.Value, _ = c.initial(e.field, comparedColumn(s.toks, s.argAt[i]))
			states++
		default:
			source := [...]Source{Since, Until}[free%2]
			arg = Arg{Source: source, Name: source.String()}
			free++
		}
		s.args = append(s.args, arg)
	}
	switch {
	case free == 0 || free == 2 && c.plan.Period > 0:
	case c.plan.Period > 0:
		c.badCount(s, fmt.Sprintf("a period fills two placeholders, its start and its end; the statement has %d", free))
	default:
		c.badCount(s, fmt.Sprintf("the rule has neither a period nor a carried state for %d placeholders", free))
	}
}

// seedArg is what the entry puts into the i'th placeholder.
func (c *compiler) seedArg(s *script, i int, e patchEntry) Arg {
	switch e.kind {
	case "fixed":
		return Arg{Source: Fixed, Name: e.field, Value: e.value}
	case "carry":
		name, _ := e.value.(string)
		return c.stateArg(s, s.argAt[i], cmp.Or(name, e.field, strconv.Itoa(i+1)))
	}
	arg, ok := c.field(s.phase, e.field)
	if e.field == "" {
		c.badCount(s, fmt.Sprintf("entry %d transfers a field that sync_patch_field does not name", i+1))
	} else if !ok {
		at := s.toks[s.argAt[i]].from
		c.refuse(s, at, UnknownField, "there is no field "+e.field+" to patch", hint(e.field, c.plan.Fields))
	}
	return arg
}

// mayBeNumber reports whether the value may be another one than a text.
func (a *Arg) mayBeNumber() bool { return a.Source == Field || a.Source == State || a.Source == Fixed }

// stateArg is the carried value of a name, or of a number counted from 1.
func (c *compiler) stateArg(s *script, i int, name string) Arg {
	arg := Arg{Source: State, Name: name}
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		arg = Arg{Source: State, Field: n - 1}
	}
	if c.row.Type == Upload && c.row.User == Server {
		c.warn(s, s.toks[i].from, StateMismatch, "an upload carries no state", "use a field of the row, or :now")
	}
	var known bool
	compared := comparedColumn(s.toks, i)
	arg.Value, known = c.initial(name, compared)
	col := c.table.Column(cmp.Or(compared, name))
	arg.Instant = col != nil && col.Type == "timestamp"
	arg.guessed = !known && arg.Name != ""
	return arg
}

// comparedColumn is the name that the statement compares with the placeholder at i, as in `update_time > :x`, `price >
// cast(:x as …)` or `t between :x and :y`.
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

// initial is the smallest value that a state can have before anything was carried. It is the smallest value of the
// column of its name or of the column that it is compared to, or a guess by name, which is not known.
func (c *compiler) initial(name, compared string) (value any, known bool) {
	for _, n := range [...]string{name, compared} {
		if col := c.table.Column(n); col != nil {
			return smallest(col), true
		}
	}
	switch n := strings.ToLower(compared + " " + name); {
	case strings.Contains(n, "time") || strings.Contains(n, "date") || strings.HasSuffix(n, "_at"):
		return epoch, false
	case strings.HasSuffix(n, "id"):
		return smallestInt, false
	case c.table == nil:
		return epoch, false // what seed-era agents send first
	}
	return "", false
}

var (
	smallestTexts = map[string]string{"datetime": epoch, "timestamp": epoch, "date": epoch[:10], "time": "-838:59:59"}
	numberTypes   = wordSet("tinyint smallint mediumint int integer bigint decimal float double")
)

// smallest is a value at or below each value of the column.
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
