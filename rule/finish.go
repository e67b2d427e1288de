package rule

import (
	"fmt"
	"slices"
	"strings"
)

// finish makes the checks that need the whole plan.
func (c *compiler) finish() {
	c.chained()
	for _, s := range c.found {
		switch {
		case s.sent == nil: // a file, or a phase that is not run
		case s.phase == upside:
			c.paging(s)
			c.reading(s)
		default:
			c.writing(s)
		}
	}
	c.switches()
	c.rollback()
}

// rollback refuses to write into a table that keeps half a batch when the batch is rolled back: what comes again would
// then be there twice.
func (c *compiler) rollback() {
	if c.table == nil || !c.table.NoRollback {
		return
	}
	for _, st := range append(slices.Clip(c.plan.Downside), c.plan.UpdateState...) {
		if st.Op != OpFile {
			c.column(Error, NoRollback, "sync_table", "the table "+c.table.Name+" is "+c.table.Engine+", which keeps half of a batch that failed",
				"alter table "+c.table.Quoted()+" engine = InnoDB")
			return
		}
	}
}

// paging decides whether the upside is paged and whether its pages can advance.
func (c *compiler) paging(s *script) {
	bad := func(severity Severity, msg, fix string) { c.at(s, s.toks[0].from, severity, BadCursor, msg, fix) }
	if !uses(s.args, Limit) {
		if c.row.Type == Upload && uses(s.args, State) {
			bad(Warning, "nothing moves the state on, so the same rows are read each time", "page with limit :limit")
		}
		return
	}
	if len(c.plan.Upside) > 1 {
		bad(Error, "a paged upside must be the only one", "take :limit away, or write a rule for each")
		return
	}
	var cursor []string
	for _, arg := range s.args {
		if arg.Source == State && arg.Name == "" {
			bad(Error, "a paged upside names its state", "write :state.update_time, not :state.1")
			return
		}
		if arg.Source == State && !contains(cursor, arg.Name) {
			cursor = append(cursor, arg.Name)
		}
	}
	if len(cursor) == 0 {
		bad(Error, ":limit without :state reads the same page for ever", "add, say, where id > :state.id … order by id")
		return
	}
	c.plan.Cursor = cursor
	out, known := outputNames(s.toks)
	for _, name := range cursor {
		if known && !contains(out, name) {
			bad(Error, "the next page begins at :state."+name+", but the select has no column "+name, "add it to the select list")
		}
	}
	ordered := s.ordered()
	behind := slices.IndexFunc(cursor, func(name string) bool { return !contains(ordered, name) })
	total := func(k Key) bool { return k.Unique && allIn(k.Columns, cursor) }
	switch {
	case find(s.toks, 0, "order") < 0:
		bad(Error, "a paged upside without an order skips rows", "add order by "+strings.Join(cursor, ", "))
	case behind >= 0:
		bad(Warning, "the order does not hold "+cursor[behind]+", which the next page begins at", "add it to order by")
	case c.alone(s) && !slices.ContainsFunc(c.table.Keys, total):
		bad(Warning, "rows that share the last "+strings.Join(cursor, ", ")+" of a page are skipped",
			"page by the primary key as well, or leave sync_sql empty")
	}
}

// alone reports whether the statement is about nothing but the rule's table, whose facts are known.
func (c *compiler) alone(s *script) bool {
	return c.table != nil && s.single && sameName(s.toks[s.table].value, c.table.Name)
}

// ordered is the names in order by.
func (s *script) ordered() (names []string) {
	order := find(s.toks, 0, "order")
	for i := order + 1; order >= 0 && i < len(s.toks) && !s.toks[i].is("limit"); i++ {
		if s.toks[i].isName() {
			names = append(names, s.toks[i].value)
		}
	}
	return names
}

func uses(args []Arg, sources ...Source) bool {
	return slices.ContainsFunc(args, func(a Arg) bool { return slices.Contains(sources, a.Source) })
}

// outputNames is the names of a select's columns; known is false for * and for anything this cannot follow.
func outputNames(toks []token) (names []string, known bool) {
	from := find(toks, 0, "from")
	if from < 0 || !toks[0].is("select") {
		return nil, false
	}
	for _, p := range split(toks, 1, from) {
		if p[1] == p[0] || toks[p[1]-1].is("*") {
			return nil, false
		}
		name := ""
		if last := &toks[p[1]-1]; last.isName() {
			name = last.value
		}
		names = append(names, name)
	}
	return names, true
}

// reading looks at an upside: does an index serve its watermark, is it bounded.
func (c *compiler) reading(s *script) {
	say := func(severity Severity, code Code, msg, fix string) { c.at(s, s.toks[0].from, severity, code, msg, fix) }
	if out, known := outputNames(s.toks); known && c.row.Type == Upload && c.row.Field != "" {
		for _, name := range out {
			if name != "" && c.fieldIndex(name) < 0 {
				say(Warning, FieldMismatch, "the select gives "+name+", which is not in sync_field", hint(name, c.plan.Fields))
			}
		}
	}
	if !c.alone(s) {
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
		if mark == "" {
			mark = col.Name
		}
	}
	unbounded := find(s.toks, 0, "where") < 0 && find(s.toks, 0, "limit") < 0 && countWord(s.toks, "max", "min", "count") == 0
	switch {
	case mark != "":
		say(Warning, NoWatermarkIndex, "no index begins with "+mark+", so every run reads the whole table", c.indexFix(mark))
	case unbounded && !uses(s.args, Limit):
		say(Info, UnboundedRead, "every run sends the whole table", "read from :state.update_time or :since on, unless that is meant")
	}
}

func (c *compiler) indexFix(columns ...string) string {
	return fmt.Sprintf("create index sync_%s on %s (%s)", strings.ToLower(columns[0]), c.row.Table, strings.Join(columns, ", "))
}

// writing looks at one statement of downside or update_state.
func (c *compiler) writing(s *script) {
	say := func(code Code, msg, fix string) { c.at(s, s.toks[0].from, Warning, code, msg, fix) }
	if (s.verb == Update || s.verb == Delete) && find(s.toks, 0, "where") < 0 && find(s.toks, 0, "limit") < 0 {
		say(WholeTable, s.verb.String()+" without a where touches every row", "add where and the key")
	}
	if s.verb != Insert || s.phase != downside || len(c.plan.Downside) > 1 {
		return
	}
	if c.table != nil && !slices.ContainsFunc(c.table.Keys, func(k Key) bool { return k.Unique || k.Primary }) {
		say(NotIdempotent, c.row.Table+" has no unique key, so a row that comes twice is there twice", "give the table a primary key")
	} else if countWord(s.toks, "duplicate", "ignore", "exists") == 0 {
		say(NotIdempotent, "a row that is already there is refused and lands in sync_quarantine",
			"add on duplicate key update, or an update behind the insert")
	}
}

// chained looks at the downside as a chain.
func (c *compiler) chained() {
	chain := c.plan.Downside
	for i, st := range chain {
		s := &script{phase: downside, src: st.text}
		if st.Op == OpFile && len(chain) > 1 {
			c.at(s, st.start, Error, BadFile, "a file takes whole batches and a chain goes row by row, so that it would not be written",
				"leave the file alone in its rule")
			return
		}
		if st.Op == Update && i < len(chain)-1 && c.plan.Form == Literal {
			c.at(s, st.start, Info, FallThrough, "an update that matches no row goes on to "+chain[i+1].Op.String()+
				"; the original counted it as done", "")
		}
	}
}

// switches compares the rule's flags with what its statements use.
func (c *compiler) switches() {
	p, r := c.plan, &c.row
	var since, state bool
	for _, st := range p.Upside {
		since = since || uses(st.Args, Since, Until)
		state = state || uses(st.Args, State)
	}
	warn := func(when bool, code Code, column, msg, fix string) {
		if when {
			c.column(Warning, code, column, msg, fix)
		}
	}
	written, reads := p.Form != Generated, len(p.Upside) > 0
	asks := r.Type == Download && r.User == Client
	warn(p.Period > 0 && reads && !since, BadRange, "sync_range",
		"no statement reads :since or :until, so the period changes nothing", "use them in upside, or clear sync_range")
	warn(r.Type == Download && r.User == Server && r.UseCarriedState && !state && written, StateMismatch,
		"sync_is_use_state_carry_data", "no placeholder of upside takes the carried state", "use :state.name, or clear it")
	warn(asks && r.CarryState && !reads && written, StateMismatch, "sync_is_carry_state",
		"there is no upside that reads the state to carry; the agent carries its own", "write -- upside, or clear it")
	warn(asks && !r.CarryState && reads, StateMismatch, "sync_is_carry_state",
		"upside reads a state that is not carried", "set it to 1, or remove upside")
	warn(r.UpdateTime && len(p.Downside) > 0 && c.fieldIndex(updateTimeColumn) < 0, NoUpdateTime, "sync_is_update_time",
		"the rule has no field update_time to set", "add it to sync_field, or clear sync_is_update_time")
	if unit, n, _ := strings.Cut(strings.TrimSpace(r.RangeValue), ":"); p.Form == Literal && p.Period > 0 &&
		strings.HasPrefix(strings.ToLower(unit), "hour") {
		c.column(Info, HourRange, "sync_range_value", fmt.Sprintf("this is %d hours; the original multiplied hours by 24",
			int(p.Period.Hours())), "write day:"+strings.TrimSpace(n)+" for what the original did")
	}
}
