package rule

import (
	"fmt"
	"strings"
)

// finish makes the checks that need the whole plan.
func (c *compiler) finish() {
	c.paging()
	for i := range c.parsed {
		a := &c.parsed[i]
		if a.script.phase == upside {
			c.reading(a)
		} else {
			c.writing(a)
		}
	}
	c.applying()
	c.switches()
}

// paging decides whether the upside is paged and whether its pages can advance.
func (c *compiler) paging() {
	for i := range c.parsed {
		a := &c.parsed[i]
		if a.script.phase != upside {
			continue
		}
		bad := func(s Severity, msg, fix string) {
			c.at(s, BadCursor, upside, a.script.src, a.toks[0].from, msg, fix)
		}
		if !uses(a.args, Limit) {
			if c.row.Type == Upload && uses(a.args, State) {
				bad(Warning, "nothing moves the state on, so the same rows are read each time", "page with limit :limit")
			}
			continue
		}
		if len(c.plan.Upside) > 1 {
			bad(Error, "a paged upside must be the only one", "take :limit away, or write a rule for each")
			return
		}
		for _, arg := range a.args {
			if arg.Source == State && arg.Name == "" {
				bad(Error, "a paged upside names its state", "write :state.update_time, not :state.1")
				return
			}
			if arg.Source == State && !contains(c.plan.Cursor, arg.Name) {
				c.plan.Cursor = append(c.plan.Cursor, arg.Name)
			}
		}
		if len(c.plan.Cursor) == 0 {
			bad(Error, ":limit without :state reads the same page for ever", "add, say, where id > :state.id … order by id")
			return
		}
		out, known := outputNames(a.toks)
		for _, name := range c.plan.Cursor {
			if known && !contains(out, name) {
				bad(Error, "the next page begins at :state."+name+", but the select has no column "+name, "add it to the select list")
			}
		}
		c.ordering(a, bad)
	}
}

// ordering checks that the pages' order is that of the state, and total.
func (c *compiler) ordering(a *analysis, bad func(Severity, string, string)) {
	order := find(a.toks, 0, "order")
	if order < 0 {
		bad(Error, "a paged upside without an order skips rows", "add order by "+strings.Join(c.plan.Cursor, ", "))
		return
	}
	end := find(a.toks, order, "limit")
	if end < 0 {
		end = len(a.toks)
	}
	var ordered []string
	for _, part := range split(a.toks, min(order+2, end), end) {
		for i := part[0]; i < part[1]; i++ {
			if a.toks[i].isName() && !isKeyword(&a.toks[i]) && (i+1 == part[1] || !a.toks[i+1].is(".")) {
				ordered = append(ordered, a.toks[i].value)
				break
			}
		}
	}
	for _, name := range c.plan.Cursor {
		if !contains(ordered, name) {
			bad(Warning, "the order does not hold "+name+", which the next page begins at", "add it to order by")
			return
		}
	}
	if c.table == nil || !a.scope.single || !sameName(a.toks[a.scope.table].value, baseName(c.table.Name)) {
		return
	}
	for _, k := range c.table.Keys {
		if k.Unique && allIn(k.Columns, c.plan.Cursor) {
			return
		}
	}
	bad(Warning, "rows that share the last "+strings.Join(c.plan.Cursor, ", ")+" of a page are skipped", "page by the primary key as well, or leave sync_sql empty")
}

func allIn(names, in []string) bool {
	for _, n := range names {
		if !contains(in, n) {
			return false
		}
	}
	return true
}

func uses(args []Arg, s Source) bool {
	for _, a := range args {
		if a.Source == s {
			return true
		}
	}
	return false
}

// outputNames is the names of a select's columns; known is false for * and for
// anything this cannot follow.
func outputNames(toks []token) (names []string, known bool) {
	from := find(toks, 0, "from")
	if !toks[0].is("select") || from < 0 {
		return nil, false
	}
	for _, p := range split(toks, 1, from) {
		last := &toks[p[1]-1]
		if p[1] == p[0] || last.is("*") {
			return nil, false
		}
		if last.isName() {
			names = append(names, last.value)
		} else {
			names = append(names, "")
		}
	}
	return names, true
}

// reading looks at an upside: does an index serve its watermark, is it bounded.
func (c *compiler) reading(a *analysis) {
	if out, known := outputNames(a.toks); known && c.row.Type == Upload && c.row.Field != "" {
		for _, name := range out {
			if name != "" && c.fieldIndex(name) < 0 {
				c.at(Warning, FieldMismatch, upside, a.script.src, a.toks[0].from, "the select gives "+name+", which is not in sync_field", c.didYouMeanField(name))
			}
		}
	}
	if c.table == nil || !a.scope.single || !sameName(a.toks[a.scope.table].value, baseName(c.table.Name)) {
		return
	}
	var marks []string
	for i, arg := range a.args {
		if arg.Source != State && arg.Source != Since && arg.Source != Until {
			continue
		}
		if name := comparedColumn(a.toks, a.argAt[i]); c.table.Column(name) != nil {
			if c.table.hasKeyOn(name) {
				return
			}
			marks = append(marks, c.table.Column(name).Name)
		}
	}
	if len(marks) > 0 {
		c.at(Warning, NoWatermarkIndex, upside, a.script.src, a.toks[0].from, "no index begins with "+marks[0]+", so every run reads the whole table", c.indexFix(marks[:1]))
	} else if find(a.toks, 0, "where") < 0 && !uses(a.args, Limit) && find(a.toks, 0, "limit") < 0 && countFunction(a.toks, "max", "min", "count") == 0 {
		c.at(Info, UnboundedRead, upside, a.script.src, a.toks[0].from, "every run sends the whole table", "read from :state.update_time or :since on, unless that is meant")
	}
}

func countFunction(toks []token, names ...string) (n int) {
	for _, w := range names {
		n += countWord(toks, w)
	}
	return n
}

func (c *compiler) indexFix(columns []string) string {
	return fmt.Sprintf("create index sync_%s on %s (%s)", strings.ToLower(columns[0]), c.row.Table, strings.Join(columns, ", "))
}

// writing looks at one statement of downside or update_state.
func (c *compiler) writing(a *analysis) {
	if (a.op == Update || a.op == Delete) && find(a.toks, 0, "where") < 0 && find(a.toks, 0, "limit") < 0 {
		c.at(Warning, WholeTable, a.script.phase, a.script.src, a.toks[0].from, a.op.String()+" without a where touches every row", "add where and the key")
	}
}

// applying looks at the downside as a chain.
func (c *compiler) applying() {
	n := len(c.plan.Downside)
	for i, s := range c.plan.Downside {
		last := i == n-1
		if s.Op == OpFile && n > 1 {
			c.place(Error, BadFile, &s, "a file takes whole batches and a chain goes row by row, so that it would not be written", "leave the file alone in its rule")
			return
		}
		if s.Op == Update && !last && c.plan.Form == Literal {
			c.place(Info, FallThrough, &s, "an update that matches no row goes on to "+c.plan.Downside[i+1].Op.String()+"; the original counted it as done", "")
		}
		if s.Op != Insert || n > 1 {
			continue
		}
		if c.table != nil && !c.hasUnique() {
			c.place(Warning, NotIdempotent, &s, c.row.Table+" has no unique key, so a row that comes twice is there twice", "give the table a primary key")
		} else if !c.repeatable(&s) {
			c.place(Warning, NotIdempotent, &s, "a row that is already there is refused and lands in sync_quarantine", "add on duplicate key update, or an update behind the insert")
		}
	}
}

func (c *compiler) place(s Severity, code Code, st *Statement, msg, fix string) {
	c.report(Diagnostic{Code: code, Severity: s, Column: "sync_sql", Section: downside.String(), Line: st.Line, Col: st.Col, Message: msg, Fix: fix})
}

// repeatable reports whether an insert says what to do with a row that is there.
func (c *compiler) repeatable(s *Statement) bool {
	toks, _ := lex(s.SQL)
	return countWord(toks, "duplicate") > 0 || countWord(toks, "ignore") > 0 || countWord(toks, "exists") > 0
}

func (c *compiler) hasUnique() bool {
	for _, k := range c.table.Keys {
		if k.Unique || k.Primary {
			return true
		}
	}
	return false
}

// switches compares the rule's flags with what its statements use.
func (c *compiler) switches() {
	p, r := c.plan, &c.row
	var since, state bool
	for i := range p.Upside {
		since = since || uses(p.Upside[i].Args, Since) || uses(p.Upside[i].Args, Until)
		state = state || uses(p.Upside[i].Args, State)
	}
	if p.Period > 0 && len(p.Upside) > 0 && !since {
		c.column(Warning, BadRange, "sync_range", "no statement reads :since or :until, so the period changes nothing", "use them in upside, or clear sync_range")
	}
	if r.Type == Download && r.User == Server && r.UseCarriedState && !state && p.Form != Generated {
		c.column(Warning, StateMismatch, "sync_is_use_state_carry_data", "no placeholder of upside takes the carried state", "use :state.name, or clear it")
	}
	if r.Type == Download && r.User == Client {
		if r.CarryState && len(p.Upside) == 0 && p.Form != Generated {
			c.column(Warning, StateMismatch, "sync_is_carry_state", "there is no upside that reads the state to carry; the agent carries its own", "write -- upside, or clear it")
		} else if !r.CarryState && len(p.Upside) > 0 {
			c.column(Warning, StateMismatch, "sync_is_carry_state", "upside reads a state that is not carried", "set it to 1, or remove upside")
		}
	}
	if r.UpdateTime && len(p.Downside) > 0 && c.fieldIndex(updateTimeColumn) < 0 {
		c.column(Warning, NoUpdateTime, "sync_is_update_time", "the rule has no field update_time to set", "add it to sync_field, or clear sync_is_update_time")
	}
	if p.Form == Literal && strings.HasPrefix(strings.ToLower(strings.TrimSpace(r.RangeValue)), "hour") && p.Period > 0 {
		c.column(Info, HourRange, "sync_range_value", fmt.Sprintf("this is %d hours; the original multiplied hours by 24", int(p.Period.Hours())),
			"write day:"+strings.TrimSpace(r.RangeValue[strings.IndexByte(r.RangeValue, ':')+1:])+" for what the original did")
	}
}
