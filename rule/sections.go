package rule

import (
	"regexp"
	"slices"
	"strings"
)

var (
	headingText = regexp.MustCompile(`(?i)^--\s*(upside|downside|update_state)\s*(?::\s*([a-z]+)\s*(.*?)\s*)?$`)
	optionText  = regexp.MustCompile(`(?i)^--\s*options?\s*:\s*(.*?)\s*$`)
	firstWord   = regexp.MustCompile(`^--\s*([a-zA-Z_]+)\s*(:?)\s*(.*)`)
)

// scripts finds the form of sync_sql and cuts it into statements.
func (c *compiler) scripts() (scripts []*script) {
	if dictBegins.MatchString(c.row.SQL) {
		scripts = c.phases()
	} else if !blank(c.row.SQL) {
		c.plan.Form = Named
		if scripts = c.sections(); len(scripts) == 0 {
			c.plan.Form = Generated
		}
	}
	marks, names := false, false
	for _, s := range scripts {
		if s.src == nil {
			continue // a file without a name
		}
		s.read()
		for _, t := range s.toks {
			marks, names = marks || isPlaceholder(&t), names || t.kind == tokParam
		}
	}
	scripts = c.operations(scripts)
	if c.plan.Form >= JSON && marks || c.plan.Form == Literal && !names {
		c.patches(scripts)
	}
	return scripts
}

// sections cuts plain SQL at its headings. The lexer finds the comments, so a heading inside a string is none.
func (c *compiler) sections() (out []*script) {
	sql := c.row.SQL
	whole := &source{text: sql, column: sql}
	current := &script{phase: c.row.mainPhase()}
	bad := func(at int, code Code, msg, fix string) {
		c.at(&script{phase: current.phase, src: whole}, at, Error, code, msg, fix)
	}
	toks, err := lex(sql)
	if err != nil {
		bad(err.at, BadSQL, err.msg, "")
		return nil
	}
	from, headed := 0, false
	flush := func(to int) {
		switch full := hasSQL(toks, from, to); {
		case current.op == OpFile.String():
			if full {
				bad(from, BadFile, "a file operation has no SQL", "write -- downside: file NAME FORMAT on one line")
			}
			out = append(out, current)
		case full:
			current.src = whole.cut(from, to)
			out = append(out, current)
		case headed:
			bad(from, MissingPhase, "the section is empty", "write its statement or remove the heading")
		}
	}
	for _, t := range toks {
		if t.kind != tokComment || !strings.HasPrefix(sql[t.from:], "--") {
			continue
		}
		comment := strings.TrimRight(sql[t.from:t.to], "\r\n\t ")
		if m := headingText.FindStringSubmatch(comment); m != nil {
			flush(t.from)
			p, _ := phaseNamed(strings.ToLower(m[1]))
			current, headed, from = &script{phase: p, op: strings.ToLower(m[2])}, true, t.to
			if m[3] != "" {
				at := t.from + strings.LastIndex(comment, m[3])
				if current.op != OpFile.String() {
					bad(at, BadOption, "text follows the operation", "begin the statement on a line of its own")
				}
				current.src = whole.cut(at, at+len(m[3]))
			}
		} else if m := optionText.FindStringSubmatch(comment); m != nil {
			at := t.from + strings.LastIndex(comment, m[1])
			c.option(whole.cut(at, at+len(m[1])))
		} else {
			c.nearHeading(comment, t.from)
		}
	}
	flush(len(sql))
	return out
}

func hasSQL(toks []token, from, to int) bool {
	return slices.ContainsFunc(toks, func(t token) bool {
		return t.from >= from && t.to <= to && t.kind != tokComment && !t.is(";")
	})
}

// badOption reports an option or a comment of sync_sql.
func (c *compiler) badOption(at int, s Severity, msg, fix string) {
	whole := &source{text: c.row.SQL, column: c.row.SQL}
	c.at(&script{phase: c.row.mainPhase(), src: whole}, at, s, BadOption, msg, fix)
}

// nearHeading warns of a comment that is probably meant as a heading.
func (c *compiler) nearHeading(comment string, at int) {
	m := firstWord.FindStringSubmatch(comment)
	if m == nil {
		return
	}
	likely := func(h string) bool {
		d := distance(strings.ToLower(m[1]), h)
		return d <= 2 && (m[2] == ":" || m[3] == "") || d == 0 && h == "downside"
	}
	if slices.ContainsFunc(phaseNames, likely) || likely("option") {
		c.badOption(at, Warning, "this comment looks like a heading, but is none",
			"write -- upside, -- downside: insert, -- update_state or -- option: all-or-nothing")
	}
}
