package rule

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

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
