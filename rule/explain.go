package rule

import (
	"regexp"
	"strconv"
	"strings"
)

func itoa(id uint64) string { return strconv.FormatUint(id, 10) }

var (
	quotedName = regexp.MustCompile("'([^']*)'")
	nearText   = regexp.MustCompile(`(?s)near '(.*)' at line`)
)

// Explain turns what the database's PREPARE said about a statement of the plan, its
// error number and message, into a diagnostic with the place in sync_sql. t may be nil.
func Explain(p *Plan, s *Statement, t *Table, number uint16, message string) Diagnostic {
	c := &compiler{row: p.Row, table: t, plan: p}
	d := Diagnostic{Code: RefusedByDatabase, Severity: Error, RuleID: p.Row.ID, Column: "sync_sql", Section: p.section(s),
		Line: s.Line, Col: s.Col, Message: message}
	name := ""
	if m := quotedName.FindStringSubmatch(message); m != nil {
		name = m[1][strings.LastIndexByte(m[1], '.')+1:]
	}
	switch number {
	case 1054: // ER_BAD_FIELD_ERROR
		d.Code, d.Message, d.Fix = UnknownColumn, "unknown column "+name, c.didYouMean(name)
		d.Line, d.Col = s.locate(name)
	case 1146: // ER_NO_SUCH_TABLE
		d.Code, d.Message = UnknownTable, "unknown table "+name
		d.Line, d.Col = s.locate(name)
	case 1064: // ER_PARSE_ERROR
		d.Code, d.Message = BadSQL, "the database cannot read the statement"
		if m := nearText.FindStringSubmatch(message); m != nil {
			d.Message += " at " + strings.SplitN(m[1], "\n", 2)[0]
			d.Line, d.Col = s.near(m[1])
		}
	}
	return d
}

// section is the phase that a statement of the plan belongs to.
func (p *Plan) section(s *Statement) string {
	for i, all := range [...][]Statement{p.Upside, p.Downside, p.UpdateState} {
		for j := range all {
			if &all[j] == s || all[j].Start != nil && all[j].Start == s || all[j].SQL == s.SQL {
				return phase(i).String()
			}
		}
	}
	return ""
}

// locate is where a name stands in sync_sql; the statement's beginning when it is
// not found there.
func (s *Statement) locate(name string) (line, col int) {
	if s.text != nil {
		toks, _ := lex(s.text.text)
		for i := range toks {
			if toks[i].isName() && sameName(toks[i].value, name) {
				return s.text.position(toks[i].from)
			}
		}
	}
	return s.Line, s.Col
}

// near is where the rest of a statement begins, as a syntax error quotes it.
func (s *Statement) near(rest string) (line, col int) {
	if s.text != nil {
		rest, _, _ = strings.Cut(rest, "?")
		if at := strings.Index(s.text.text[s.start:], strings.TrimRight(rest, " \n")); at >= 0 && rest != "" {
			return s.text.position(s.start + at)
		}
	}
	return s.Line, s.Col
}
