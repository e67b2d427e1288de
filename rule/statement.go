package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// script is one statement of sync_sql, from the place where it was found to what is known of it when it can be sent.
type script struct {
	phase phase
	op    string  // the operation named for it; "" takes the statement's own verb
	src   *source // nil for a file without a name
	seed  *patch  // how %s are filled; nil where names are used
	all   []token // as they are read
	toks  []token // without comments
	err   *lexError

	verb   Op
	args   []Arg // in the order of the placeholders
	argAt  []int // the token of each
	sent   []int // where each token begins in Statement.SQL
	table  int   // token of the table's name; -1 when there is none or several
	single bool  // nothing but that table is mentioned

	columns []int // of an insert: the names in its column list
	hasList bool
	tuple   int // of an insert: the bracket that opens the first tuple; 0 when there is none
}

// written is the token at i as it stands in the statement.
func (s *script) written(i int) string { return s.src.text[s.toks[i].from:s.toks[i].to] }

// tok is the token at i, or one that is nothing.
func (s *script) tok(i int) *token {
	if i >= 0 && i < len(s.toks) {
		return &s.toks[i]
	}
	return &token{}
}

// statement compiles one script. It reports what is wrong; ok is false when there is nothing to run.
func (c *compiler) statement(s *script) (st Statement, ok bool) {
	if s.op == OpFile.String() {
		return c.file(s)
	}
	before := c.errors
	if s.err != nil {
		c.at(s, s.err.at, Error, BadSQL, s.err.msg, "")
		return st, false
	}
	for _, t := range s.all {
		if t.kind == tokHint {
			c.at(s, t.from, Error, ExecutableComment, "a comment that a server would run", "write a plain comment, or the clause itself")
		}
	}
	if !c.shape(s) || !c.allowed(s) || !c.placeholders(s) {
		return st, false
	}
	st = s.render()
	s.readScope()
	c.readInsert(s, &st)
	c.checkTable(s)
	return st, c.errors == before
}

// render writes the SQL that is sent: the statement as written, with ? for each placeholder and a space for each
// comment.
func (s *script) render() Statement {
	var sql, named strings.Builder
	put := func(s string) { sql.WriteString(s); named.WriteString(s) }
	at, end := s.toks[0].from, s.toks[len(s.toks)-1].to
	st := Statement{Op: s.verb, Args: s.args, phase: s.phase, text: s.src, start: at}
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
		case s.seed != nil && (t.kind == tokString || t.is("%%")):
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
	st.SQL, st.named = sql.String(), named.String()
	return st
}

// placeholders finds what fills each placeholder.
func (c *compiler) placeholders(s *script) bool {
	before := c.errors
	for i := range s.toks {
		if s.seed != nil {
			c.seedMark(s, i)
		} else {
			c.namedMark(s, i)
		}
	}
	if s.seed != nil && c.errors == before {
		c.fill(s)
	}
	return c.errors == before
}

// isPlaceholder reports whether the token is one of the seed's: %s, '%s' or "%s".
func isPlaceholder(t *token) bool {
	return t.kind == tokPercent || t.kind == tokString && t.value == "%s"
}

// namedMark takes a :name at token i and refuses the other kinds of placeholder.
func (c *compiler) namedMark(s *script, i int) {
	t := &s.toks[i]
	switch {
	case t.kind == tokMark:
		c.at(s, t.from, Error, OldPlaceholder, "a bare ? has no name", "write the field's name, like :url")
	case isPlaceholder(t):
		c.at(s, t.from, Error, OldPlaceholder, "%s is not filled in plain SQL", "write the field's name, like :url, without quotes")
	case t.kind == tokString && strings.HasPrefix(t.value, ":") && c.fieldIndex(t.value[1:]) >= 0:
		c.at(s, t.from, Warning, PlaceholderInText, "a :name inside quotes is text and is not filled",
			"take the quotes away, or use concat()")
	case t.kind == tokParam:
		if arg, ok := c.param(s, i); ok {
			s.args, s.argAt = append(s.args, arg), append(s.argAt, i)
		}
	}
}

var plainSources = map[string]Source{"since": Since, "until": Until, "now": Now, "limit": Limit, "point_no": PointNo,
	"sync_origin": Origin}

// param resolves the :name at token i.
func (c *compiler) param(s *script, i int) (arg Arg, ok bool) {
	t := &s.toks[i]
	bad := func(code Code, msg, fix string) (Arg, bool) {
		c.at(s, t.from, Error, code, msg, fix)
		return Arg{}, false
	}
	name := t.fieldName()
	switch {
	case name != "" && s.phase == upside:
		fix := "upside knows :since, :until, :now, :limit, :point_no, :sync_origin and :state.name"
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
		return bad(UnknownParameter, "there is no parameter :"+t.value+"."+t.rest, "parameters with a dot are :state.name and :row.name")
	}
	name = strings.ToLower(t.value)
	switch source := plainSources[name]; {
	case source == Limit && s.phase != upside:
		return bad(UnknownParameter, ":limit is the size of a page and belongs to upside", "write the number")
	case source == Since && c.plan.Period == 0:
		return bad(BadRange, ":since needs a period", "set sync_range to period and sync_range_value to, say, day:1")
	default:
		return Arg{Source: source, Name: name}, true
	}
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

// seedMark takes a placeholder of the seed's at token i and refuses what looks like one.
func (c *compiler) seedMark(s *script, i int) {
	t, next := &s.toks[i], s.tok(i+1)
	switch {
	case isPlaceholder(t):
		s.argAt = append(s.argAt, i)
	case (t.kind == tokString || t.kind == tokName || t.kind == tokNumber) &&
		strings.Contains(strings.ReplaceAll(s.written(i), "%%", ""), "%s"):
		c.at(s, t.from, Error, PlaceholderInText, "%s inside a longer literal or a name cannot be bound",
			"write concat('…', %s, '…'), and a name as it is")
	case t.kind == tokParam || t.kind == tokMark:
		c.at(s, t.from, Error, OldPlaceholder, "this rule fills %s; "+s.written(i)+" has no meaning here",
			"use names everywhere, or %s everywhere")
	case t.is("%") && next.from == t.to && (next.kind == tokWord || next.is("(")):
		c.at(s, t.from, Error, PlaceholderInText, "of Python's placeholders only %s is filled",
			"write %s, or % with spaces around it for the remainder")
	}
}

// fill gives each of the seed's placeholders its value from the rule's other columns.
func (c *compiler) fill(s *script) {
	if s.phase == upside {
		c.fillUpside(s)
		return
	}
	// A fixed or carry entry fills none when there are as many placeholders as transfer entries.
	n, entries := len(s.argAt), s.seed.entries
	if !s.seed.given && n == len(c.plan.Fields) {
		for _, f := range c.plan.Fields {
			entries = append(entries, patchEntry{field: f, kind: "transfer"})
		}
	}
	transfer := slices.DeleteFunc(slices.Clone(entries), func(e patchEntry) bool { return e.kind != "transfer" })
	if n == len(transfer) {
		entries = transfer
	} else if n != len(entries) {
		c.badCount(s, fmt.Sprintf("%d placeholders, %d fields of which %d are transferred", n, len(entries), len(transfer)))
		return
	}
	for i, e := range entries {
		s.args = append(s.args, c.seedArg(s, i, e))
	}
}

// fillUpside takes carried state in order, or the period's start and end, with fixed values where they are given.
func (c *compiler) fillUpside(s *script) {
	n, entries := len(s.argAt), s.seed.entries
	if len(entries) != n {
		entries = make([]patchEntry, n)
	}
	carried := c.row.UseCarriedState || c.row.User == Client && c.row.CarryState && c.plan.Period == 0
	free, states := 0, 0
	for i, e := range entries {
		arg := Arg{Source: Fixed, Value: e.value}
		switch {
		case e.kind == "fixed":
		case carried || e.kind == "carry":
			arg = Arg{Source: State, Field: states, Value: c.initial(e.field, comparedColumn(s.toks, s.argAt[i]))}
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
		c.badCount(s, fmt.Sprintf("nothing fills the statement's %d placeholders: the rule has no period and uses no carried state", free))
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
		c.at(s, s.toks[s.argAt[i]].from, Error, UnknownField, "sync_patch_field names "+e.field+", which is not a field of the rule",
			hint(e.field, c.plan.Fields))
	}
	return arg
}
