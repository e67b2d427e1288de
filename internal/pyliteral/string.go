package pyliteral

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// strKind is what a string's prefix says about it.
type strKind struct {
	u, b, raw bool
}

// prefix returns the length of the letters at pos that may stand before a quote (u, b, r, br or rb in either case), and
// whether the quote is there.
func (p *parser) prefix() (n int, quote bool) {
	for n < 2 && p.pos+n < len(p.src) && bytes.IndexByte([]byte("uUbBrR"), p.src[p.pos+n]) >= 0 {
		n++
	}
	rest := p.src[p.pos+n:]
	return n, len(rest) > 0 && (rest[0] == '\'' || rest[0] == '"')
}

func (p *parser) stringBegins() bool {
	_, quote := p.prefix()
	return quote
}

// text reads a string and those that follow it directly, which Python joins.
func (p *parser) text() (Value, error) {
	start := p.pos
	body, kind, err := p.one()
	end := p.pos
	for joined := false; err == nil && p.peek() != 0 && p.stringBegins(); end = p.pos {
		at := p.pos
		var next []byte
		var k strKind
		if next, k, err = p.one(); err == nil && k.b != kind.b {
			err = p.fail(at, "bytes and text can't be joined")
		}
		if !joined {
			body, joined = bytes.Clone(body), true
		}
		body = append(body, next...)
		kind.u = kind.u || k.u
	}
	p.pos = end // not behind the space
	switch {
	case err != nil:
		return nil, err
	case kind.b:
		return Bytes(body), nil
	case (kind.u || p.lim.Dialect != Python2) && !validText(body):
		return nil, p.fail(start, "this text is not UTF-8")
	case kind.u && p.lim.Dialect == Python2:
		return Unicode(body), nil
	}
	return Str(body), nil
}

// one reads one string with its prefix. The bytes may be those of src.
func (p *parser) one() ([]byte, strKind, error) {
	start := p.pos
	n, _ := p.prefix()
	prefix := bytes.ToLower(p.src[p.pos : p.pos+n])
	has := func(c byte) bool { return bytes.IndexByte(prefix, c) >= 0 }
	k := strKind{u: has('u'), b: has('b'), raw: has('r')}
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
		c := p.src[p.pos]
		if c == '\\' {
			plain = false
			if p.pos++; bytes.HasPrefix(p.src[p.pos:], []byte("\r\n")) {
				p.pos++
			}
			if !p.at(0) {
				continue
			}
			c = 0
		}
		switch {
		case c == 0:
			return nil, k, p.fail(p.pos, "a NUL byte")
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
			var err error
			if p.lim.JSON {
				text, err = p.json(start)
			} else if !plain {
				text, err = p.unescape(text, body, k)
			}
			return text, k, err
		}
	}
	return nil, k, p.fail(start, "this string does not end")
}

// json is the value of the string of JSON from start to pos.
func (p *parser) json(start int) ([]byte, error) {
	var s string
	if err := json.Unmarshal(p.src[start:p.pos], &s); err != nil {
		return nil, p.fail(start, "no string of JSON")
	}
	return []byte(s), nil
}

// unescape returns the value of a string body that began at offset at.
func (p *parser) unescape(s []byte, at int, k strKind) ([]byte, error) {
	// wide: escapes name code points; otherwise they name bytes.
	wide := !k.b && (k.u || p.lim.Dialect != Python2)
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\r':
			out = append(out, '\n')
			i += lineBreak(s[i:])
		case c != '\\' || k.raw:
			out = append(out, c)
			i++
		default:
			var n int
			if out, n = appendEscape(out, s[i+1:], wide); n < 0 {
				return nil, p.fail(at+i, "%q is no escape", s[i:min(i+2, len(s))])
			}
			i += 1 + n
		}
	}
	return out, nil
}

// lineBreak is the length of the line end that s begins with.
func lineBreak(s []byte) int {
	if bytes.HasPrefix(s, []byte("\r\n")) {
		return 2
	}
	return 1
}

// escapeDigits is how many hexadecimal digits follow the letter of an escape.
var escapeDigits = [256]uint8{'x': 2, 'u': 4, 'U': 8}

// appendEscape appends what the escape means whose backslash stands before s, and tells how much of s it takes; less
// than 0 is no escape. \N{…} is none: Python alone has the table of names.
func appendEscape(dst, s []byte, wide bool) (out []byte, n int) {
	const letters, meant = `\'"abfnrtv`, "\\'\"\a\b\f\n\r\t\v"
	c, r := s[0], rune(0)
	digits := int(escapeDigits[c])
	switch i := strings.IndexByte(letters, c); {
	case i >= 0:
		r, n = rune(meant[i]), 1
	case c == '\n' || c == '\r':
		return dst, lineBreak(s) // joined lines
	case c >= '0' && c <= '7':
		for ; n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7'; n++ {
			r = r<<3 | rune(s[n]-'0')
		}
	case c == 'x' || wide && digits > 0:
		n = 1 + digits
		v, err := strconv.ParseUint(string(s[1:min(n, len(s))]), 16, 32)
		if err != nil || n > len(s) || v > utf8.MaxRune {
			return dst, -1
		}
		r = rune(v)
	case c == 'N' && wide:
		return dst, -1
	default:
		return append(dst, '\\'), 0
	}
	if wide {
		return appendRune(dst, r), n
	}
	return append(dst, byte(r)), n
}

// appendRune is utf8.AppendRune that keeps surrogates, which Python's text may hold and UTF-8 may not.
func appendRune(dst []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
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
