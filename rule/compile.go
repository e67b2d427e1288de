package rule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The bounds of what is read: the bytes of a column of a rule, and its fields, which
// are as many as MySQL's tables can have.
const (
	maxColumn = 256 << 10
	maxFields = 4096
)

// Compile turns a row into a plan. t is the table's facts, or nil when they are not
// known; then nothing is said about columns and an empty sync_sql cannot be filled.
// The plan is nil exactly when one of the diagnostics is an Error.
func Compile(r Row, t *Table) (*Plan, []Diagnostic) {
	c := &compiler{row: r, table: t, plan: &Plan{Row: r}}
	if c.head() {
		c.body()
	}
	if worst, _ := Worst(c.out); worst == Error {
		return nil, c.out
	}
	return c.plan, c.out
}

// compiler carries one row through its compilation.
type compiler struct {
	row   Row
	table *Table
	plan  *Plan
	out   []Diagnostic

	lag    time.Duration
	hasLag bool
	parsed []analysis // one for each upside and downside statement, for the checks that see several
}

// maxDiagnostics is how much is said about one row; an Error is always among it.
const maxDiagnostics = 100

func (c *compiler) report(d Diagnostic) {
	d.RuleID = c.row.ID
	if !c.full(d.Severity) {
		c.out = append(c.out, d)
	}
}

// full reports whether nothing more of the severity will be said.
func (c *compiler) full(s Severity) bool {
	return len(c.out) >= maxDiagnostics && (s != Error || c.failed())
}

// column reports about a column as a whole.
func (c *compiler) column(s Severity, code Code, column, message, fix string) {
	c.report(Diagnostic{Code: code, Severity: s, Column: column, Message: message, Fix: fix})
}

// at reports about a place in sync_sql.
func (c *compiler) at(s Severity, code Code, p phase, src *source, off int, message, fix string) {
	d := Diagnostic{Code: code, Severity: s, Column: "sync_sql", Section: p.String(), Message: message, Fix: fix}
	if src != nil && !c.full(s) {
		d.Line, d.Col = src.position(off)
	}
	c.report(d)
}

func (c *compiler) failed() bool {
	worst, _ := Worst(c.out)
	return worst == Error
}

// phase is one of the three parts of a rule.
type phase uint8

const (
	upside phase = iota
	downside
	updateState
)

func (p phase) String() string { return [...]string{"upside", "downside", "update_state"}[p] }

// role is which phases a row runs and which it must have.
type role struct{ runs, needs [3]bool }

func (r Row) role() role {
	switch {
	case r.Type == Upload && r.User == Client:
		return role{runs: [3]bool{true, false, true}, needs: [3]bool{true, false, r.UpdateState}}
	case r.Type == Upload:
		return role{runs: [3]bool{false, true, false}, needs: [3]bool{false, true, false}}
	case r.User == Client:
		return role{runs: [3]bool{true, true, true}, needs: [3]bool{false, true, r.UpdateState}}
	default:
		return role{runs: [3]bool{true, false, false}, needs: [3]bool{true, false, false}}
	}
}

// mainPhase is where SQL without a heading belongs.
func (r Row) mainPhase() phase {
	if (r.Type == Upload) == (r.User == Server) {
		return downside
	}
	return upside
}

// head checks the columns that decide what the rest means.
func (c *compiler) head() bool {
	r := &c.row
	oneOf := func(column, value string, words ...string) {
		for _, w := range words {
			if value == w {
				return
			}
		}
		c.column(Error, BadColumn, column, fmt.Sprintf("%q is not a value of %s", value, column),
			"write "+strings.Join(words, " or "))
	}
	oneOf("sync_type", r.Type, Upload, Download)
	oneOf("sync_user", r.User, Server, Client)
	for _, f := range []struct{ column, value string }{{"sync_table", r.Table}, {"sync_point_no", r.PointNo}} {
		if strings.TrimSpace(f.value) == "" || strings.ContainsRune(f.value, 0) {
			c.column(Error, BadColumn, f.column, f.column+" is empty", "name it")
		}
	}
	for _, f := range []struct{ column, value string }{{"sync_field", r.Field}, {"sync_sql", r.SQL},
		{"sync_operation_type", r.OperationType}, {"sync_patch_field", r.PatchField}, {"sync_patch_field_value", r.PatchFieldValue}} {
		if len(f.value) > maxColumn {
			c.column(Error, TooLarge, f.column, fmt.Sprintf("%d bytes; %d are read", len(f.value), maxColumn), "")
		}
	}
	return !c.failed()
}

func (c *compiler) body() {
	c.period()
	form, scripts := c.scripts()
	c.plan.Form = form
	c.fields(scripts)
	if c.failed() {
		return
	}
	if form == Generated {
		c.generate()
	} else {
		c.statements(scripts)
	}
	if !c.failed() {
		c.finish()
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
	c.plan.Period = time.Duration(n*hours) * time.Hour
	if c.plan.Period > 366*24*time.Hour {
		c.column(Warning, OddPeriod, "sync_range_value", fmt.Sprintf("%s is %d days", value, n*hours/24), "is that what is meant?")
	}
}

// fields reads sync_field, or takes what a client's upside selects, or the table's
// columns that can be written.
func (c *compiler) fields(scripts []script) {
	names, ok := c.fieldList()
	if !ok {
		return
	}
	if len(names) > maxFields {
		c.column(Error, TooLarge, "sync_field", fmt.Sprintf("%d fields; %d are read", len(names), maxFields), "")
		return
	}
	seen := map[string]bool{}
	for _, n := range names {
		key := strings.ToLower(n)
		if seen[key] {
			c.column(Error, DuplicateField, "sync_field", "the field "+n+" stands twice", "remove one")
		}
		seen[key] = true
		if c.table != nil && c.table.Column(n) == nil {
			s := Warning
			if c.plan.Form == Generated {
				s = Error
			}
			c.column(s, UnknownField, "sync_field", fmt.Sprintf("the field %s is not a column of %s", n, c.row.Table), c.didYouMean(n))
		}
	}
	if len(names) == 0 && c.row.Type == Upload && c.row.User == Client {
		names = selected(scripts)
	}
	if len(names) == 0 && c.table != nil {
		for _, col := range c.table.Columns {
			if !col.Generated {
				names = append(names, col.Name)
			}
		}
	}
	if len(names) == 0 && c.plan.Form != Generated {
		names = namedFields(scripts)
	}
	c.plan.Fields = names
}

func (c *compiler) fieldIndex(name string) int {
	for i, f := range c.plan.Fields {
		if sameName(f, name) {
			return i
		}
	}
	return -1
}

// statements compiles the scripts phase by phase and checks that none is missing.
func (c *compiler) statements(scripts []script) {
	role := c.row.role()
	var have [3]int
	for i := range scripts {
		s := &scripts[i]
		if !role.runs[s.phase] {
			c.at(Info, UnusedPhase, s.phase, s.src, 0, fmt.Sprintf("a %s row of %s never runs this phase", c.row.User, c.row.Type), "remove it")
			continue
		}
		have[s.phase]++
		st, ok := c.statement(s)
		if !ok {
			continue
		}
		switch s.phase {
		case upside:
			c.plan.Upside = append(c.plan.Upside, st)
		case downside:
			c.plan.Downside = append(c.plan.Downside, st)
		case updateState:
			c.plan.UpdateState = append(c.plan.UpdateState, st)
		}
	}
	for p, needed := range role.needs {
		if needed && have[p] == 0 {
			c.column(Error, MissingPhase, "sync_sql", fmt.Sprintf("a %s row of %s needs %s", c.row.User, c.row.Type, phase(p)),
				"write a section -- "+phase(p).String()+", or leave sync_sql empty")
		}
	}
	if have[updateState] > 0 && !c.row.UpdateState {
		c.column(Warning, StateMismatch, "sync_is_update_state", "update_state has a statement that is not run", "set sync_is_update_state to 1 or remove the statement")
		c.plan.UpdateState = nil
	}
}
