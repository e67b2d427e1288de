package rule

import (
	"regexp"
	"strings"
	"time"
)

// script is one statement as it was found in sync_sql, before it is judged.
type script struct {
	phase phase
	op    string // the operation named for it; "" takes the statement's own verb
	src   *source
	seed  *patch // how %s are filled; nil where names are used
}

var (
	headingText = regexp.MustCompile(`(?i)^--\s*(upside|downside|update_state)\s*(?::\s*([a-z]+)\s*(.*?)\s*)?$`)
	optionText  = regexp.MustCompile(`(?i)^--\s*options?\s*:\s*(.*?)\s*$`)
	firstWord   = regexp.MustCompile(`^--\s*([a-zA-Z_]+)\s*(:?)`)
)

// scripts finds the form of sync_sql and cuts it into statements.
func (c *compiler) scripts() (Form, []script) {
	text := c.row.SQL
	if trimmed := strings.TrimSpace(text); strings.HasPrefix(trimmed, "{") {
		return c.phases()
	} else if trimmed == "None" || trimmed == "null" {
		text = ""
	}
	scripts := c.sections(text)
	form := Named
	if len(scripts) == 0 {
		form = Generated
	}
	c.operations(scripts, form)
	return form, scripts
}

// sections cuts plain SQL at its headings. Comments are found by the lexer, so a
// heading inside a string is no heading.
func (c *compiler) sections(text string) []script {
	whole := &source{text: text, column: text}
	toks, err := lex(text)
	if err != nil {
		c.at(Error, BadSQL, c.row.mainPhase(), whole, err.at, err.msg, "")
		return nil
	}
	var out []script
	current := script{phase: c.row.mainPhase()}
	from, headed := 0, false
	flush := func(to int) {
		switch {
		case current.op == OpFile.String():
			if hasSQL(toks, from, to) {
				c.at(Error, BadFile, current.phase, whole, from, "a file operation has no SQL", "write -- downside: file NAME FORMAT on one line")
			}
			out = append(out, current)
		case hasSQL(toks, from, to):
			current.src = whole.cut(from, to)
			out = append(out, current)
		case headed:
			c.at(Error, MissingPhase, current.phase, whole, from, "the section is empty", "write its statement or remove the heading")
		}
	}
	for _, t := range toks {
		if t.kind != tokComment || !strings.HasPrefix(text[t.from:], "--") {
			continue
		}
		comment := strings.TrimRight(text[t.from:t.to], "\r\n\t ")
		if m := headingText.FindStringSubmatch(comment); m != nil {
			flush(t.from)
			current, headed = script{phase: phaseNamed(m[1]), op: strings.ToLower(m[2])}, true
			if m[3] != "" {
				at := t.from + strings.LastIndex(comment, m[3])
				if current.op != OpFile.String() {
					c.at(Error, BadOption, current.phase, whole, at, "the heading goes on after the operation", "begin the statement on a line of its own")
				}
				current.src = whole.cut(at, at+len(m[3]))
			}
			from = t.to
		} else if m := optionText.FindStringSubmatch(comment); m != nil {
			c.option(m[1], whole, t.from)
		} else {
			c.nearHeading(comment, whole, t.from)
		}
	}
	flush(len(text))
	return out
}

func hasSQL(toks []token, from, to int) bool {
	for _, t := range toks {
		if t.from >= from && t.to <= to && t.kind != tokComment && !t.is(";") {
			return true
		}
	}
	return false
}

func phaseNamed(s string) phase {
	switch strings.ToLower(s) {
	case "upside":
		return upside
	case "downside":
		return downside
	default:
		return updateState
	}
}

// option takes one option: all-or-nothing, or lag 10s.
func (c *compiler) option(text string, src *source, at int) {
	for _, one := range strings.Split(text, ",") {
		words := strings.Fields(strings.ToLower(one))
		switch {
		case len(words) == 1 && words[0] == "all-or-nothing":
			c.plan.AllOrNothing = true
			continue
		case len(words) == 2 && words[0] == "lag":
			d, err := time.ParseDuration(words[1])
			if err == nil && d >= 0 && d <= time.Hour && d%time.Second == 0 {
				c.lag, c.hasLag = d, true
				continue
			}
		}
		c.at(Error, BadOption, c.row.mainPhase(), src, at, "there is no option "+strings.TrimSpace(one),
			"options are all-or-nothing and lag 2s (whole seconds, an hour at most)")
	}
}

// nearHeading warns of a comment that was probably meant as a heading.
func (c *compiler) nearHeading(comment string, src *source, at int) {
	m := firstWord.FindStringSubmatch(comment)
	if m == nil {
		return
	}
	word := strings.ToLower(m[1])
	for _, h := range [...]string{"upside", "downside", "update_state", "option"} {
		alone := strings.TrimSpace(comment[len(m[0]):]) == "" || m[2] == ":"
		if d := distance(word, h); d <= 2 && (alone || d == 0 && h == "downside") {
			c.at(Warning, BadOption, c.row.mainPhase(), src, at, "this comment looks like a heading, but is none",
				"write -- upside, -- downside: insert, -- update_state or -- option: all-or-nothing")
			return
		}
	}
}
