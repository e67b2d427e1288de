package pyliteral

import (
	"bytes"
	"strconv"
)

// survey walks over a source without reading it: it counts what could be values, so that Parse allocates once and
// refuses too many before it allocates at all, and notes what only one of the two Pythons prints.
type surveyed struct {
	elements         int // never fewer than the literal has
	python2, python3 bool
}

// Detect tells which Python printed src, when src shows it. Python 2 alone prints u'…', 1L and '\xe4'; Python 3 alone
// prints b'…', '\u200b', characters beyond ASCII, and timedelta(days=1). When nothing or both show, ok is false.
func Detect(src []byte) (d Dialect, ok bool) {
	s := survey(src)
	switch {
	case s.python2 == s.python3:
		return 0, false
	case s.python2:
		return Python2, true
	}
	return Python3, true
}

func survey(src []byte) surveyed {
	s := surveyed{elements: 1}
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case c == ',' || c == ':' || c == '(' || c == '[' || c == '{':
			// Each element but the first of its container follows a comma or a colon, and the first follows the opening
			// bracket.
			s.elements++
		case c == '#':
			i += lineEnd(src[i:])
		case c == '\'' || c == '"':
			i = s.str(src, i)
		case c == 'L' && i > 0 && src[i-1] >= '0' && src[i-1] <= '9':
			s.python2 = true
		case c == 'd' && bytes.HasPrefix(src[i:], []byte("datetime.timedelta(")):
			i += len("datetime.timedelta(") - 2
			if i+2 < len(src) && src[i+2] >= 'a' && src[i+2] <= 'z' {
				s.python3 = true
			}
		}
	}
	return s
}

// str passes over the string whose quote stands at i and returns its last byte.
func (s *surveyed) str(src []byte, i int) int {
	quote, plain := src[i], true
	if i > 0 {
		switch src[i-1] {
		case 'u', 'U':
			s.python2, plain = true, false
		case 'b', 'B':
			s.python3, plain = true, false
		case 'r', 'R':
			plain = false
		}
	}
	end := []byte{quote}
	if i+2 < len(src) && src[i+1] == quote && src[i+2] == quote {
		end = []byte{quote, quote, quote}
	}
	i += len(end)
	for ; i < len(src); i++ {
		switch c := src[i]; {
		case c == '\\' && i+1 < len(src):
			i++
			if plain {
				s.escape(src[i:])
			}
		case c == quote && bytes.HasPrefix(src[i:], end):
			return i + len(end) - 1
		case c >= 0x80 && plain:
			s.python3 = true
		}
	}
	return len(src)
}

// escape notes what the escape in '…' tells. Python 3 prints \x only for the characters to U+00A0 and for U+00AD, which
// are not printable.
func (s *surveyed) escape(b []byte) {
	switch {
	case b[0] == 'u' || b[0] == 'U':
		s.python3 = true
	case b[0] == 'x' && len(b) > 2:
		if v, err := strconv.ParseUint(string(b[1:3]), 16, 8); err == nil && v > 0xa0 && v != 0xad {
			s.python2 = true
		}
	}
}
