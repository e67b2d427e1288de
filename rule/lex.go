package rule

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// kind is what a token is.
type kind uint8

const (
	tokOp       kind = iota // everything that is not below: a character or an operator
	tokWord                 // a name or a keyword without quotes
	tokName                 // `a name`
	tokString               // '…' or "…"
	tokNumber               // 12, 1.5e3, 0xff, b'01', x'ff'
	tokParam                // :name, :state.name, :row.`name`
	tokVariable             // @name, @@name
	tokPercent              // %s
	tokMark                 // ?
	tokComment              // -- …, # …, /* … */
	tokHint                 // /*! … */ or /*+ … */
)

// token is text[from:to].
type token struct {
	kind     kind
	from, to int
	depth    int    // how many brackets are open around it; a bracket is not inside itself
	value    string // what a name or a string means; a word in lower case
	rest     string // of a parameter with a dot: what stands behind the first
	noColumn bool   // it names a table, an alias or an index
}

// is reports whether the token is the keyword or operator w, in lower case.
func (t *token) is(w string) bool {
	return (t.kind == tokWord || t.kind == tokOp) && t.value == w
}

// isAny reports whether the token is one of the keywords or operators.
func (t *token) isAny(words ...string) bool {
	for _, w := range words {
		if t.is(w) {
			return true
		}
	}
	return false
}

// isName reports whether the token can name a table or a column.
func (t *token) isName() bool { return t.kind == tokWord || t.kind == tokName }

// lexError is a place where the text stops being SQL.
type lexError struct {
	at  int
	msg string
}

// lexer cuts SQL as MySQL's and MariaDB's default sql_mode reads it: backslash
// escapes in strings, "…" a string, # and `-- ` comments. The seed's %s are tokens
// of their own, which plain SQL refuses later.
type lexer struct {
	text string
	at   int
	err  *lexError
}

// lex cuts the whole text. Comments are tokens too, so that headings can be found.
func lex(text string) (toks []token, err *lexError) {
	for i, r := range text {
		if r == 0 || r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			return nil, &lexError{i, "a byte that is not UTF-8 text"}
		}
	}
	l, depth := &lexer{text: text}, 0
	for l.skipSpace() {
		t := token{from: l.at}
		l.next(&t)
		if l.err != nil {
			return toks, l.err
		}
		if t.is(")") {
			depth--
		}
		t.to, t.depth = l.at, depth
		if t.is("(") {
			depth++
		}
		toks = append(toks, t)
	}
	return toks, nil
}

// code is the tokens that are run: all but the comments.
func code(toks []token) (out []token) {
	for _, t := range toks {
		if t.kind != tokComment && t.kind != tokHint {
			out = append(out, t)
		}
	}
	return out
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

// fail ends the reading with a mistake.
func (l *lexer) fail(at int, msg string) { l.err = &lexError{at, msg} }

// next reads the token at hand and moves behind it.
func (l *lexer) next(t *token) {
	c, next := l.peek(0), l.peek(1)
	switch {
	case c == '#', c == '-' && next == '-' && (l.at+2 == len(l.text) || isSpace(l.peek(2))):
		line, _, _ := strings.Cut(l.text[l.at:], "\n")
		t.kind, l.at = tokComment, l.at+len(line)
	case c == '/' && next == '*':
		t.kind = l.blockComment()
	case c == '\'' || c == '"':
		t.kind, t.value = tokString, l.quoted("a string")
	case c == '`':
		t.kind, t.value = tokName, l.quoted("a name in `")
	case isDigit(c) || c == '.' && isDigit(next) && !l.afterName():
		t.kind, t.value = l.number()
	case strings.IndexByte("xXbBnN", c) >= 0 && next == '\'':
		l.at++
		if t.kind, t.value = tokNumber, l.quoted("a string"); c|0x20 == 'n' {
			t.kind = tokString
		}
	case isWordByte(c):
		t.kind, t.value = tokWord, strings.ToLower(l.word())
	case c == ':' && next != '=':
		l.param(t)
	case c == '@':
		for l.at++; l.peek(0) == '@'; l.at++ {
		}
		l.word()
		t.kind, t.value = tokVariable, l.text[t.from:l.at]
	case c == '?':
		t.kind, l.at = tokMark, l.at+1
	case c == '%' && next == 's' && !isWordByte(l.peek(2)):
		t.kind, l.at = tokPercent, l.at+2
	default:
		t.kind, t.value = tokOp, l.operator()
	}
}

// afterName reports whether the text before touches a name, so that .5 is a qualifier.
func (l *lexer) afterName() bool {
	return l.at > 0 && (isWordByte(l.text[l.at-1]) || l.text[l.at-1] == '`')
}

func (l *lexer) word() string {
	from := l.at
	for l.at < len(l.text) && isWordByte(l.text[l.at]) {
		l.at++
	}
	return l.text[from:l.at]
}

func (l *lexer) blockComment() kind {
	body, _, closed := strings.Cut(l.text[l.at+2:], "*/")
	if !closed {
		l.fail(l.at, "a comment /* that is not closed")
	}
	l.at += len("/**/") + len(body)
	if strings.HasPrefix(body, "!") || strings.HasPrefix(body, "+") || strings.HasPrefix(strings.ToUpper(body), "M!") {
		return tokHint
	}
	return tokComment
}

// quoted reads from the quote at hand to the one that closes it and gives what stands
// between them. A doubled quote is one; a backslash in a string stays as it is written.
func (l *lexer) quoted(what string) string {
	open, quote := l.at, l.text[l.at]
	var b strings.Builder
	for l.at++; l.at < len(l.text); l.at++ {
		c := l.text[l.at]
		switch {
		case c == quote && l.peek(1) != quote:
			l.at++
			return b.String()
		case c == quote:
			l.at++
		case c == '\\' && quote != '`' && l.at+1 < len(l.text):
			b.WriteByte(c)
			l.at++
			c = l.text[l.at]
		}
		b.WriteByte(c)
	}
	l.fail(open, what+" that is not closed")
	return ""
}

var numberText = regexp.MustCompile(`^(?i:0x[0-9a-f]+|0b[01]+|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)`)

// number reads 12, 1.5, 1e-3, 0xff, 0b01; what begins with a digit and goes on as
// a word (`2fa`) is a name, as it is in MySQL.
func (l *lexer) number() (kind, string) {
	from := l.at
	l.at += len(numberText.FindString(l.text[from:]))
	if l.word() != "" {
		return tokWord, strings.ToLower(l.text[from:l.at])
	}
	return tokNumber, l.text[from:l.at]
}

// param reads :name and :state.name; each part may stand in backticks.
func (l *lexer) param(t *token) {
	var parts []string
	for {
		l.at++ // the colon, or a dot
		start := l.at
		if l.peek(0) == '`' {
			parts = append(parts, l.quoted("a name in `"))
		} else {
			parts = append(parts, l.word())
		}
		if l.at == start {
			l.fail(t.from, "a colon that is not followed by a parameter's name")
		}
		if next := l.peek(1); l.err != nil || l.peek(0) != '.' || !isWordByte(next) && next != '`' {
			break
		}
	}
	t.kind, t.value, t.rest = tokParam, parts[0], strings.Join(parts[1:], ".")
}

var operators = regexp.MustCompile(`^(?:<=>|->>|[<>!:]=|<>|->|<<|>>|&&|%%|\|\|)`)

func (l *lexer) operator() string {
	op := operators.FindString(l.text[l.at:min(l.at+3, len(l.text))])
	if c := l.text[l.at]; c < ' ' || c == 0x7f {
		l.fail(l.at, "a control character") // MySQL takes -- and one of them for a comment
	} else if op == "" {
		_, n := utf8.DecodeRuneInString(l.text[l.at:])
		op = l.text[l.at : l.at+n]
	}
	l.at += len(op)
	return op
}
