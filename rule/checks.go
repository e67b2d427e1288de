package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// finish makes the checks that need the whole plan.
func (c *compiler) finish() {
	c.checkChain()
	c.checkFile()
	for _, s := range c.found {
		switch {
		case s.sent == nil: // a file, or a phase that does not run
		case s.phase == upside:
			c.checkPages(s)
			c.checkReading(s)
		default:
			c.checkWriting(s)
		}
	}
	c.checkFlags()
	c.checkEngine()
	takesTime := func(s Statement) bool { return s.Uses(Now, Since, Until) }
	p := c.plan
	p.TakesTime = slices.ContainsFunc(slices.Concat(p.Upside, p.Downside, p.UpdateState, p.more()), takesTime)
}

// checkEngine refuses to write into a table that keeps half a batch after a rollback: the same rows come again and
// would be there twice.
func (c *compiler) checkEngine() {
	writes := func(s Statement) bool { return s.Op != OpFile }
	all := slices.Concat(c.plan.Downside, c.plan.UpdateState)
	if t := c.table; t != nil && t.NoRollback && slices.ContainsFunc(all, writes) {
		c.refuseIn(NoRollback, "sync_table", "the table "+t.Name+" is "+t.Engine+", which does not roll back",
			"alter table "+t.Quoted()+" engine = InnoDB")
	}
}

// checkPages decides whether the upside is paged and whether its pages can advance.
func (c *compiler) checkPages(s *script) {
	say := func(severity Severity, msg, fix string) { c.at(s, s.toks[0].from, severity, BadCursor, msg, fix) }
	if !uses(s.args, Limit) {
		if c.row.Type == Upload && uses(s.args, State) {
			say(Warning, "nothing moves the state on, so each run reads the same rows", "page with limit :limit")
		}
		return
	}
	if len(c.plan.Upside) > 1 {
		say(Error, "a paged upside must be the only one", "remove :limit, or write a rule for each")
		return
	}
	var cursor []string
	for _, arg := range s.args {
		if arg.Source == State && arg.Name == "" {
			say(Error, "a paged upside must name its state", "write :state.update_time, not :state.1")
			return
		}
		if arg.Source == State && !contains(cursor, arg.Name) {
			cursor = append(cursor, arg.Name)
		}
	}
	if len(cursor) == 0 {
		say(Error, ":limit without :state reads the same page for ever", "add, say, where id > :state.id … order by id")
		return
	}
	c.plan.Cursor = cursor
	c.checkCursor(s, cursor, say)
}

// checkCursor checks that the columns the next page begins at are selected, ordered by, and unique.
func (c *compiler) checkCursor(s *script, cursor []string, say func(severity Severity, msg, fix string)) {
	if out := outputNames(s.toks); out != nil {
		for _, name := range cursor {
			if !contains(out, name) {
				say(Error, "the select lacks "+name+", at which the next page begins", "add it to the select list")
			}
		}
	}
	order := max(0, find(s.toks, 0, "order"))
	ordered := func(name string) bool {
		return slices.ContainsFunc(s.toks[order:], func(t token) bool { return t.isName() && sameName(t.value, name) })
	}
	loose := slices.IndexFunc(cursor, func(name string) bool { return !ordered(name) })
	unique := func(k Key) bool { return k.Unique && allIn(k.Columns, cursor) }
	switch all := strings.Join(cursor, ", "); {
	case order == 0:
		say(Error, "a paged upside without an order skips rows", "add order by "+all)
	case loose >= 0:
		say(Warning, "the order does not hold "+cursor[loose]+", at which the next page begins", "add it to order by")
	case c.onlyRuleTable(s) && !slices.ContainsFunc(c.table.Keys, unique):
		say(Warning, "a page skips rows that share the last "+all, "page by the primary key too, or clear sync_sql")
	}
}

// onlyRuleTable reports whether the rule's table is the only one in the statement, and its facts are known.
func (c *compiler) onlyRuleTable(s *script) bool {
	return c.table != nil && s.single && sameName(s.toks[s.table].value, c.table.Name)
}

func uses(args []Arg, sources ...Source) bool {
	return slices.ContainsFunc(args, func(a Arg) bool { return slices.Contains(sources, a.Source) })
}

// outputNames is the names of a select's columns, "" for one without a name; nil for * and for a statement that this
// cannot follow.
func outputNames(toks []token) (names []string) {
	from := find(toks, 0, "from")
	if from < 0 || !toks[0].is("select") {
		return nil
	}
	for _, p := range split(toks, 1, from) {
		if p[1] == p[0] || toks[p[1]-1].is("*") {
			return nil
		}
		name := ""
		if last := &toks[p[1]-1]; last.isName() {
			name = last.value
		}
		names = append(names, name)
	}
	return names
}

// checkReading checks that an upside gives the rule's fields, has an index for its watermark, and is bounded.
func (c *compiler) checkReading(s *script) {
	say := func(severity Severity, code Code, msg, fix string) { c.at(s, s.toks[0].from, severity, code, msg, fix) }
	if c.row.Type == Upload && c.row.Field != "" {
		for _, name := range outputNames(s.toks) {
			if name != "" && c.fieldIndex(name) < 0 {
				say(Warning, FieldMismatch, "sync_field lacks "+name+" of the select", hint(name, c.plan.Fields))
			}
		}
	}
	if !c.onlyRuleTable(s) {
		return
	}
	mark := ""
	for i, arg := range s.args {
		col := c.table.Column(comparedColumn(s.toks, s.argAt[i]))
		if col == nil || !slices.Contains([]Source{State, Since, Until}, arg.Source) {
			continue
		}
		if c.table.hasKeyOn(col.Name) {
			return
		}
		mark = cmp.Or(mark, col.Name)
	}
	if mark != "" {
		say(Warning, NoWatermarkIndex, "no index begins with "+mark+": each run reads all rows", c.indexFix(mark))
	} else if !s.bounded() && !uses(s.args, Limit) && countWord(s.toks, "max", "min", "count") == 0 {
		say(Info, UnboundedRead, "each run sends the whole table", "read from :state.update_time or :since on")
	}
}

// bounded reports whether the statement has a where or a limit.
func (s *script) bounded() bool {
	return find(s.toks, 0, "where") >= 0 || find(s.toks, 0, "limit") >= 0
}

func (c *compiler) indexFix(columns ...string) string {
	list := strings.Join(columns, ", ")
	return fmt.Sprintf("create index sync_%s on %s (%s)", strings.ToLower(columns[0]), c.row.Table, list)
}

// checkWriting checks that a statement of downside or update_state has a where, and that a row may come twice.
func (c *compiler) checkWriting(s *script) {
	for i := range s.toks {
		if t := &s.toks[i]; t.isName() && ownTable(t.value) {
			c.refuse(s, t.from, NotAllowed, t.value+ownTableText, ownTableFix)
			return
		}
	}
	say := func(code Code, msg, fix string) { c.warn(s, s.toks[0].from, code, msg, fix) }
	if (s.verb == Update || s.verb == Delete) && !s.bounded() {
		say(WholeTable, s.verb.String()+" without a where touches every row", "add where and the key")
	}
	if s.verb != Insert || s.phase != downside || len(c.plan.Downside) > 1 {
		return
	}
	unique := func(k Key) bool { return k.Unique || k.Primary }
	if c.table != nil && !slices.ContainsFunc(c.table.Keys, unique) {
		say(NotIdempotent, "a row that comes twice is there twice: there is no unique key", "add a primary key")
	} else if countWord(s.toks, "duplicate", "ignore", "exists") == 0 {
		say(NotIdempotent, "a row that the table has already goes to sync_quarantine",
			"add on duplicate key update, or an update behind the insert")
	}
}

// ownTables are syncgate's own tables and its view. A row of a point must not become a rule, a key or a point.
var ownTables = []string{
	"sync_agent_columns", "sync_agent_epoch", "sync_agent_owner", "sync_agent_rule", "sync_agent_state",
	"sync_agent_stream", "sync_conflict", "sync_control", "sync_control_edit", "sync_control_history",
	"sync_control_status", "sync_file", "sync_log", "sync_migration", "sync_outbox", "sync_point", "sync_point_agent",
	"sync_point_key", "sync_point_status", "sync_quarantine", "sync_request", "sync_request_floor", "sync_reread",
	"sync_resync", "sync_rule_columns", "sync_rule_status", "sync_rule_warning", "sync_sequence", "sync_stream",
}

const (
	ownTableText = " is syncgate's own: a rule does not write with it"
	ownTableFix  = "name your own table"
)

func ownTable(name string) bool {
	return contains(ownTables, name) ||
		strings.HasPrefix(strings.ToLower(name), "sync_change_") // the record of a table's changes
}

// checkChain checks the downside as a chain of operations.
func (c *compiler) checkChain() {
	chain := c.plan.Downside
	for i, st := range chain {
		s := &script{phase: downside, src: st.text}
		if st.Op == OpFile && len(chain) > 1 {
			c.refuse(s, st.start, BadFile, "a file cannot be in a chain, which goes row by row", "give it its own rule")
			return
		}
		if st.Op == Update && i < len(chain)-1 && c.plan.Form == Literal {
			c.at(s, st.start, Info, FallThrough, "an update that matches no row goes on to "+chain[i+1].Op.String()+
				"; the original counted it as done", "")
		}
	}
}

// checkFlags compares the rule's flags with what its statements use.
func (c *compiler) checkFlags() {
	p, r := c.plan, &c.row
	var since, state bool
	for _, st := range p.Upside {
		since = since || uses(st.Args, Since, Until)
		state = state || uses(st.Args, State)
	}
	warn := func(when bool, code Code, column, msg, fix string) {
		if when {
			c.warnIn(code, column, msg, fix)
		}
	}
	own, reads := p.Form != Generated, len(p.Upside) > 0
	pulls := r.Type == Download && r.User == Client
	warn(p.Period > 0 && reads && !since, BadRange, "sync_range",
		"no statement reads :since or :until, so the period changes nothing", "use them in upside, or clear sync_range")
	warn(r.Type == Download && r.User == Server && r.UseCarriedState && !state && own, StateMismatch,
		"sync_is_use_state_carry_data", "upside does not use the carried state", "use :state.name, or clear it")
	warn(pulls && r.CarryState && !reads && own, StateMismatch, "sync_is_carry_state",
		"no upside reads the state to carry; the agent carries its own", "write -- upside, or clear it")
	warn(pulls && !r.CarryState && reads, StateMismatch, "sync_is_carry_state",
		"upside reads a state that the request does not carry", "set it to 1, or remove upside")
	warn(r.UpdateTime && len(p.Downside) > 0 && c.fieldIndex(c.markColumn()) < 0, NoUpdateTime, "sync_is_update_time",
		"the rule has no field "+c.markColumn()+" to set", "add it to sync_field, or clear sync_is_update_time")
	unit, n, _ := strings.Cut(strings.TrimSpace(r.RangeValue), ":")
	if p.Form == Literal && p.Period > 0 && strings.HasPrefix(strings.ToLower(unit), "hour") {
		c.column(Info, HourRange, "sync_range_value", fmt.Sprintf("this is %d hours; the original took as many days",
			int(p.Period.Hours())), "write day:"+strings.TrimSpace(n)+" for the original's reach")
	}
}

// guardState makes an update_state that marks a row as sent pass over a row that has changed since it was read: the
// version that the centre has is not the one that would be marked, and the newer one would never leave. It adds the
// values that were read to the where, unless the statement compares any itself.
func (c *compiler) guardState(s *script) {
	where := find(s.toks, 0, "where")
	runs := s.phase == updateState && c.row.UpdateState && c.row.Type == Upload
	if !runs || s.verb != Update || where < 0 || !c.onlyRuleTable(s) {
		return
	}
	key, perRow := c.table.primaryKey(), false
	for i, at := range s.argAt {
		if s.args[i].Source != Field {
			continue
		}
		if perRow = true; at > where && !contains(key, s.args[i].Name) {
			return
		}
	}
	if !perRow {
		return
	}
	var marks, names []string
	loose := find(s.toks, where, "order") >= 0 || find(s.toks, where, "limit") >= 0
	for i, name := range c.plan.Fields {
		col := c.table.Column(name)
		if col == nil || contains(key, name) {
			continue
		}
		if loose = loose || !col.comparable(); !loose {
			arg := Arg{Source: Field, Name: name, Field: i}
			marks, names = append(marks, col.same("?")), append(names, col.same(arg.named()))
			s.out.Args = append(s.out.Args, arg)
		}
	}
	switch {
	case loose:
		s.out.Args = s.args
		c.warn(s, s.toks[where].from, UnguardedState, "a row that has changed since it was read is marked as well",
			"compare a column that changes with the row, such as and update_time = :update_time")
	case len(names) > 0:
		s.out.SQL = andWhere(s.out.SQL, strings.Join(marks, " and "))
		s.out.named = andWhere(s.out.named, strings.Join(names, " and "))
		c.at(s, s.toks[where].from, Info, UnguardedState, "a row that has changed since it was read must not be marked",
			"syncgate adds "+strings.Join(names, " and "))
	}
}

// andWhere adds a factor to the where with which a statement ends.
func andWhere(sql, factor string) string {
	toks, _ := lex(sql)
	at := toks[find(toks, 0, "where")].to
	return sql[:at] + " (" + strings.TrimLeft(sql[at:], " \n") + ") and " + factor
}

// comparable reports whether a value that was read can be found again. A float has other digits as text.
func (c *Column) comparable() bool { return c.Type != "float" && c.Type != "double" && c.Type != "bit" }

// same compares a column with a value to the letter, whatever its collation takes for equal.
func (c *Column) same(mark string) string {
	switch c.Type {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set":
		return "convert(" + Quote(c.Name) + " using utf8mb4) collate utf8mb4_bin <=> " + mark
	}
	return Quote(c.Name) + " <=> " + exact(c, mark)
}
