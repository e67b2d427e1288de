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
	depth    int    // the brackets open around it; a bracket is not inside itself
	value    string // of a name or a string its meaning; else the text in lower case
	rest     string // of a parameter with a dot: the part behind it
	asText   bool   // of a parameter: it begins with :text.
}

// is reports whether the token is one of the keywords or operators, in lower case.
func (t *token) is(words ...string) bool {
	if t.kind == tokWord || t.kind == tokOp {
		for _, w := range words {
			if t.value == w {
				return true
			}
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

const (
	wordText    = `[0-9A-Za-z_$\x{80}-\x{10ffff}]+`
	decimalText = `(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?`
	nameText    = "(?:" + wordText + "|`(?:[^`]|``)*`)"
)

// lexemes are the tokens as the default sql_mode of MySQL and MariaDB reads them: backslash escapes in strings, "…" a
// string, # and `-- ` comments. The first that fits is taken. One that names a mistake ends the reading at its group.
// Text that none fits is a word or one character.
var lexemes = [...]struct {
	kind    kind
	first   string // the bytes it may begin with
	mistake string
	pattern *regexp.Regexp
}{
	{tokComment, "#-", "", lexeme(`(#[^\n]*|--(?:[\t\v-\r ][^\n]*|\n|\z))`)},
	{tokHint, "/", "", lexeme(`(/\*(?:[!+]|[mM]!).*?\*/)`)},
	{tokComment, "/", "", lexeme(`(/\*.*?\*/)`)},
	{0, "/", "a comment /* that is not closed", lexeme(`(/\*)`)},
	{tokNumber, "xXbB", "", lexeme(`([xXbB]'[^']*')`)},
	{tokString, `nN'"`, "", lexeme(`([nN]?'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")`)},
	{0, "xXbBnN'", "a string that is not closed", lexeme(`[xXbBnN]?(')`)},
	{0, `"`, "a string that is not closed", lexeme(`(")`)},
	{tokNumber, "0123456789.", "", lexeme(`(0[xX][0-9a-fA-F]+|0[bB][01]+|` + decimalText + `)`)},
	{tokParam, ":", "", lexeme(`(:` + nameText + `(?:\.` + nameText + `)*)`)},
	{tokName, "`", "", lexeme("(`(?:[^`]|``)*`)")},
	{0, ":`", "a name in ` that is not closed", lexeme(":?(`)")},
	{tokOp, "<>!:-&%|", "", lexeme(`(<=>|->>|[<>!:]=|<>|->|<<|>>|&&|%%|\|\|)`)},
	{0, ":", "a colon that is not followed by a parameter's name", lexeme(`(:)`)},
	{tokVariable, "@", "", lexeme(`(@+(?:` + wordText + `)?)`)},
	{tokMark, "?", "", lexeme(`(\?)`)},
	{tokPercent, "%", "", lexeme(`(%s)`)},
}

func lexeme(pattern string) *regexp.Regexp { return regexp.MustCompile(`\A(?s:` + pattern + `)`) }

var nameParts = regexp.MustCompile(nameText)

// lex cuts the whole text. Comments are tokens too, so that headings can be found.
func lex(text string) (toks []token, err *lexError) {
	for i, r := range text {
		if r == 0 || r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			return nil, &lexError{i, "a byte that is not UTF-8 text"}
		}
	}
	depth := 0
	for at := 0; at < len(text); {
		if isSpace(text[at]) {
			at++
			continue
		}
		t := token{from: at, depth: depth}
		if err := t.find(text); err != nil {
			return toks, err
		}
		t.read(text)
		if t.is("(") {
			depth++
		} else if t.is(")") {
			depth--
			t.depth = depth
		}
		at = t.to
		toks = append(toks, t)
	}
	return toks, nil
}

// find sets the token's kind and end.
func (t *token) find(text string) *lexError {
	rest := text[t.from:]
	for i := range lexemes {
		l := &lexemes[i]
		if strings.IndexByte(l.first, rest[0]) < 0 {
			continue
		}
		m := l.pattern.FindStringSubmatchIndex(rest)
		switch {
		case m == nil:
		case l.mistake != "":
			return &lexError{t.from + m[2], l.mistake}
		case strings.HasPrefix(rest[m[1]:], rest[m[1]-1:m[1]]) && strings.IndexByte("'\"`", rest[m[1]]) >= 0:
			// half of a doubled quote does not close
		default:
			t.kind, t.to = l.kind, t.from+m[1]
			return nil
		}
	}
	n := wordAt(text, t.from)
	if t.kind = tokWord; n == 0 {
		_, n = utf8.DecodeRuneInString(rest)
		t.kind = tokOp
	}
	if t.to = t.from + n; rest[0] < ' ' || rest[0] == 0x7f {
		return &lexError{t.from, "a control character"} // MySQL takes -- and one of them for a comment
	}
	return nil
}

// read sets the token's value, and its kind and end where they depend on the text around it.
func (t *token) read(text string) {
	more := wordAt(text, t.to)
	switch s := text[t.from:t.to]; {
	case t.kind == tokNumber && s[0] == '.' && t.from > 0 && (isWordByte(text[t.from-1]) || text[t.from-1] == '`'),
		t.kind == tokPercent && more > 0: // the dot of a qualifier; the remainder of a division
		t.kind, t.to = tokOp, t.from+1
	case t.kind == tokNumber && s[len(s)-1] != '\'' && more > 0:
		t.kind, t.to = tokWord, t.to+more // 2fa is a name, as it is in MySQL
	}
	switch s := text[t.from:t.to]; t.kind {
	case tokString:
		t.value = unquoted(strings.TrimLeft(s, "nN"))
	case tokName:
		t.value = unquoted(s)
	case tokParam:
		parts := nameParts.FindAllString(s, -1)
		for i := range parts {
			parts[i] = unquoted(parts[i])
		}
		if t.asText = len(parts) > 1 && sameName(parts[0], "text"); t.asText {
			parts = parts[1:]
		}
		t.value, t.rest = parts[0], strings.Join(parts[1:], ".")
	default:
		t.value = strings.ToLower(s)
	}
}

// unquoted is the text between quotes, with doubled quotes as one.
func unquoted(s string) string {
	if quote := s[:1]; strings.Contains("'\"`", quote) {
		return strings.ReplaceAll(s[1:len(s)-1], quote+quote, quote)
	}
	return s
}

// wordAt is the length of the word that stands at an offset of the text.
func wordAt(text string, at int) (n int) {
	for at+n < len(text) && isWordByte(text[at+n]) {
		n++
	}
	return n
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}
