package pyliteral

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
)

// maxDigits is CPython's own bound for an integer in decimal; reading one takes
// quadratic time.
const maxDigits = 4300

// number reads an int, long or float in decimal, with its sign.
func (p *parser) number() (Value, error) {
	start := p.pos
	if c := p.src[p.pos]; c == '-' || c == '+' {
		p.pos++
	}
	whole := p.digits()
	float := false
	if p.at('.') {
		float = true
		p.pos++
		if whole+p.digits() == 0 {
			return nil, p.fail(start, "a number without digits")
		}
	} else if whole == 0 {
		return nil, p.fail(start, "%s makes an expression, not a literal: write the value out", p.src[start:start+1])
	}
	if p.at('e') || p.at('E') {
		float = true
		p.pos++
		if p.at('-') || p.at('+') {
			p.pos++
		}
		if p.digits() == 0 {
			return nil, p.fail(start, "an exponent without digits")
		}
	}
	text := string(bytes.TrimPrefix(p.src[start:min(p.pos, start+maxDigits+2)], []byte{'+'}))
	if p.pos-start > maxDigits+1 {
		return nil, p.fail(start, "a number of more than %d digits", maxDigits)
	}
	if float {
		return p.float(start, text)
	}
	if d := bytes.TrimLeft([]byte(text), "-"); len(d) > 1 && d[0] == '0' && len(bytes.Trim(d, "0")) > 0 {
		return nil, p.fail(start, "a leading 0 (octal in Python 2, an error in Python 3): write the number in decimal")
	}
	long := p.at('L') || p.at('l')
	if long {
		if p.lim.Dialect != Python2 {
			return nil, p.fail(start, "a long (1L) is Python 2's alone")
		}
		p.pos++
	}
	if p.pos < len(p.src) && isName(p.src[p.pos]) {
		return nil, p.fail(start, "%s after a number: write it in decimal", p.show())
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

func (p *parser) float(start int, text string) (Value, error) {
	if p.pos < len(p.src) && isName(p.src[p.pos]) {
		return nil, p.fail(start, "%s after a number", p.show())
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, p.fail(start, "a float out of range")
	}
	return f, nil
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
	switch w := string(word); {
	case p.lim.JSON && w == "null":
		return nil, nil
	case p.lim.JSON && (w == "true" || w == "false"):
		return w == "true", nil
	}
	switch string(word) {
	case "None":
		return nil, nil
	case "True":
		return true, nil
	case "False":
		return false, nil
	case "Decimal", "datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta":
		return p.call(start, string(word))
	}
	if p.at('\'') || p.at('"') {
		return nil, p.fail(start, "%q is no prefix of a string", clip(word))
	}
	return nil, p.fail(start, "the name %q is not a literal (those are None, True, False, datetime.datetime, .date, .time, .timedelta and Decimal)", clip(word))
}

func clip(b []byte) []byte { return b[:min(len(b), 32)] }

// arg is one argument of a call: an int, or the text of a Decimal. word is the
// name of its part, when it was given.
type arg struct {
	at    int
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
	a.at = p.pos
	c := p.peek()
	if what == "datetime.timedelta" && c >= 'a' && c <= 'z' {
		for p.pos < len(p.src) && isName(p.src[p.pos]) {
			p.pos++
		}
		a.word = string(clip(p.src[a.at:p.pos]))
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

// construct makes the value of a call, ok false when Python would not, or would
// print it otherwise.
func construct(what string, args []arg) (Value, bool) {
	if what == "Decimal" {
		if len(args) != 1 {
			return nil, false
		}
		s, _ := Text(args[0].value)
		d, ok := canonicalDecimal(s)
		return Decimal(d), ok
	}
	var n [7]int
	for i, a := range args {
		v, ok := a.value.(int64)
		if !ok || v < math.MinInt32 || v > math.MaxInt32 {
			return nil, false
		}
		if a.word != "" {
			if i = timedeltaPart(a.word); i < 0 {
				return nil, false
			}
		}
		n[i] = int(v)
	}
	switch what {
	case "datetime.datetime":
		v := DateTime{n[0], n[1], n[2], n[3], n[4], n[5], n[6]}
		return v, len(args) >= 3 && v.valid()
	case "datetime.date":
		v := Date{n[0], n[1], n[2]}
		return v, len(args) == 3 && v.valid()
	case "datetime.time":
		v := Time{n[0], n[1], n[2], n[3]}
		return v, len(args) <= 4 && v.valid()
	}
	v := TimeDelta{n[0], n[1], n[2]}
	return v, len(args) <= 3 && v.valid() && distinct(args)
}

func timedeltaPart(word string) int {
	switch word {
	case "days":
		return 0
	case "seconds":
		return 1
	case "microseconds":
		return 2
	}
	return -1
}

// distinct reports whether no part was given twice and none without a name
// follows one with.
func distinct(args []arg) bool {
	last, named := -1, false
	for i, a := range args {
		if a.word != "" {
			i, named = timedeltaPart(a.word), true
		} else if named {
			return false
		}
		if i <= last {
			return false
		}
		last = i
	}
	return true
}
