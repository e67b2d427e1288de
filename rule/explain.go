package rule

import (
	"regexp"
	"strings"
)

var (
	quotedName = regexp.MustCompile("'([^']*)'")
	nearText   = regexp.MustCompile(`(?s)near '(.*)' at line`)
)

// Explain turns what the database's PREPARE said about a statement of the plan, its
// error number and message, into a diagnostic with the place in sync_sql. t may be nil.
func Explain(p *Plan, s *Statement, t *Table, number uint16, message string) Diagnostic {
	d := Diagnostic{Code: RefusedByDatabase, Severity: Error, RuleID: p.Row.ID, Column: "sync_sql", Section: s.phase.String(), Message: message}
	at, name := s.start, ""
	if m := quotedName.FindStringSubmatch(message); m != nil {
		name = baseName(m[1])
	}
	switch number {
	case 1054: // ER_BAD_FIELD_ERROR
		d.Code, d.Message = UnknownColumn, "unknown column "+name
		d.Fix = (&compiler{table: t}).didYouMean(name)
		at = s.locate(name)
	case 1146: // ER_NO_SUCH_TABLE
		d.Code, d.Message = UnknownTable, "unknown table "+name
		at = s.locate(name)
	case 1064: // ER_PARSE_ERROR
		d.Code, d.Message = BadSQL, "the database cannot read the statement"
		if m := nearText.FindStringSubmatch(message); m != nil {
			line, _, _ := strings.Cut(m[1], "\n")
			d.Message += " at " + line
			at = s.near(m[1])
		}
	}
	if s.text != nil {
		d.Line, d.Col = s.text.position(at)
	}
	return d
}

// locate is where a name stands in the statement's text, or else where that begins.
func (s *Statement) locate(name string) int {
	if s.text != nil {
		toks, _ := lex(s.text.text)
		for _, t := range toks {
			if t.isName() && sameName(t.value, name) {
				return t.from
			}
		}
	}
	return s.start
}

// near is where the rest of a statement begins, as a syntax error quotes it.
func (s *Statement) near(rest string) int {
	rest, _, _ = strings.Cut(rest, "?")
	if s.text != nil && rest != "" {
		return s.start + max(0, strings.Index(s.text.text[s.start:], strings.TrimRight(rest, " \n")))
	}
	return s.start
}
