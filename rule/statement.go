package rule

import (
	"fmt"
	"strconv"
	"strings"
)

// analysis is one statement on its way: its tokens without comments, what it is
// about, and where each token stands in the SQL that is sent.
type analysis struct {
	script *script
	toks   []token
	op     Op
	from   []int // where each token begins in Statement.SQL
	to     []int // where it ends
	args   []Arg // in the order of the placeholders
	argAt  []int // the token of each
	insert *insertShape
	scope  scope
}

// statement compiles one script. It reports what is wrong and returns false when
// there is nothing to run.
func (c *compiler) statement(s *script) (Statement, bool) {
	if s.op == OpFile.String() {
		return c.file(s)
	}
	all, lerr := lex(s.src.text)
	if lerr != nil {
		c.at(Error, BadSQL, s.phase, s.src, lerr.at, lerr.msg, "")
		return Statement{}, false
	}
	a := &analysis{script: s, toks: code(all)}
	for _, t := range all {
		if t.kind == tokHint {
			c.at(Error, ExecutableComment, s.phase, s.src, t.from, "a comment that a server would run", "write a plain comment, or the clause itself")
		}
	}
	before := len(c.out)
	if !c.shape(a) || !c.allowed(a) || !c.placeholders(a) {
		return Statement{}, false
	}
	st := a.render(all)
	st.Line, st.Col = s.src.position(a.toks[0].from)
	c.insertParts(a, &st)
	c.names(a)
	c.parsed = append(c.parsed, *a)
	for _, d := range c.out[before:] {
		if d.Severity == Error {
			return Statement{}, false
		}
	}
	return st, true
}

// render writes the SQL that is sent: the statement as written, with ? for each
// placeholder and a space for each comment.
func (a *analysis) render(all []token) Statement {
	var b strings.Builder
	src := a.script.src
	first, last := a.toks[0].from, a.toks[len(a.toks)-1].to
	st := Statement{Op: a.op, Args: a.args, text: src, start: first}
	at, arg := first, 0
	for _, t := range all {
		if t.from < first || t.to > last {
			continue
		}
		b.WriteString(src.text[at:t.from])
		at = t.to
		if t.kind == tokComment {
			b.WriteByte(' ')
			continue
		}
		a.from = append(a.from, b.Len())
		switch {
		case arg < len(a.argAt) && a.toks[a.argAt[arg]].from == t.from:
			st.marks = append(st.marks, b.Len())
			b.WriteByte('?')
			arg++
		case a.script.seed != nil && (t.kind == tokString || t.is("%%")):
			b.WriteString(strings.ReplaceAll(src.text[t.from:t.to], "%%", "%"))
		default:
			b.WriteString(src.text[t.from:t.to])
		}
		a.to = append(a.to, b.Len())
	}
	st.SQL = b.String()
	return st
}

// placeholders finds what fills each placeholder.
func (c *compiler) placeholders(a *analysis) bool {
	if a.script.seed != nil {
		return c.seedPlaceholders(a)
	}
	before := len(c.out)
	for i := range a.toks {
		t := &a.toks[i]
		switch {
		case t.kind == tokMark:
			c.at(Error, OldPlaceholder, a.script.phase, a.script.src, t.from, "a bare ? has no name", "write the field's name, like :url")
		case isPlaceholder(t):
			c.at(Error, OldPlaceholder, a.script.phase, a.script.src, t.from, "%s is not filled in plain SQL", "write the field's name, like :url, without quotes")
		case t.kind == tokString && holdsParam(t.value, c.plan.Fields):
			c.at(Warning, PlaceholderInText, a.script.phase, a.script.src, t.from, "a :name inside quotes is text and is not filled", "take the quotes away, or use concat()")
		case t.kind == tokParam:
			c.param(a, i)
		}
	}
	return len(c.out) == before || !c.failedSince(before)
}

func (c *compiler) failedSince(n int) bool {
	worst, _ := Worst(c.out[n:])
	return worst == Error
}

// holdsParam reports whether a string is nothing but :field for one of the fields.
func holdsParam(text string, fields []string) bool {
	for _, f := range fields {
		if strings.HasPrefix(text, ":") && sameName(text[1:], f) {
			return true
		}
	}
	return false
}

var plainSources = map[string]Source{"since": Since, "until": Until, "now": Now, "limit": Limit, "point_no": PointNo}

// param resolves the :name at token i.
func (c *compiler) param(a *analysis, i int) {
	t := &a.toks[i]
	word, rest, dotted := t.value, t.rest, t.rest != ""
	arg := Arg{Name: word}
	source, plain := plainSources[strings.ToLower(word)]
	switch {
	case dotted && sameName(word, "state"):
		arg = c.stateArg(a, i, rest)
	case dotted && sameName(word, "row"):
		if arg.Name = rest; !c.fieldArg(a, t, &arg) {
			return
		}
	case dotted:
		c.at(Error, UnknownParameter, a.script.phase, a.script.src, t.from, "there is no parameter :"+word+"."+rest, "parameters with a dot are :state.name and :row.name")
		return
	case plain:
		arg.Source, arg.Name = source, strings.ToLower(word)
		if !c.plainArg(a, t, source) {
			return
		}
	case !c.fieldArg(a, t, &arg):
		return
	}
	a.args, a.argAt = append(a.args, arg), append(a.argAt, i)
}

// plainArg checks that :since, :limit and their like mean something here.
func (c *compiler) plainArg(a *analysis, t *token, s Source) bool {
	switch {
	case s == Limit && a.script.phase != upside:
		c.at(Error, UnknownParameter, a.script.phase, a.script.src, t.from, ":limit is the size of a page and belongs to upside", "write the number")
	case s == Since && c.plan.Period == 0:
		c.at(Error, BadRange, a.script.phase, a.script.src, t.from, ":since needs a period", "set sync_range to period and sync_range_value to, say, day:1")
	default:
		return true
	}
	return false
}

// fieldArg finds a field of the row in hand.
func (c *compiler) fieldArg(a *analysis, t *token, arg *Arg) bool {
	if a.script.phase == upside {
		fix := "upside knows :since, :until, :now, :limit, :point_no and :state.name"
		if c.fieldIndex(arg.Name) >= 0 {
			fix = "did you mean :state." + arg.Name + "?"
		}
		c.at(Error, UnknownParameter, upside, a.script.src, t.from, "there is no row in hand at upside for :"+arg.Name, fix)
		return false
	}
	if arg.Field = c.fieldIndex(arg.Name); arg.Field < 0 {
		c.at(Error, UnknownParameter, a.script.phase, a.script.src, t.from, "there is no field "+arg.Name+" for :"+arg.Name, c.didYouMeanField(arg.Name))
		return false
	}
	arg.Name = c.plan.Fields[arg.Field]
	c.updateTime(a.script.phase, arg)
	return true
}

// updateTime lets sync_is_update_time take the place of the row's own update_time.
func (c *compiler) updateTime(p phase, arg *Arg) {
	if p == downside && c.row.UpdateTime && sameName(arg.Name, updateTimeColumn) {
		*arg = Arg{Source: Now, Name: arg.Name}
	}
}

const updateTimeColumn = "update_time"

// stateArg is the carried value of a name, or of a number counted from 1.
func (c *compiler) stateArg(a *analysis, i int, name string) Arg {
	arg := Arg{Source: State, Name: name}
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		arg = Arg{Source: State, Field: n - 1}
	}
	if c.row.Type == Upload && c.row.User == Server {
		c.at(Warning, StateMismatch, a.script.phase, a.script.src, a.toks[i].from, "an upload carries no state; this is always the initial value", "use a field of the row, or :now")
	}
	arg.Value = c.initial(name, comparedColumn(a.toks, i))
	return arg
}

// comparedColumn is the name that the placeholder at i is compared to, as in
// `update_time > :x`, `price > cast(:x as …)` or `t between :x and :y`.
func comparedColumn(toks []token, i int) string {
	j := i - 1
	for j > 1 && toks[j].is("(") && toks[j-1].kind == tokWord {
		j -= 2
	}
	if j > 2 && toks[j].is("and") && toks[j-2].is("between") {
		j -= 2
	}
	if j < 1 || !toks[j-1].isName() {
		return ""
	}
	switch toks[j].value {
	case "<", ">", "<=", ">=", "=", "<>", "!=", "<=>", "between":
		return toks[j-1].value
	}
	return ""
}

// initial is the smallest value a state can have before anything was carried: that
// of the column of its name, of the column it is compared to, or a guess by name.
func (c *compiler) initial(name, compared string) any {
	col := c.table.Column(name)
	if col == nil {
		col = c.table.Column(compared)
	}
	if col != nil {
		return smallest(col)
	}
	switch n := strings.ToLower(compared + " " + name); {
	case strings.Contains(n, "time") || strings.Contains(n, "date") || strings.HasSuffix(n, "_at"):
		return epoch
	case n == "id id" || strings.HasSuffix(n, "id"):
		return smallestInt
	case c.table == nil:
		return epoch // what seed-era agents send first
	}
	return ""
}

const (
	epoch       = "1970-01-01 00:00:00"
	smallestInt = int64(-1 << 63)
)

func smallest(col *Column) any {
	switch col.Type {
	case "datetime", "timestamp":
		return epoch
	case "date":
		return epoch[:10]
	case "time":
		return "-838:59:59"
	case "tinyint", "smallint", "mediumint", "int", "integer", "bigint", "decimal", "float", "double", "year":
		if col.Unsigned || col.Type == "year" {
			return int64(-1)
		}
		return smallestInt
	}
	if col.Binary {
		return []byte{}
	}
	return ""
}

// seedPlaceholders fills %s and '%s' from the rule's other columns.
func (c *compiler) seedPlaceholders(a *analysis) bool {
	before := len(c.out)
	p, src := a.script.phase, a.script.src
	for i := range a.toks {
		t := &a.toks[i]
		switch {
		case isPlaceholder(t):
			a.argAt = append(a.argAt, i)
		case (t.kind == tokString || t.kind == tokName || t.kind == tokNumber) && strings.Contains(strings.ReplaceAll(src.text[t.from:t.to], "%%", ""), "%s"):
			c.at(Error, PlaceholderInText, p, src, t.from, "%s inside a longer literal or a name cannot be bound",
				"write concat('…', %s, '…'), and a name as it is")
		case t.kind == tokParam || t.kind == tokMark:
			c.at(Error, OldPlaceholder, p, src, t.from, "this rule fills %s; "+src.text[t.from:t.to]+" has no meaning here", "use names everywhere, or %s everywhere")
		case t.is("%") && i+1 < len(a.toks) && a.toks[i+1].from == t.to && (a.toks[i+1].kind == tokWord || a.toks[i+1].is("(")):
			c.at(Error, PlaceholderInText, p, src, t.from, "of Python's placeholders only %s is filled", "write %s, or % with spaces around it for the remainder")
		}
	}
	if c.failedSince(before) {
		return false
	}
	var ok bool
	if p == upside {
		ok = c.seedUpside(a)
	} else {
		ok = c.seedRow(a)
	}
	return ok && !c.failedSince(before)
}

// seedUpside fills the placeholders of an upside: carried state in order, or the
// period's start and end, with fixed values where they are given.
func (c *compiler) seedUpside(a *analysis) bool {
	n, entries := len(a.argAt), a.script.seed.entries
	if len(entries) != n {
		entries = make([]patchEntry, n)
	}
	carried := c.row.UseCarriedState || c.row.User == Client && c.row.CarryState && c.plan.Period == 0
	free, states := 0, 0
	for i := range entries {
		arg := Arg{Source: Fixed, Value: entries[i].value}
		switch {
		case entries[i].kind == "fixed":
		case carried || entries[i].kind == "carry":
			arg = Arg{Source: State, Field: states, Value: c.initial(entries[i].field, comparedColumn(a.toks, a.argAt[i]))}
			states++
		default:
			arg = Arg{Source: Source(int(Since) + free%2), Name: [...]string{"since", "until"}[free%2]}
			free++
		}
		a.args = append(a.args, arg)
	}
	switch {
	case free == 0 || free == 2 && c.plan.Period > 0:
		return true
	case c.plan.Period > 0:
		c.badCount(a.script, fmt.Sprintf("a period fills two placeholders, its start and its end; the statement has %d", free))
	default:
		c.badCount(a.script, fmt.Sprintf("nothing fills the statement's %d placeholders: the rule has no period and uses no carried state", free))
	}
	return false
}

// seedRow fills the placeholders of downside and update_state. A fixed or carry
// entry fills none when there are as many placeholders as transfer entries.
func (c *compiler) seedRow(a *analysis) bool {
	n, entries := len(a.argAt), a.script.seed.entries
	if !a.script.seed.given && n == len(c.plan.Fields) {
		for _, f := range c.plan.Fields {
			entries = append(entries, patchEntry{field: f, kind: "transfer"})
		}
	}
	var transfer []patchEntry
	for _, e := range entries {
		if e.kind == "transfer" {
			transfer = append(transfer, e)
		}
	}
	switch n {
	case len(transfer):
		entries = transfer
	case len(entries):
	default:
		c.badCount(a.script, fmt.Sprintf("%d placeholders, %d fields of which %d are transferred", n, len(entries), len(transfer)))
		return false
	}
	for i, e := range entries {
		arg, ok := c.seedArg(a, i, e)
		if !ok {
			return false
		}
		a.args = append(a.args, arg)
	}
	return true
}

func (c *compiler) seedArg(a *analysis, i int, e patchEntry) (Arg, bool) {
	switch e.kind {
	case "fixed":
		return Arg{Source: Fixed, Name: e.field, Value: e.value}, true
	case "carry":
		name := e.field
		if s, ok := e.value.(string); ok && s != "" {
			name = s
		}
		if name == "" {
			name = strconv.Itoa(i + 1)
		}
		return c.stateArg(a, a.argAt[i], name), true
	}
	if e.field == "" {
		c.badCount(a.script, fmt.Sprintf("entry %d transfers a field that sync_patch_field does not name", i+1))
		return Arg{}, false
	}
	arg := Arg{Source: Field, Name: e.field, Field: c.fieldIndex(e.field)}
	if arg.Field < 0 {
		c.at(Error, UnknownField, a.script.phase, a.script.src, a.toks[a.argAt[i]].from,
			"sync_patch_field names "+e.field+", which is not a field of the rule", c.didYouMeanField(e.field))
		return Arg{}, false
	}
	arg.Name = c.plan.Fields[arg.Field]
	c.updateTime(a.script.phase, &arg)
	return arg, true
}
