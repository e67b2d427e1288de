package rule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The bounds of a rule: the bytes of a column, and the fields, which are as many as a table of MySQL can have.
const (
	maxColumn = 256 << 10
	maxFields = 4096
)

// Compile turns a row into a plan. t is the table's facts, or nil when they are not known: Compile then says nothing
// about columns and cannot fill an empty sync_sql. The plan is nil exactly when one of the diagnostics is an Error.
func Compile(r Row, t *Table) (*Plan, []Diagnostic) {
	p, ds := Draft(r, t)
	if worst, _ := Worst(ds); worst == Error {
		return nil, ds
	}
	return p, ds
}

// Draft is Compile for a caller that asks the database as well. Where a diagnostic is an Error, the plan must not run,
// but it holds the statements without an error, so that Plan.Check shows their mistakes together with the others.
func Draft(r Row, t *Table) (*Plan, []Diagnostic) {
	plan := &Plan{Row: r, Table: t, Options: Options{Lag: DefaultLag, Conflict: CentreWins}}
	c := &compiler{row: r, table: t, plan: plan}
	if t != nil {
		c.plan.table, c.plan.Recorded, c.plan.Key, c.plan.Parents = t, t.Changes, t.primaryKey(), t.Parents
	}
	for _, step := range []func(){c.checkColumns, c.read, c.write, c.finish} {
		if step(); c.errors > 0 {
			break
		}
	}
	return c.plan, c.out
}

// compiler carries one row through its compilation.
type compiler struct {
	row    Row
	table  *Table
	plan   *Plan
	out    []Diagnostic
	errors int       // how many there were, reported or not
	found  []*script // in sync_sql
}

// maxDiagnostics bounds the diagnostics of one row; an Error is always among them.
const maxDiagnostics = 100

// full reports whether no more diagnostics of the severity are taken.
func (c *compiler) full(s Severity) bool {
	return len(c.out) >= maxDiagnostics && (s != Error || c.errors > 0)
}

func (c *compiler) report(d Diagnostic) {
	d.RuleID = c.row.ID
	if !c.full(d.Severity) {
		c.out = append(c.out, d)
	}
	if d.Severity == Error {
		c.errors++
	}
}

// column reports about a column as a whole.
func (c *compiler) column(s Severity, code Code, column, message, fix string) {
	c.report(Diagnostic{Code: code, Severity: s, Column: column, Message: message, Fix: fix})
}

func (c *compiler) warnIn(code Code, column, message, fix string) {
	c.column(Warning, code, column, message, fix)
}

// refuseIn reports an error in a column and returns false for its caller to return.
func (c *compiler) refuseIn(code Code, column, message, fix string) bool {
	c.column(Error, code, column, message, fix)
	return false
}

// at reports about a place in a statement.
func (c *compiler) at(in *script, off int, s Severity, code Code, message, fix string) {
	d := Diagnostic{Code: code, Severity: s, Column: "sync_sql", Section: in.phase.String(), Message: message, Fix: fix}
	if in.src != nil && !c.full(s) {
		d.Line, d.Col = in.src.position(off)
	}
	c.report(d)
}

func (c *compiler) warn(in *script, off int, code Code, message, fix string) {
	c.at(in, off, Warning, code, message, fix)
}

// refuse reports an error and returns false for its caller to return.
func (c *compiler) refuse(in *script, off int, code Code, message, fix string) bool {
	c.at(in, off, Error, code, message, fix)
	return false
}

type namedText struct{ column, value string }

// texts is the columns that hold a language of their own.
func (r *Row) texts() [5]namedText {
	return [...]namedText{{"sync_field", r.Field}, {"sync_sql", r.SQL}, {"sync_operation_type", r.OperationType},
		{"sync_patch_field", r.PatchField}, {"sync_patch_field_value", r.PatchFieldValue}}
}

// checkColumns checks the columns that decide what the rest means.
func (c *compiler) checkColumns() {
	r := &c.row
	oneOf := func(column, value, a, b string) {
		if value != a && value != b {
			c.refuseIn(BadColumn, column, fmt.Sprintf("%q is no value of %s", value, column), "write "+a+" or "+b)
		}
	}
	oneOf("sync_type", r.Type, Upload, Download)
	oneOf("sync_user", r.User, Server, Client)
	for _, t := range []namedText{{"sync_table", r.Table}, {"sync_point_no", r.PointNo}} {
		if strings.TrimSpace(t.value) == "" || strings.ContainsRune(t.value, 0) {
			c.refuseIn(BadColumn, t.column, t.column+" is empty", "name it")
		}
	}
	for _, t := range r.texts() {
		if len(t.value) > maxColumn {
			c.refuseIn(TooLarge, t.column, fmt.Sprintf("%d bytes; at most %d", len(t.value), maxColumn), "shorten it")
		}
	}
}

// rangeMarks are the blanks, quotes and brackets around a range, as in day: 3 and {'day': 3}.
var rangeMarks = strings.NewReplacer(" ", "", "'", "", `"`, "", ",", "",
	"(", "", ")", "", "[", "", "]", "", "{", "", "}", "")

// period reads sync_range and sync_range_value.
func (c *compiler) period() {
	r := &c.row
	value := strings.ToLower(rangeMarks.Replace(r.RangeValue))
	if blank(value) || value == "none" {
		value = ""
	}
	switch word := strings.ToLower(rangeMarks.Replace(r.Range)); {
	case word == "" || word == "none" || word == "null":
		if value != "" {
			c.warnIn(BadRange, "sync_range_value", "without sync_range nothing uses it", "set sync_range to period")
		}
		return
	case word != Period:
		c.refuseIn(BadRange, "sync_range", fmt.Sprintf("%q is not a range", r.Range), "write period, or clear it")
		return
	}
	unit, digits, _ := strings.Cut(value, ":")
	hours := map[string]int{"hour": 1, "day": 24, "week": 7 * 24, "month": 30 * 24}[strings.TrimSuffix(unit, "s")]
	n, err := strconv.Atoi(digits)
	if hours == 0 || err != nil || n < 1 || n > 1<<16 {
		c.refuseIn(BadRange, "sync_range_value", fmt.Sprintf("%q is not a period", r.RangeValue), "write, say, day:3")
		return
	}
	if c.plan.Period = time.Duration(n*hours) * time.Hour; c.plan.Period > 366*24*time.Hour {
		c.warnIn(OddPeriod, "sync_range_value", fmt.Sprintf("%s is %d days", value, n*hours/24), "check the number")
	}
}

// read finds the statements and the fields.
func (c *compiler) read() {
	c.period()
	c.found = c.scripts()
	c.fields(c.found)
	c.checkOptions()
}

// unused reports a phase that this row never runs. A watermark of an upload that would never move is an error.
func (c *compiler) unused(s *script) {
	if s.phase == updateState && c.row.Type == Upload && (c.row.UpdateState || c.plan.Form != Literal) {
		c.refuse(s, 0, UnusedPhase, "the centre never runs the update_state of an upload",
			"write it in the client row, which runs it after the centre's reply")
		return
	}
	c.at(s, 0, Info, UnusedPhase, "a "+c.row.User+" row of "+c.row.Type+" never runs this phase", "remove it")
}

// write makes the statements of the plan.
func (c *compiler) write() {
	if c.plan.Form == Generated {
		c.generate()
		return
	}
	into := [...]*[]Statement{&c.plan.Upside, &c.plan.Downside, &c.plan.UpdateState}
	var have [3]bool
	for _, s := range c.found {
		if !c.row.runs(s.phase) {
			c.unused(s)
			continue
		}
		have[s.phase] = true
		if c.statement(s) {
			*into[s.phase] = append(*into[s.phase], s.out)
		}
	}
	for p := upside; p <= updateState; p++ {
		if c.row.needs(p) && !have[p] {
			c.refuseIn(MissingPhase, "sync_sql", fmt.Sprintf("a %s row of %s needs %s", c.row.User, c.row.Type, p),
				"write a section -- "+p.String()+", or leave sync_sql empty")
		}
	}
	if have[updateState] && !c.row.UpdateState {
		c.warnIn(StateMismatch, "sync_is_update_state", "update_state has a statement that never runs",
			"set sync_is_update_state to 1, or remove the statement")
		c.plan.UpdateState = nil
	}
}
