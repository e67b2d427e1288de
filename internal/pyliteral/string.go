package pyliteral

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// strKind is what a string's prefix says about it.
type strKind struct {
	u, b, raw bool
}

// prefix returns the length of the string prefix at pos, 0 when there is none:
// u, b, r, br, rb in either case, directly before a quote.
func (p *parser) prefix() int {
	for n := 0; n < 3 && p.pos+n < len(p.src); n++ {
		switch c := p.src[p.pos+n]; c {
		case '\'', '"':
			return n
		case 'u', 'U', 'b', 'B', 'r', 'R':
		default:
			return 0
		}
	}
	return 0
}

// text reads a string and those that follow it directly, which Python joins.
func (p *parser) text() (Value, error) {
	start := p.pos
	body, kind, err := p.one()
	if err != nil {
		return nil, err
	}
	var joined []byte
	for {
		end := p.pos
		c := p.peek()
		if c != '\'' && c != '"' && (!isName(c) || p.prefix() == 0) {
			p.pos = end
			break
		}
		at := p.pos
		next, k, err := p.one()
		if err != nil {
			return nil, err
		}
		if k.b != kind.b {
			return nil, p.fail(at, "bytes and text can't be joined")
		}
		if joined == nil {
			joined = bytes.Clone(body)
		}
		joined = append(joined, next...)
		kind.u = kind.u || k.u
	}
	if joined != nil {
		body = joined
	}
	if !kind.b && (kind.u || p.lim.Dialect != Python2) && !validText(body) {
		return nil, p.fail(start, "this text is not UTF-8")
	}
	switch {
	case kind.b:
		return Bytes(body), nil
	case kind.u && p.lim.Dialect == Python2:
		return Unicode(body), nil
	}
	return Str(body), nil
}

// one reads one string with its prefix. The bytes may be those of src.
func (p *parser) one() ([]byte, strKind, error) {
	start := p.pos
	var k strKind
	n := p.prefix()
	for _, c := range p.src[p.pos : p.pos+n] {
		switch c | 0x20 {
		case 'u':
			k.u = true
		case 'b':
			k.b = true
		case 'r':
			k.raw = true
		}
	}
	if n == 2 && !(k.raw && k.b) { // ur'…' of Python 2 is raw only in part
		return nil, k, p.fail(start, "%s is no prefix of a string", p.show())
	}
	p.pos += n
	quote := p.src[p.pos : p.pos+1]
	if bytes.HasPrefix(p.src[p.pos:], bytes.Repeat(quote, 3)) {
		quote = p.src[p.pos : p.pos+3]
	}
	p.pos += len(quote)
	body := p.pos
	plain := true // no escape and no line end to translate
	for ; p.pos < len(p.src); p.pos++ {
		switch c := p.src[p.pos]; {
		case c == 0:
			return nil, k, p.fail(p.pos, "a NUL byte")
		case c == '\\':
			p.pos++
			plain = false
			if p.at(0) {
				return nil, k, p.fail(p.pos, "a NUL byte")
			}
			if bytes.HasPrefix(p.src[p.pos:], []byte("\r\n")) {
				p.pos++
			}
		case c == '\r' || c == '\n':
			if len(quote) == 1 {
				return nil, k, p.fail(start, "this string does not end on its line")
			}
			plain = plain && c == '\n'
		case c >= 0x80 && k.b && p.lim.Dialect != Python2:
			return nil, k, p.fail(p.pos, "a character beyond ASCII in b'…'")
		case c == quote[0] && bytes.HasPrefix(p.src[p.pos:], quote):
			text := p.src[body:p.pos]
			p.pos += len(quote)
			if p.lim.JSON {
				return p.json(start, k)
			}
			if plain {
				return text, k, nil
			}
			text, err := p.unescape(text, body, k)
			return text, k, err
		}
	}
	return nil, k, p.fail(start, "this string does not end")
}

// json reads the string of JSON that began at start.
func (p *parser) json(start int, k strKind) ([]byte, strKind, error) {
	var s string
	if err := json.Unmarshal(p.src[start:p.pos], &s); err != nil {
		return nil, k, p.fail(start, "no string of JSON")
	}
	return []byte(s), k, nil
}

// unescape returns the value of a string body that began at offset at.
func (p *parser) unescape(s []byte, at int, k strKind) ([]byte, error) {
	// wide: escapes name code points; otherwise they name bytes.
	wide := !k.b && (k.u || p.lim.Dialect != Python2)
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\r':
			out = append(out, '\n')
			i++
			if i < len(s) && s[i] == '\n' {
				i++
			}
		case c != '\\':
			out = append(out, c)
			i++
		case k.raw:
			out = append(out, c)
			i++
			if s[i] != '\r' {
				out = append(out, s[i])
				i++
			}
		default:
			r, n, ok := escape(s[i+1:], wide)
			if !ok {
				return nil, p.fail(at+i, "%q is no escape", s[i:min(i+2, len(s))])
			}
			switch {
			case r == lineJoin:
			case r == notEscape:
				out = append(out, '\\')
			case wide:
				out = appendRune(out, r)
			default:
				out = append(out, byte(r))
			}
			i += 1 + n
		}
	}
	return out, nil
}

// What escape returns beside a code point or byte.
const (
	lineJoin  rune = -1 // backslash and line end: nothing
	notEscape rune = -2 // the backslash stands for itself
)

// escape reads what follows a backslash and tells its length. \N{…} is
// refused: Python alone has the table of names.
func escape(s []byte, wide bool) (r rune, n int, ok bool) {
	switch c := s[0]; c {
	case '\n':
		return lineJoin, 1, true
	case '\r':
		if len(s) > 1 && s[1] == '\n' {
			return lineJoin, 2, true
		}
		return lineJoin, 1, true
	case '\\', '\'', '"':
		return rune(c), 1, true
	case 'a':
		return '\a', 1, true
	case 'b':
		return '\b', 1, true
	case 'f':
		return '\f', 1, true
	case 'n':
		return '\n', 1, true
	case 'r':
		return '\r', 1, true
	case 't':
		return '\t', 1, true
	case 'v':
		return '\v', 1, true
	case '0', '1', '2', '3', '4', '5', '6', '7':
		for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
			r = r<<3 | rune(s[n]-'0')
			n++
		}
		return r, n, true
	case 'x':
		return hexEscape(s, 2)
	case 'u', 'U', 'N':
		if !wide {
			return notEscape, 0, true
		}
		if c == 'N' {
			return 0, 0, false
		}
		if c == 'u' {
			return hexEscape(s, 4)
		}
		return hexEscape(s, 8)
	}
	return notEscape, 0, true
}

func hexEscape(s []byte, digits int) (rune, int, bool) {
	if len(s) < 1+digits {
		return 0, 0, false
	}
	v, ok := hexValue(s[1 : 1+digits])
	return rune(v), 1 + digits, ok && v <= utf8.MaxRune
}

func hexValue(s []byte) (v uint32, ok bool) {
	for _, c := range s {
		d := c - '0'
		switch {
		case c >= 'a' && c <= 'f':
			d = c - 'a' + 10
		case c >= 'A' && c <= 'F':
			d = c - 'A' + 10
		case c < '0' || c > '9':
			return 0, false
		}
		v = v<<4 | uint32(d)
	}
	return v, true
}

// appendRune is utf8.AppendRune that keeps surrogates, which Python's text may
// hold and UTF-8 may not.
func appendRune(dst []byte, r rune) []byte {
	if isSurrogate(r) {
		return append(dst, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0xbf, 0x80|byte(r)&0xbf)
	}
	return utf8.AppendRune(dst, r)
}

// decodeRune is its reverse; ok is false where s is not text.
func decodeRune[S []byte | string](s S) (r rune, n int, ok bool) {
	if s[0] < utf8.RuneSelf {
		return rune(s[0]), 1, true
	}
	if len(s) >= 3 && s[0] == 0xed && s[1] >= 0xa0 && s[1] <= 0xbf && s[2]&0xc0 == 0x80 {
		return 0xd000 | rune(s[1]&0x3f)<<6 | rune(s[2]&0x3f), 3, true
	}
	r, n = utf8.DecodeRuneInString(string(s[:min(len(s), utf8.UTFMax)]))
	return r, n, r != utf8.RuneError || n == 3
}

func isSurrogate(r rune) bool { return r >= 0xd800 && r <= 0xdfff }

func validText(s []byte) bool {
	if utf8.Valid(s) {
		return true
	}
	for len(s) > 0 {
		_, n, ok := decodeRune(s)
		if !ok {
			return false
		}
		s = s[n:]
	}
	return true
}
