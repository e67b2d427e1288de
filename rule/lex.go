package rule

import (
	"strings"
	"unicode/utf8"
)

// kind is what a token is.
type kind uint8

const (
	tokEnd      kind = iota
	tokWord          // a name or a keyword without quotes
	tokName          // `a name`
	tokString        // '…' or "…"
	tokNumber        // 12, 1.5e3, 0xff, b'01', x'ff'
	tokParam         // :name, :state.name, :row.`name`
	tokVariable      // @name, @@name
	tokPercent       // %s where the seed's placeholders are read
	tokMark          // ?
	tokOp            // everything else, a character or an operator
	tokComment       // -- …, # …, /* … */
	tokHint          // /*! … */ or /*+ … */
)

// token is text[from:to]; value is what a name, a string or a parameter means.
type token struct {
	kind     kind
	from, to int
	value    string
}

// is reports whether the token is the keyword or operator w, in lower case.
func (t *token) is(w string) bool {
	return (t.kind == tokWord || t.kind == tokOp) && t.value == w
}

// isName reports whether the token can name a table or a column.
func (t *token) isName() bool { return t.kind == tokWord || t.kind == tokName }

// lexError is a place where the text stops being SQL.
type lexError struct {
	at  int
	msg string
}

// lexer cuts SQL as MySQL's and MariaDB's default sql_mode reads it: backslash
// escapes in strings, "…" a string, # and `-- ` comments.
type lexer struct {
	text    string
	at      int
	percent bool // read %s as a placeholder
	out     []token
	err     *lexError
}

// lex cuts the whole text. Comments are tokens too, so that headings can be found.
func lex(text string, percent bool) ([]token, *lexError) {
	if i := invalidAt(text); i >= 0 {
		return nil, &lexError{i, "a byte that is not UTF-8 text"}
	}
	l := &lexer{text: text, percent: percent}
	for l.err == nil && l.skipSpace() {
		l.next()
	}
	return l.out, l.err
}

func invalidAt(s string) int {
	for i, r := range s {
		if r == 0 {
			return i
		}
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return i
			}
		}
	}
	return -1
}

func (l *lexer) skipSpace() bool {
	for l.at < len(l.text) && isSpace(l.text[l.at]) {
		l.at++
	}
	return l.at < len(l.text)
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func (l *lexer) peek(i int) byte {
	if l.at+i < len(l.text) {
		return l.text[l.at+i]
	}
	return 0
}

// add ends the token that began at from at the current offset.
func (l *lexer) add(k kind, from int, value string) {
	l.out = append(l.out, token{kind: k, from: from, to: l.at, value: value})
}

func (l *lexer) fail(at int, msg string) { l.err = &lexError{at, msg} }

func (l *lexer) next() {
	c := l.peek(0)
	switch {
	case c == '#', c == '-' && l.peek(1) == '-' && (l.at+2 == len(l.text) || isSpace(l.peek(2))):
		l.lineComment()
	case c == '/' && l.peek(1) == '*':
		l.blockComment()
	case c == '\'' || c == '"':
		l.str(tokString, l.at)
	case c == '`':
		from := l.at
		if name, ok := l.backticks(); ok {
			l.add(tokName, from, name)
		}
	case isDigit(c) || c == '.' && isDigit(l.peek(1)) && !l.afterName():
		l.number()
	case (c|0x20 == 'x' || c|0x20 == 'b' || c|0x20 == 'n') && l.peek(1) == '\'':
		l.prefixed(c | 0x20)
	case isWordByte(c):
		from := l.at
		l.word()
		l.add(tokWord, from, strings.ToLower(l.text[from:l.at]))
	case c == ':':
		l.param()
	case c == '@':
		l.variable()
	case c == '?':
		l.at++
		l.add(tokMark, l.at-1, "?")
	case c == '%' && l.percent:
		l.percentSign()
	default:
		l.operator()
	}
}

// afterName reports whether the text before touches a name, so that .5 is a qualifier.
func (l *lexer) afterName() bool {
	return l.at > 0 && (isWordByte(l.text[l.at-1]) || l.text[l.at-1] == '`')
}

func (l *lexer) word() {
	for l.at < len(l.text) && isWordByte(l.text[l.at]) {
		l.at++
	}
}

func (l *lexer) lineComment() {
	from := l.at
	if i := strings.IndexByte(l.text[l.at:], '\n'); i >= 0 {
		l.at += i
	} else {
		l.at = len(l.text)
	}
	l.add(tokComment, from, "")
}

func (l *lexer) blockComment() {
	from, k := l.at, tokComment
	head := strings.ToUpper(l.text[l.at+2 : min(l.at+4, len(l.text))])
	if strings.HasPrefix(head, "!") || strings.HasPrefix(head, "+") || head == "M!" {
		k = tokHint
	}
	i := strings.Index(l.text[l.at+2:], "*/")
	if i < 0 {
		l.fail(from, "a comment /* that is not closed")
		return
	}
	l.at += i + 4
	l.add(k, from, "")
}

// str reads the string at l.at; from is where its token begins (before N or x).
func (l *lexer) str(k kind, from int) {
	quote, open := l.text[l.at], l.at
	var b strings.Builder
	for l.at++; l.at < len(l.text); l.at++ {
		c := l.text[l.at]
		switch {
		case c == quote && l.peek(1) == quote:
			l.at++
			b.WriteByte(c)
		case c == quote:
			l.at++
			l.add(k, from, b.String())
			return
		case c == '\\' && l.at+1 < len(l.text):
			b.WriteByte(c)
			l.at++
			b.WriteByte(l.text[l.at])
		default:
			b.WriteByte(c)
		}
	}
	l.fail(open, "a string that is not closed")
}

func (l *lexer) backticks() (string, bool) {
	from := l.at
	var b strings.Builder
	for l.at++; l.at < len(l.text); l.at++ {
		c := l.text[l.at]
		if c == '`' && l.peek(1) == '`' {
			l.at++
		} else if c == '`' {
			l.at++
			return b.String(), true
		}
		b.WriteByte(c)
	}
	l.fail(from, "a name in ` that is not closed")
	return "", false
}

func (l *lexer) prefixed(c byte) {
	from := l.at
	l.at++
	if c == 'n' {
		l.str(tokString, from)
	} else {
		l.str(tokNumber, from)
	}
}

// number reads 12, 1.5, 1e-3, 0xff, 0b01; what begins with a digit and goes on as
// a word (`2fa`) is a name, as it is in MySQL.
func (l *lexer) number() {
	from := l.at
	l.word()
	w := l.text[from:l.at]
	if l.peek(0) == '.' && allDigits(w) {
		l.at++
		l.word()
	}
	if e := l.text[l.at-1] | 0x20; e == 'e' && (l.peek(0) == '-' || l.peek(0) == '+') && allDigits(strings.Replace(l.text[from:l.at-1], ".", "", 1)) {
		l.at++
		l.word()
	}
	w = strings.ToLower(l.text[from:l.at])
	if looksNumeric(w) {
		l.add(tokNumber, from, w)
	} else {
		l.add(tokWord, from, w)
	}
}

func allDigits(s string) bool { return strings.Trim(s, "0123456789") == "" }

func looksNumeric(w string) bool {
	switch {
	case strings.HasPrefix(w, "0x"):
		return len(w) > 2 && strings.Trim(w[2:], "0123456789abcdef") == ""
	case strings.HasPrefix(w, "0b"):
		return len(w) > 2 && strings.Trim(w[2:], "01") == ""
	}
	m, e, _ := strings.Cut(w, "e")
	return allDigits(strings.Replace(m, ".", "", 1)) && allDigits(strings.TrimLeft(e, "+-"))
}

// param reads :name, :state.name and names in backticks. The value keeps the dots
// that part the words; a dot inside backticks becomes \x00 and is put back later.
func (l *lexer) param() {
	from := l.at
	if l.peek(1) == '=' {
		l.at += 2
		l.add(tokOp, from, ":=")
		return
	}
	var parts []string
	for l.at++; ; l.at++ {
		start := l.at
		if l.peek(0) == '`' {
			name, ok := l.backticks()
			if !ok {
				return
			}
			parts = append(parts, strings.ReplaceAll(name, ".", "\x00"))
		} else {
			l.word()
			parts = append(parts, l.text[start:l.at])
		}
		if l.at == start {
			l.fail(from, "a colon that is not followed by a parameter's name")
			return
		}
		if next := l.peek(1); l.peek(0) != '.' || !isWordByte(next) && next != '`' {
			break
		}
	}
	l.add(tokParam, from, strings.Join(parts, "."))
}

func (l *lexer) variable() {
	from := l.at
	for l.peek(0) == '@' {
		l.at++
	}
	l.word()
	l.add(tokVariable, from, l.text[from:l.at])
}

func (l *lexer) percentSign() {
	from := l.at
	switch {
	case l.peek(1) == 's' && !isWordByte(l.peek(2)):
		l.at += 2
		l.add(tokPercent, from, "%s")
	case l.peek(1) == '%':
		l.at += 2
		l.add(tokOp, from, "%%")
	default:
		l.operator()
	}
}

func (l *lexer) operator() {
	from := l.at
	for _, op := range [...]string{"<=>", "->>", "<=", ">=", "<>", "!=", "->", "||", "&&", "<<", ">>"} {
		if strings.HasPrefix(l.text[l.at:], op) {
			l.at += len(op)
			l.add(tokOp, from, op)
			return
		}
	}
	if c := l.text[from]; c < ' ' || c == 0x7f {
		l.fail(from, "a control character") // MySQL takes -- and one of them for a comment
		return
	}
	_, n := utf8.DecodeRuneInString(l.text[l.at:])
	l.at += n
	l.add(tokOp, from, l.text[from:l.at])
}
