package rule

import (
	"fmt"
	"strings"
)

// verbs are the statements that a rule may run, by their first word.
var verbs = map[string]Op{"select": Select, "with": Select, "insert": Insert, "update": Update, "delete": Delete, "replace": Replace}

// shape checks that the tokens are one statement with its brackets closed, and
// takes the last semicolon away.
func (c *compiler) shape(a *analysis) bool {
	p, src := a.script.phase, a.script.src
	for n := len(a.toks); n > 0 && a.toks[n-1].is(";"); n-- {
		a.toks = a.toks[:n-1]
	}
	if len(a.toks) == 0 {
		c.at(Error, MissingPhase, p, src, 0, "there is no statement here", "write one, or remove it")
		return false
	}
	var open []int
	for i := range a.toks {
		switch t := &a.toks[i]; {
		case t.is(";"):
			c.at(Error, SeveralStatements, p, src, t.from, "a second statement begins here; one is run", "give it a section of its own, or remove it")
			return false
		case t.is("("):
			open = append(open, t.from)
		case t.is(")") && len(open) == 0:
			c.at(Error, BadSQL, p, src, t.from, "a ) without its (", "")
			return false
		case t.is(")"):
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		c.at(Error, BadSQL, p, src, open[len(open)-1], "a ( that is not closed", "")
		return false
	}
	return true
}

// allowed checks that the statement is of a kind its phase runs and asks for
// nothing a rule may not have.
func (c *compiler) allowed(a *analysis) bool {
	before := len(c.out)
	p, src := a.script.phase, a.script.src
	at, first := 0, &a.toks[0]
	for first.is("(") && at+1 < len(a.toks) {
		at++
		first = &a.toks[at]
	}
	op, known := verbs[first.value]
	if first.kind != tokWord || !known || at > 0 && op != Select || op == Select && first.is("with") && !withSelects(a.toks) {
		c.at(Error, NotAllowed, p, src, first.from, fmt.Sprintf("%s is not run by a rule", firstWords(src.text, first)), allowedHere(p))
		return false
	}
	if (op == Select) != (p == upside) {
		c.at(Error, NotAllowed, p, src, first.from, fmt.Sprintf("%s does not belong to %s", op, p), allowedHere(p))
		return false
	}
	a.op = op
	if named := a.script.op; named != "" && named != op.String() {
		c.at(Error, BadOperation, p, src, first.from, fmt.Sprintf("the statement is %s, its operation says %s", op, named), "make them agree")
	}
	for i := range a.toks {
		c.forbidden(a, i)
	}
	return !c.failedSince(before)
}

func allowedHere(p phase) string {
	if p == upside {
		return "upside is a select"
	}
	return p.String() + " is insert, update, delete or replace"
}

// firstWords is the statement's beginning for a message.
func firstWords(text string, t *token) string {
	s := strings.Join(strings.Fields(text[t.from:min(len(text), t.from+24)]), " ")
	if f := strings.Fields(s); len(f) > 2 {
		s = f[0] + " " + f[1]
	}
	return strings.ToUpper(strings.ToValidUTF8(s, ""))
}

// withSelects reports whether what follows the common table expressions is a select.
func withSelects(toks []token) bool {
	depth := 0
	for i := range toks {
		switch t := &toks[i]; {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		case depth == 0 && (t.is("update") || t.is("delete") || t.is("insert") || t.is("replace")):
			return false
		case depth == 0 && t.is("select"):
			return true
		}
	}
	return false
}

// forbiddenFunctions wait, lock, read files or step out of the database.
var forbiddenFunctions = map[string]bool{
	"sleep": true, "benchmark": true, "get_lock": true, "release_lock": true, "release_all_locks": true, "is_free_lock": true,
	"is_used_lock": true, "load_file": true, "master_pos_wait": true, "source_pos_wait": true, "master_gtid_wait": true,
	"wait_for_executed_gtid_set": true, "wait_until_sql_thread_after_gtids": true, "setval": true, "sys_exec": true, "sys_eval": true,
}

// forbidden refuses the token at i where it would reach outside the transaction.
func (c *compiler) forbidden(a *analysis, i int) {
	p, src, t := a.script.phase, a.script.src, &a.toks[i]
	clause := func(what, fix string) { c.at(Error, ForbiddenClause, p, src, t.from, what, fix) }
	next := func(w string) bool { return i+1 < len(a.toks) && a.toks[i+1].is(w) }
	prev := func(w string) bool { return i > 0 && a.toks[i-1].is(w) }
	switch {
	case t.kind == tokVariable && !isTimeZone(a.toks[i:]):
		clause("variables outlive the statement and are not used by rules", "use a parameter such as :state.name or :now")
	case t.is(":="):
		clause("an assignment to a variable", "remove it")
	case t.isName() && next("(") && forbiddenFunctions[strings.ToLower(t.value)]:
		c.at(Error, ForbiddenFunction, p, src, t.from, t.value+"() may not be called by a rule", "remove the call")
	case t.is("into") && (a.op == Select || !afterInsert(a.toks, i)) && !prev("."):
		clause("INTO sends the result to a file or a variable", "remove it; upside's rows are what is sent")
	case t.is("returning") && a.op != Select && !prev("."):
		clause("RETURNING gives rows back where none are read", "remove it")
	case t.is("procedure") && a.op == Select && !prev("."):
		clause("PROCEDURE is not used by rules", "remove it")
	case a.op == Select && (t.is("for") && (next("update") || next("share")) || t.is("lock") && next("in")):
		c.at(Warning, LockingRead, p, src, t.from, "the select locks the rows it reads until the batch ends", "remove the clause unless that is meant")
	}
}

// isTimeZone reports whether the tokens begin with @@session.time_zone or
// @@global.time_zone, which generated statements read and which an edited copy of
// one may keep.
func isTimeZone(toks []token) bool {
	return len(toks) > 2 && (strings.EqualFold(toks[0].value, "@@session") || strings.EqualFold(toks[0].value, "@@global")) &&
		toks[1].is(".") && toks[2].is("time_zone")
}

// afterInsert reports whether `into` at i belongs to the statement's own insert.
func afterInsert(toks []token, i int) bool {
	for i--; i > 0 && (toks[i].is("ignore") || toks[i].is("low_priority") || toks[i].is("high_priority") || toks[i].is("delayed")); i-- {
	}
	return i == 0
}
