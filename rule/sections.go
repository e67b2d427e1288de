package rule

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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
		whole := &source{text: c.row.SQL, column: c.row.SQL}
		c.warn(&script{phase: c.row.mainPhase(), src: whole}, at, BadOption,
			"this comment looks like a heading, but is none",
			"write -- upside, -- downside: insert, -- update_state or -- option: all-or-nothing")
	}
}

// source is a piece of SQL together with where it stands in the column as the DBA wrote it. In a JSON or Python string
// each escape shifts what follows.
type source struct {
	text    string // what the lexer reads
	column  string // the whole column
	base    int    // where text begins in column
	escapes bool   // column holds the text with backslash escapes
	flat    bool   // the escapes cannot be followed: every place is base
}

// place is the offset in the column of an offset in the text.
func (s *source) place(off int) int {
	switch {
	case s.flat:
		return s.base
	case !s.escapes:
		return s.base + off
	}
	at, i := 0, s.base
	for i < len(s.column) {
		wrote, means := escape(s.column[i:])
		if at+means > off {
			break
		}
		at, i = at+means, i+wrote
	}
	return i
}

// position is the 1-based line and column, in characters, of an offset in the text.
func (s *source) position(off int) (line, col int) { return lineCol(s.column, s.place(off)) }

func lineCol(text string, off int) (line, col int) {
	head := text[:max(0, min(off, len(text)))]
	return 1 + strings.Count(head, "\n"), 1 + utf8.RuneCountInString(head[strings.LastIndexByte(head, '\n')+1:])
}

// cut is the part of the source from one offset to another, keeping its place.
func (s *source) cut(from, to int) *source {
	c := *s
	c.text, c.base = s.text[from:to], s.place(from)
	return &c
}

// quoted is the source of a string constant of JSON or Python: value is what it means, column[start:end] how it is
// written. Where the escapes cannot be followed (joined constants, an unknown escape) every place is its start.
func quoted(column, value string, start, end int) *source {
	open := start + strings.IndexAny(column[start:end], `"'`) // behind u, b, r
	s := &source{text: value, column: column, base: open + 1, escapes: !strings.ContainsAny(column[start:open], "rR")}
	if strings.HasPrefix(column[open:end], strings.Repeat(column[open:open+1], 3)) && end-open >= 6 {
		s.base = open + 3
	}
	if s.place(len(value)) != end-(s.base-open) {
		return &source{text: value, column: column, base: start, flat: true}
	}
	return s
}

// escape measures the escape or the byte at the head of s: its bytes as written, and the bytes of UTF-8 that it means.
func escape(s string) (wrote, means int) {
	switch {
	case s[0] != '\\' || len(s) < 2:
		return 1, 1
	case s[1] == '\n':
		return 2, 0
	case strings.IndexByte(`'"/`, s[1]) >= 0:
		return 2, 1
	case len(s) >= 12 && s[1] == 'u' && s[6:8] == `\u` && strings.IndexByte("89abAB", s[3]) >= 0 && s[2]|0x20 == 'd':
		return 12, 4 // a surrogate pair
	}
	octal := s[1:min(4, len(s))]
	if n := len(octal) - len(strings.TrimLeft(octal, "01234567")); n > 0 {
		return 1 + n, 1
	}
	r, _, rest, err := strconv.UnquoteChar(s, 0)
	if err != nil {
		return 1, 1
	}
	return len(s) - len(rest), utf8.RuneLen(r)
}
