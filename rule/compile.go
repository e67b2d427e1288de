package rule

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The bounds of what is read: the bytes of a column of a rule, and its fields, which are as many as MySQL's tables can
// have.
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
	c := &compiler{row: r, table: t, plan: &Plan{Row: r, Options: Options{Lag: DefaultLag, Conflict: CentreWins}}}
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
	errors int // how many there were, said or not

	found []*script // in sync_sql
}

// maxDiagnostics is how much is said about one row; an Error is always among it.
const maxDiagnostics = 100

// full reports whether nothing more of the severity will be said.
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

// at reports about a place in a statement.
func (c *compiler) at(in *script, off int, s Severity, code Code, message, fix string) {
	d := Diagnostic{Code: code, Severity: s, Column: "sync_sql", Section: in.phase.String(), Message: message, Fix: fix}
	if in.src != nil && !c.full(s) {
		d.Line, d.Col = in.src.position(off)
	}
	c.report(d)
}

type namedText struct{ column, value string }

// texts is the columns that are read as a language of their own.
func (r *Row) texts() [5]namedText {
	return [...]namedText{{"sync_field", r.Field}, {"sync_sql", r.SQL}, {"sync_operation_type", r.OperationType},
		{"sync_patch_field", r.PatchField}, {"sync_patch_field_value", r.PatchFieldValue}}
}

// checkColumns checks the columns that decide what the rest means.
func (c *compiler) checkColumns() {
	r := &c.row
	oneOf := func(column, value string, words ...string) {
		if !slices.Contains(words, value) {
			c.column(Error, BadColumn, column, fmt.Sprintf("%q is not a value of %s", value, column),
				"write "+strings.Join(words, " or "))
		}
	}
	oneOf("sync_type", r.Type, Upload, Download)
	oneOf("sync_user", r.User, Server, Client)
	for _, t := range []namedText{{"sync_table", r.Table}, {"sync_point_no", r.PointNo}} {
		if strings.TrimSpace(t.value) == "" || strings.ContainsRune(t.value, 0) {
			c.column(Error, BadColumn, t.column, t.column+" is empty", "name it")
		}
	}
	for _, t := range r.texts() {
		if len(t.value) > maxColumn {
			c.column(Error, TooLarge, t.column, fmt.Sprintf("%d bytes; %d are read", len(t.value), maxColumn), "")
		}
	}
}

// period reads sync_range and sync_range_value.
func (c *compiler) period() {
	r := &c.row
	value := strings.ToLower(strings.ReplaceAll(r.RangeValue, " ", ""))
	switch strings.TrimSpace(r.Range) {
	case "":
		if value != "" {
			c.column(Warning, BadRange, "sync_range_value", "it is not used, because sync_range is empty", "set sync_range to period")
		}
		return
	case Period:
	default:
		c.column(Error, BadRange, "sync_range", fmt.Sprintf("%q is not a range", r.Range), "write period or leave it empty")
		return
	}
	unit, digits, _ := strings.Cut(value, ":")
	hours := map[string]int{"hour": 1, "day": 24, "week": 7 * 24, "month": 30 * 24}[strings.TrimSuffix(unit, "s")]
	n, err := strconv.Atoi(digits)
	if hours == 0 || err != nil || n < 1 || n > 1<<16 {
		c.column(Error, BadRange, "sync_range_value", fmt.Sprintf("%q is not a period", r.RangeValue), "write it like day:3 or hour:6")
		return
	}
	if c.plan.Period = time.Duration(n*hours) * time.Hour; c.plan.Period > 366*24*time.Hour {
		c.column(Warning, OddPeriod, "sync_range_value", fmt.Sprintf("%s is %d days", value, n*hours/24), "is that what is meant?")
	}
}

// read finds the statements and the fields.
func (c *compiler) read() {
	c.period()
	c.found = c.scripts()
	c.fields(c.found)
	c.checkOptions()
}

// unused reports a phase that this row never runs. A watermark that is written for an upload but never moves is an error.
func (c *compiler) unused(s *script) {
	if s.phase == updateState && c.row.Type == Upload {
		c.at(s, 0, Error, UnusedPhase, "the centre never runs the update_state of an upload", "write it in the client row, which runs it after the centre's reply")
		return
	}
	c.at(s, 0, Info, UnusedPhase, fmt.Sprintf("a %s row of %s never runs this phase", c.row.User, c.row.Type), "remove it")
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
		if st, ok := c.statement(s); ok {
			*into[s.phase] = append(*into[s.phase], st)
		}
	}
	for p := upside; p <= updateState; p++ {
		if c.row.needs(p) && !have[p] {
			c.column(Error, MissingPhase, "sync_sql", fmt.Sprintf("a %s row of %s needs %s", c.row.User, c.row.Type, p),
				"write a section -- "+p.String()+", or leave sync_sql empty")
		}
	}
	if have[updateState] && !c.row.UpdateState {
		c.column(Warning, StateMismatch, "sync_is_update_state", "update_state has a statement that is not run",
			"set sync_is_update_state to 1 or remove the statement")
		c.plan.UpdateState = nil
	}
}
