package rule

import (
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// source is a piece of SQL together with where it stands in the column as the DBA
// wrote it. For plain SQL the two are the same text; for SQL in a JSON or Python
// string each escape shifts what follows, which jumps remember.
type source struct {
	text   string // what the lexer reads
	column string // the whole column
	base   int    // where text begins in column
	jumps  []jump // ascending by at; empty means text is column[base:]
}

// jump says that text[at:] stands at column[to:], up to the next jump.
type jump struct{ at, to int }

// place is the offset in the column of an offset in the text.
func (s *source) place(off int) int {
	i := sort.Search(len(s.jumps), func(i int) bool { return s.jumps[i].at > off })
	if i == 0 {
		return s.base + off
	}
	j := s.jumps[i-1]
	return j.to + off - j.at
}

// position is the 1-based line and column, in characters, of an offset in the text.
func (s *source) position(off int) (line, col int) {
	return lineCol(s.column, s.place(off))
}

func lineCol(text string, off int) (line, col int) {
	off = max(0, min(off, len(text)))
	head := text[:off]
	line = 1 + strings.Count(head, "\n")
	return line, 1 + utf8.RuneCountInString(head[strings.LastIndexByte(head, '\n')+1:])
}

// cut is the part of the source from one offset to another, keeping its place.
func (s *source) cut(from, to int) *source {
	c := &source{text: s.text[from:to], column: s.column, base: s.place(from)}
	for _, j := range s.jumps {
		if j.at > from && j.at <= to {
			c.jumps = append(c.jumps, jump{j.at - from, j.to})
		}
	}
	return c
}

// quoted is the source of a string constant of JSON or Python: value is what it
// means, column[start:end] how it is written. Where the writing cannot be followed
// (joined constants, an escape not known here) everything is placed at its start.
func quoted(column, value string, start, end int) *source {
	s := &source{text: value, column: column, base: start}
	open := start
	for open < end && column[open] != '"' && column[open] != '\'' {
		open++ // u, b, r
	}
	raw := strings.ContainsAny(column[start:open], "rR")
	width := 1
	if open+6 <= end && column[open:open+3] == strings.Repeat(column[open:open+1], 3) {
		width = 3
	}
	at, i, stop := 0, open+width, end-width
	s.base = i
	for i < stop {
		if column[i] != '\\' || raw {
			at, i = at+1, i+1
			continue
		}
		wrote, means := escape(column[i:stop])
		at, i = at+means, i+wrote
		s.jumps = append(s.jumps, jump{at, i})
	}
	if at != len(value) {
		return &source{text: value, column: column, base: start, jumps: flat(len(value), start)}
	}
	return s
}

// flat places every offset of a text at one place.
func flat(n, place int) []jump {
	js := make([]jump, 0, n+1)
	for i := range n + 1 {
		js = append(js, jump{i, place})
	}
	return js
}

// escape measures the escape at the head of s: the bytes it is written in and the
// bytes of UTF-8 it means.
func escape(s string) (wrote, means int) {
	if len(s) < 2 {
		return len(s), len(s)
	}
	switch s[1] {
	case 'x':
		return min(4, len(s)), runeLen(s, 2)
	case 'U':
		return min(10, len(s)), runeLen(s, 8)
	case 'u':
		if len(s) >= 12 && s[6:8] == `\u` && strings.IndexByte("89abAB", s[3]) >= 0 && s[2]|0x20 == 'd' {
			return 12, 4 // a surrogate pair
		}
		return min(6, len(s)), runeLen(s, 4)
	case '\n':
		return 2, 0
	case '0', '1', '2', '3', '4', '5', '6', '7':
		n := 1
		for n < 4 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
			n++
		}
		return n, 1
	default:
		if strings.IndexByte("\\'\"abfnrtv/", s[1]) >= 0 {
			return 2, 1
		}
		return 2, 2
	}
}

// runeLen is the bytes of the character that n hex digits behind \x or \u mean.
func runeLen(s string, n int) int {
	r, err := strconv.ParseUint(s[2:min(2+n, len(s))], 16, 32)
	if err != nil {
		return 0
	}
	return max(1, utf8.RuneLen(rune(r)))
}
