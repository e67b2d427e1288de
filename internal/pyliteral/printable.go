package pyliteral

import (
	_ "embed"
	"fmt"
	"sort"
	"strings"
	"unicode"
)

// printable reports whether that Python's repr of text shows r as it is (str.isprintable): letters, marks, numbers,
// punctuation and symbols of the Unicode version it was built with, and the space.
func printable(r rune, d Dialect) bool {
	if r < 0x80 {
		return r >= ' ' && r < 0x7f
	}
	i := sort.Search(len(since), func(i int) bool { return since[i].last >= r })
	if i < len(since) && since[i].first <= r {
		return d >= since[i].in
	}
	return unicode.IsPrint(r)
}

// sinceText lists, in order, the code points that became printable after CPython 3.6 (Unicode 9.0), and in which
// CPython they did: 3.7 has Unicode 11.0, 3.8 12.1, 3.9 and 3.10 13.0, 3.11 14.0, 3.12 15.0, 3.13 15.1. None ever
// ceased to be. What is not listed is as in Go's own tables.
//
//go:embed printable.txt
var sinceText string

type span struct {
	first, last rune
	in          Dialect
}

var since = readSince(sinceText)

func readSince(text string) (all []span) {
	for line := range strings.Lines(text) {
		var s span
		var name string
		if _, err := fmt.Sscanf(line, "%x %x %s", &s.first, &s.last, &name); err != nil {
			panic(err)
		}
		s.in, _ = ParseDialect(name)
		all = append(all, s)
	}
	return all
}
