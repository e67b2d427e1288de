package rule

import (
	"regexp"
	"slices"
	"strings"
)

// maxRefusals is how many refusals of one statement are told.
const maxRefusals = 10

// A Refusal is what PREPARE says against a statement: the database's error number and its message.
type Refusal struct {
	Number  uint16
	Message string
}

// Prepare has the database prepare a statement and gives what it refuses. An error means that it could not be asked.
type Prepare func(sql string) (*Refusal, error)

// Check has the database prepare each statement of a plan, which runs nothing and finds unknown tables and columns. It
// explains what the database refuses. t may be nil.
func (p *Plan) Check(t *Table, prepare Prepare) (ds []Diagnostic, err error) {
	for _, s := range slices.Concat(p.Upside, p.Downside, p.UpdateState, p.more()) {
		for st := &s; st != nil && st.File == nil; st = st.Start {
			found, err := p.checkStatement(st, t, prepare)
			if ds = append(ds, found...); err != nil {
				return ds, err
			}
		}
	}
	return ds, nil
}

// checkStatement prepares a statement. PREPARE names one unknown column, so the statement is prepared again with a
// known column in its place until it finds no other.
func (p *Plan) checkStatement(s *Statement, t *Table, prepare Prepare) (ds []Diagnostic, err error) {
	for sql := s.SQL; sql != "" && len(ds) < maxRefusals; {
		r, err := prepare(sql)
		if r == nil || err != nil {
			return ds, err
		}
		d, name := explain(p, s, t, r), r.name()
		_, written := s.find(name)
		if len(ds) > 0 && !(d.Code == UnknownColumn && written) {
			break // the mistake is not in the rule but in the column that was put in
		}
		ds, sql = append(ds, d), replaceName(sql, name, t)
		if d.Code != UnknownColumn {
			break
		}
	}
	return ds, nil
}

// replaceName puts a column of the table in the place of a column that does not exist. It returns "" when there is none
// to put.
func replaceName(sql, unknown string, t *Table) string {
	if t == nil || len(t.Columns) == 0 {
		return ""
	}
	known := Nearest(baseName(unknown), t.names(anyColumn))
	if known == "" {
		known = t.Columns[0].Name
	}
	replaced := false
	toks, _ := lex(sql)
	for i := len(toks) - 1; i >= 0; i-- {
		if n := &toks[i]; n.isName() && sameName(n.value, baseName(unknown)) && !sameName(n.value, known) {
			sql, replaced = sql[:n.from]+Quote(known)+sql[n.to:], true
		}
	}
	if !replaced {
		return ""
	}
	return sql
}

var (
	quotedName = regexp.MustCompile("'([^']*)'")
	nearText   = regexp.MustCompile(`(?s)near '(.*)' at line`)
)

// name is the first name that the message quotes.
func (r *Refusal) name() string {
	if m := quotedName.FindStringSubmatch(r.Message); m != nil {
		return m[1]
	}
	return ""
}

// explain makes a refusal a diagnostic with its place in sync_sql.
func explain(p *Plan, s *Statement, t *Table, r *Refusal) Diagnostic {
	d := Diagnostic{Code: RefusedByDatabase, Severity: Error, RuleID: p.Row.ID, Message: r.Message}
	at, name := s.start, r.name()
	switch r.Number {
	case 1054: // ER_BAD_FIELD_ERROR
		d.Code, d.Message = UnknownColumn, "unknown column "+name
		if t != nil && t.Column(baseName(name)) == nil {
			d.Fix = hint(baseName(name), t.names(anyColumn))
		}
		at, _ = s.find(name)
	case 1146: // ER_NO_SUCH_TABLE
		d.Code, d.Message = UnknownTable, "unknown table "+baseName(name)
		at, _ = s.find(name)
	case 1064: // ER_PARSE_ERROR
		d.Code, d.Message = BadSQL, "the database cannot read the statement"
		if m := nearText.FindStringSubmatch(r.Message); m != nil {
			line, _, _ := strings.Cut(m[1], "\n")
			d.Message += " at " + line
			at = s.near(m[1])
		}
	}
	return s.placed(d, at)
}

// placed is a diagnostic at an offset of the statement's text.
func (s *Statement) placed(d Diagnostic, at int) Diagnostic {
	if d.Column, d.Section = "sync_sql", s.phase.String(); s.text != nil {
		d.Line, d.Col = s.text.position(at)
	}
	return d
}

// find is where a name stands in the statement's text as the database quotes it, with its qualifiers. Where it does
// not, at is where the last part of the name stands, or else the statement.
func (s *Statement) find(name string) (at int, written bool) {
	if s.text == nil {
		return s.start, false
	}
	at = s.start
	toks, _ := lex(s.text.text)
	for i := len(toks) - 1; i >= 0; i-- {
		path := toks[i].value
		for j := i; j > 1 && toks[j-1].is("."); j -= 2 {
			path = toks[j-2].value + "." + path
		}
		switch {
		case !toks[i].isName() || i > 0 && toks[i-1].is("as"):
		case sameName(path, name):
			at, written = toks[i].from, true
		case !written && sameName(toks[i].value, baseName(name)):
			at = toks[i].from
		}
	}
	return at, written
}

// near is where the rest of a statement begins, as a syntax error quotes it.
func (s *Statement) near(rest string) int {
	rest, _, _ = strings.Cut(rest, "?")
	if s.text != nil && rest != "" {
		return s.start + max(0, strings.Index(s.text.text[s.start:], strings.TrimRight(rest, " \n")))
	}
	return s.start
}

// Result gives the columns of a select's result, their names and types. It is nil where the database refuses the
// select.
type Result func(sql string, values []any) ([]Column, error)

// InferStates finds the types of the states that no column of the table tells, from the results of the statements that
// use them. A state that is in no result keeps the rule from running: with a value of the wrong type it would skip
// rows.
func (p *Plan) InferStates(result Result) (ds []Diagnostic, err error) {
	guess := func(a Arg) bool { return a.guessed }
	for i := range p.Upside {
		s := &p.Upside[i]
		if !slices.ContainsFunc(s.Args, guess) {
			continue
		}
		values, tries := make([]any, len(s.Args)), []string{s.SQL}
		if at := slices.IndexFunc(s.Args, func(a Arg) bool { return a.Source == Limit }); at >= 0 {
			values[at] = int64(0)
		} else { // with a limit already, or with two columns of one name
			tries = []string{s.SQL + "\nlimit 0", "select * from (" + s.SQL + "\n) sync_result limit 0"}
		}
		var found []Column
		for _, sql := range tries {
			if found, err = result(sql, values); found != nil || err != nil {
				break
			}
		}
		if err != nil {
			return ds, err
		}
		table := &Table{Columns: found}
		for k := range s.Args {
			a := &s.Args[k]
			if !a.guessed {
				continue
			}
			col := table.Column(a.Name)
			if col != nil {
				a.Value, a.guessed = smallest(col), false
				continue
			}
			ds = append(ds, s.placed(Diagnostic{Code: StateMismatch, Severity: Error, RuleID: p.Row.ID,
				Message: "the type of :state." + a.Name + " is not known",
				Fix:     "select " + a.Name + ", or compare it to a column of " + p.Row.Table}, s.start))
			break
		}
	}
	return ds, nil
}
