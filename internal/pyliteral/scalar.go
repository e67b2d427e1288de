package pyliteral

import (
	"bytes"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// maxDigits is CPython's own bound for an integer in decimal; reading one takes quadratic time.
const maxDigits = 4300

// A denormal float takes a thousand times as long to read as others, so one text may have no more than maxDenormals.
const (
	minNormal    = 0x1p-1022
	maxDenormals = 1000
)

// number reads an int, long or float in decimal, with its sign.
func (p *parser) number() (Value, error) {
	start := p.pos
	if p.at('-') || p.at('+') {
		p.pos++
	}
	digits, float := p.digits(), p.at('.')
	if float {
		p.pos++
		digits += p.digits()
	}
	bad := func(format string, args ...any) (Value, error) { return nil, p.fail(start, format, args...) }
	switch {
	case digits == 0 && float:
		return bad("a number without digits")
	case digits == 0:
		return bad("%s makes an expression, not a literal: write the value out", p.src[start:start+1])
	}
	if p.at('e') || p.at('E') {
		float = true
		p.pos++
		if p.at('-') || p.at('+') {
			p.pos++
		}
		if p.digits() == 0 {
			return bad("an exponent without digits")
		}
	}
	if p.pos-start > maxDigits+1 {
		return bad("a number of more than %d digits", maxDigits)
	}
	text := string(bytes.TrimPrefix(p.src[start:p.pos], []byte{'+'}))
	long := !float && (p.at('L') || p.at('l'))
	if long {
		p.pos++
	}
	digit := strings.TrimLeft(text, "-")
	switch {
	case p.pos < len(p.src) && isName(p.src[p.pos]):
		return bad("%s after a number: write it in decimal", p.show())
	case long && p.lim.Dialect != Python2:
		return bad("a long (1L) is Python 2's alone")
	case float:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return bad("a float out of range")
		}
		if f != 0 && math.Abs(f) < minNormal {
			if p.denormals++; p.denormals > maxDenormals {
				return bad("more than %d floats below 2.3e-308", maxDenormals)
			}
		}
		return f, nil
	case digit[0] == '0' && strings.Trim(digit, "0") != "":
		return bad("a leading 0 (octal in Python 2, an error in Python 3): write the number in decimal")
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		if long {
			return Long(i), nil
		}
		return i, nil
	}
	b, _ := new(big.Int).SetString(text, 10)
	return b, nil
}

func (p *parser) at(c byte) bool { return p.pos < len(p.src) && p.src[p.pos] == c }

// digits passes over decimal digits and returns how many.
func (p *parser) digits() int {
	start := p.pos
	for p.pos < len(p.src) && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
		p.pos++
	}
	return p.pos - start
}

// name reads one of the few names that are literals or begin one.
func (p *parser) name() (Value, error) {
	start := p.pos
	for p.pos < len(p.src) && (isName(p.src[p.pos]) || p.src[p.pos] == '.') {
		p.pos++
	}
	word := p.src[start:p.pos]
	names := [...]string{"None", "True", "False"}
	if p.lim.JSON {
		names = [...]string{"null", "true", "false"}
	}
	switch string(word) {
	case names[0]:
		return nil, nil
	case names[1], names[2]:
		return string(word) == names[1], nil
	}
	if _, ok := calls[string(word)]; ok {
		return p.call(start, string(word))
	}
	if p.at('\'') || p.at('"') {
		return nil, p.fail(start, "%q is no prefix of a string", clip(word))
	}
	return nil, p.fail(start, "the name %q is not a literal (those are None, True, False, datetime.datetime, .date, "+
		".time, .timedelta and Decimal)", clip(word))
}

func clip(b []byte) []byte { return b[:min(len(b), 32)] }

// arg is one argument of a call: an int, or the text of a Decimal. word is the name of its part, when it was given.
type arg struct {
	word  string
	value Value
}

// call reads the arguments in parentheses and makes the value.
func (p *parser) call(start int, what string) (Value, error) {
	if p.peek() != '(' {
		return nil, p.fail(start, "%s without its value in parentheses", what)
	}
	p.pos++
	var room [7]arg // datetime's
	args := room[:0]
	for p.peek() != ')' {
		if len(args) == len(room) {
			return nil, p.fail(p.pos, "too many parts in %s", what)
		}
		a, err := p.arg(what)
		if err != nil {
			return nil, err
		}
		args = append(args, a)
		if p.peek() == ',' {
			p.pos++
		} else if !p.at(')') {
			return nil, p.stray()
		}
	}
	p.pos++
	v, ok := construct(what, args)
	if !ok {
		return nil, p.fail(start, "%s is no value of its kind", clip(p.src[start:p.pos]))
	}
	return v, nil
}

func (p *parser) arg(what string) (a arg, err error) {
	at, c := p.pos, p.peek()
	if what == "datetime.timedelta" && c >= 'a' && c <= 'z' {
		for p.pos < len(p.src) && isName(p.src[p.pos]) {
			p.pos++
		}
		a.word = string(clip(p.src[at:p.pos]))
		if p.peek() != '=' {
			return a, p.stray()
		}
		p.pos++
		c = p.peek()
	}
	switch {
	case what == "Decimal" && (c == '\'' || c == '"'):
		a.value, err = p.text()
	case what != "Decimal" && (c == '-' || c >= '0' && c <= '9'):
		a.value, err = p.number()
	case c == 0 && p.pos == len(p.src):
		err = p.stray()
	default:
		err = p.fail(p.pos, "%s can't be a part of %s", p.show(), what)
	}
	return a, err
}

// calls are the constructors by name, with how many parts they take.
var calls = map[string]struct {
	least, most int
	make        func(n [7]int) moment
}{
	"Decimal": {1, 1, nil},
	"datetime.datetime": {3, 7, func(n [7]int) moment {
		return DateTime{n[0], n[1], n[2], n[3], n[4], n[5], n[6]}
	}},
	"datetime.date":      {3, 3, func(n [7]int) moment { return Date{n[0], n[1], n[2]} }},
	"datetime.time":      {0, 4, func(n [7]int) moment { return Time{n[0], n[1], n[2], n[3]} }},
	"datetime.timedelta": {0, 3, func(n [7]int) moment { return TimeDelta{n[0], n[1], n[2]} }},
}

var timedeltaParts = []string{"days", "seconds", "microseconds"}

// construct makes the value of a call, ok false when Python would not, or would print it otherwise: parts stand in
// order, and none without a name behind one with.
func construct(what string, args []arg) (v Value, ok bool) {
	call := calls[what]
	if len(args) < call.least || len(args) > call.most {
		return nil, false
	}
	if what == "Decimal" {
		s, _ := Text(args[0].value)
		d, ok := canonicalDecimal(s)
		return Decimal(d), ok
	}
	var n [7]int
	last, named := -1, false
	for i, a := range args {
		if a.word != "" {
			i, named = slices.Index(timedeltaParts, a.word), true
		} else if named {
			return nil, false
		}
		v, ok := a.value.(int64)
		if !ok || i <= last || v < math.MinInt32 || v > math.MaxInt32 {
			return nil, false
		}
		n[i], last = int(v), i
	}
	made := call.make(n)
	return made, made.valid()
}
