package rule

import (
	"fmt"
	"slices"
	"strings"
)

// verbs are the statements that a rule may run, by their first word.
var verbs = map[string]Op{"select": Select, "insert": Insert, "update": Update, "delete": Delete, "replace": Replace}

// shape checks that the tokens are one statement with its brackets closed, and removes the last semicolon.
func (c *compiler) shape(s *script) bool {
	for n := len(s.toks); n > 0 && s.toks[n-1].is(";"); n-- {
		s.toks = s.toks[:n-1]
	}
	if len(s.toks) == 0 {
		return c.refuse(s, 0, MissingPhase, "there is no statement here", "write one, or remove it")
	}
	var open []int
	for _, t := range s.toks {
		switch {
		case t.is(";"):
			return c.refuse(s, t.from, SeveralStatements, "a second statement begins here", "give it its own section")
		case t.depth < 0:
			return c.refuse(s, t.from, BadSQL, "a ) without its (", "")
		case t.is("("):
			open = append(open, t.from)
		case t.is(")"):
			open = open[:t.depth]
		}
	}
	return len(open) == 0 || c.refuse(s, open[len(open)-1], BadSQL, "a ( that is not closed", "")
}

// allowed checks that the statement is of a kind its phase runs and asks for nothing a rule may not have.
func (c *compiler) allowed(s *script) bool {
	before, at := c.errors, 0
	for at+1 < len(s.toks) && s.toks[at].is("(") {
		at++
	}
	first := &s.toks[at]
	op, known := verbs[first.value]
	if first.is("with") {
		op, known = Select, withSelects(s.toks)
	}
	here := s.phase.String() + " is insert, update, delete or replace"
	if s.phase == upside {
		here = "upside is a select"
	}
	if first.kind != tokWord || !known || at > 0 && op != Select {
		return c.refuse(s, first.from, NotAllowed, "a rule does not run "+firstWords(s.src.text[first.from:]), here)
	}
	if (op == Select) != (s.phase == upside) {
		return c.refuse(s, first.from, NotAllowed, fmt.Sprintf("%s does not belong to %s", op, s.phase), here)
	}
	s.verb = op
	if s.op != "" && s.op != op.String() {
		severity, fix := Error, "make them agree"
		if c.plan.Form == Literal {
			severity, fix = Info, "the statement counts, as it did in the original"
		}
		c.at(s, first.from, severity, BadOperation, "it is "+op.String()+", its operation "+s.op, fix)
	}
	for i := range s.toks {
		c.forbidden(s, i)
	}
	return c.errors == before
}

// firstWords is the statement's beginning for a message.
func firstWords(text string) string {
	words := strings.Fields(text[:min(len(text), 24)])
	return strings.ToUpper(strings.ToValidUTF8(strings.Join(words[:min(len(words), 2)], " "), ""))
}

// withSelects reports whether what follows the common table expressions is a select.
func withSelects(toks []token) bool {
	i := slices.IndexFunc(toks, func(t token) bool {
		return t.depth == 0 && t.is("select", "update", "delete", "insert", "replace")
	})
	return i >= 0 && toks[i].is("select")
}

// forbiddenFunctions wait, lock, read files or step out of the database.
var forbiddenFunctions = wordSet(`sleep benchmark get_lock release_lock release_all_locks is_free_lock
 is_used_lock load_file master_pos_wait source_pos_wait master_gtid_wait wait_for_executed_gtid_set
 wait_until_sql_thread_after_gtids setval sys_exec sys_eval`)

// forbidden refuses the token at i where it reaches outside the transaction.
func (c *compiler) forbidden(s *script, i int) {
	t, next := &s.toks[i], s.tok(i+1)
	clause := func(msg, fix string) { c.refuse(s, t.from, ForbiddenClause, msg, fix) }
	switch {
	case t.kind == tokVariable && !s.isTimeZone(i):
		clause("a rule may not use a variable", "use a parameter such as :state.name or :now")
	case t.is(":="):
		clause("a rule may not assign to a variable", "remove it")
	case t.isName() && next.is("(") && forbiddenFunctions[strings.ToLower(t.value)]:
		c.refuse(s, t.from, ForbiddenFunction, "a rule may not call "+t.value+"()", "remove the call")
	case s.tok(i - 1).is("."): // a column of that name
	case t.is("into") && (s.verb == Select || i >= afterModifiers(s.toks)):
		clause("INTO sends the result to a file or a variable", "remove it; upside sends the rows that it selects")
	case t.is("returning") && s.verb != Select:
		clause("RETURNING gives rows that nothing reads", "remove it")
	case t.is("procedure") && s.verb == Select:
		clause("a rule may not use PROCEDURE", "remove it")
	case s.verb == Select && (t.is("for") && next.is("update", "share") || t.is("lock") && next.is("in")):
		c.warn(s, t.from, LockingRead, "the select locks its rows until the batch ends", "remove the clause if you can")
	}
}

// isTimeZone reports whether @@session.time_zone or @@global.time_zone stands at i, which convert_tz may need.
func (s *script) isTimeZone(i int) bool {
	return (strings.EqualFold(s.toks[i].value, "@@session") || strings.EqualFold(s.toks[i].value, "@@global")) &&
		s.tok(i+1).is(".") && s.tok(i+2).is("time_zone")
}
