package pyliteral

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits says what Parse accepts. The zero value reads Python 2 with the default bounds and keeps the span of every
// value.
type Limits struct {
	Dialect  Dialect
	Depth    int // containers within each other; 0 = DefaultDepth
	Elements int // values in all; 0 = DefaultElements
	// DictSpans keeps Node.Items, which cost 56 bytes each, of dicts that stand in nothing but dicts, and of no others.
	DictSpans bool
	JSON      bool // src is JSON, as json.Valid has it: read its names and its escapes
}

// The bounds taken for a zero in Limits.
const (
	DefaultDepth    = 32
	DefaultElements = 1 << 20
)

// Node is a parsed value and where it stood: src[Start:End].
type Node struct {
	Value      Value
	Start, End int
	// Items are the elements of a tuple or list, and keys and values in turn of a dict. Nil where Limits.DictSpans
	// keeps none.
	Items []Node
}

// Get returns the value under a text key of a dict, nil when there is none.
func (n *Node) Get(key string) *Node {
	if _, ok := n.Value.(Dict); !ok {
		return nil
	}
	for i := 0; i+1 < len(n.Items); i += 2 {
		if k, ok := Text(n.Items[i].Value); ok && k == key {
			return &n.Items[i+1]
		}
	}
	return nil
}

// SyntaxError says what is wrong and where. Line and Col count from 1, Col in characters; Offset counts bytes from 0.
type SyntaxError struct {
	Offset, Line, Col int
	Msg               string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Col, e.Msg)
}

// Parse reads one literal that fills src, apart from space and comments around it. Values share no memory with src.
// With DictSpans it allocates at most 20 bytes a byte of a list, and a constant. The error is a *SyntaxError.
func Parse(src []byte, lim Limits) (*Node, error) {
	if lim.Depth <= 0 {
		lim.Depth = DefaultDepth
	}
	if lim.Elements <= 0 {
		lim.Elements = DefaultElements
	}
	p := &parser{src: src, lim: lim, spans: true}
	s := survey(src)
	if s.elements > lim.Elements {
		return nil, p.fail(0, "more than %d values", lim.Elements)
	}
	p.arena = make([]Value, s.elements)
	p.right = len(p.arena)
	var n Node
	if err := p.top(&n); err != nil {
		return nil, err
	}
	return &n, nil
}

// parser is a recursive descent over src.
//
// The elements of unfinished containers stand at the left of one arena, those of finished ones at its right. survey has
// counted them all, and each is at one of the two ends, so the ends never meet and the arena never grows.
type parser struct {
	src         []byte
	pos         int
	depth       int
	spans       bool // the container in hand keeps its items
	lim         Limits
	arena       []Value
	left, right int
	denormals   int // floats read that are
}

func (p *parser) push(v Value) {
	p.arena[p.left] = v
	p.left++
}

// take moves the elements pushed since base to the right of the arena.
func (p *parser) take(base int) []Value {
	n := p.left - base
	p.right -= n
	copy(p.arena[p.right:], p.arena[base:p.left])
	p.left = base
	return p.arena[p.right : p.right+n : p.right+n]
}

func (p *parser) fail(at int, format string, args ...any) error {
	at = min(at, len(p.src))
	before := p.src[:at]
	line := bytes.LastIndexByte(before, '\n') + 1
	return &SyntaxError{
		Offset: at,
		Line:   bytes.Count(before, []byte{'\n'}) + 1,
		Col:    utf8.RuneCount(before[line:]) + 1,
		Msg:    fmt.Sprintf(format, args...),
	}
}

// space skips blanks, line ends, joined lines and comments.
func (p *parser) space() {
	for p.pos < len(p.src) {
		switch c := p.src[p.pos]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			p.pos++
		case c == '#':
			p.pos += lineEnd(p.src[p.pos:])
		case c == '\\' && p.pos+1 < len(p.src) && (p.src[p.pos+1] == '\n' || p.src[p.pos+1] == '\r'):
			p.pos += 2
		default:
			return
		}
	}
}

func lineEnd(b []byte) int {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return i
	}
	return len(b)
}

// peek returns the next byte that means something, 0 at the end.
func (p *parser) peek() byte {
	p.space()
	if p.pos == len(p.src) {
		return 0
	}
	return p.src[p.pos]
}

// top reads the whole source: a value, or values with commas between them, which Python reads as a tuple.
func (p *parser) top(n *Node) error {
	if p.ended() {
		return p.fail(p.pos, "nothing here")
	}
	n.Start = p.pos
	return p.sequence(n, 0)
}

// ended reports whether nothing but space is left.
func (p *parser) ended() bool { return p.peek() == 0 && p.pos == len(p.src) }

// value reads one value into n.
func (p *parser) value(n *Node) (err error) {
	c := p.peek()
	n.Start = p.pos
	switch open := strings.IndexByte("([{", c); {
	case open >= 0:
		return p.container(n, ")]}"[open])
	case p.stringBegins():
		n.Value, err = p.text()
	case c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.':
		n.Value, err = p.number()
	case isName(c):
		n.Value, err = p.name()
	case p.ended():
		return p.fail(p.pos, "a value is missing at the end")
	default:
		return p.fail(p.pos, "%s can't begin a value", p.show())
	}
	n.End = p.pos
	return err
}

// container reads from an opening bracket to the closing one.
func (p *parser) container(n *Node, close byte) error {
	if p.depth++; p.depth > p.lim.Depth {
		return p.fail(p.pos, "nested deeper than %d", p.lim.Depth)
	}
	outer := p.spans
	p.spans = outer && (close == '}' || !p.lim.DictSpans)
	p.pos++
	err := p.sequence(n, close)
	p.depth, p.spans = p.depth-1, outer
	return err
}

// sequence reads values up to the closing byte, or up to the end where that is 0. A value alone in parentheses, or
// alone at the top, is itself.
func (p *parser) sequence(n *Node, close byte) error {
	base, keep := p.left, p.spans && (close != 0 || !p.lim.DictSpans)
	closed := func() bool { return p.peek() == close && (close != 0 || p.pos == len(p.src)) }
	var e Node // outside the loop it stays on the stack
	count, comma := 0, false
	for ; !closed() || close == '}' && count%2 == 1; count++ {
		key := close == '}' && count%2 == 0
		if count == 2*MaxDict && key {
			return p.fail(n.Start, "a dict of more than %d pairs", MaxDict)
		}
		e = Node{}
		if err := p.value(&e); err != nil {
			return err
		}
		if key {
			if _, hashable := keyOf(e.Value); !hashable {
				return p.fail(e.Start, "a list or dict can't be a key")
			}
		}
		if keep {
			n.Items = append(n.Items, e)
		}
		p.push(e.Value)
		c := p.peek()
		switch comma = c == ','; {
		case key && c == ':' || !key && comma:
			p.pos++
		case key && (comma || closed()):
			return p.fail(p.pos, "a set is not accepted, and this key of a dict has no value")
		case key || !closed():
			return p.stray()
		}
	}
	if close != 0 {
		p.pos++
	}
	values := p.take(base)
	n.End = p.pos
	switch {
	case close == '}':
		n.Value = Dict(values)
		if twice(values) {
			return p.fail(n.Start, "this dict has a key twice")
		}
	case close == ']':
		n.Value = List(values)
	case count == 1 && !comma:
		*n = e
	default:
		n.Value = Tuple(values)
	}
	return nil
}

// twice reports whether two keys of a dict are the same to Python.
func twice(kv []Value) bool {
	if len(kv) <= 2 {
		return false
	}
	var keys []string
	for i := 0; i < len(kv); i += 2 {
		key, _ := keyOf(kv[i])
		if slices.Contains(keys, key) {
			return true
		}
		keys = append(keys, key)
	}
	return false
}

// stray reports what stands where a comma or closing bracket should.
func (p *parser) stray() error {
	c := p.peek()
	switch {
	case c == 0 && p.pos == len(p.src):
		return p.fail(p.pos, "a closing bracket is missing at the end")
	case strings.IndexByte("*+-/%|&^<>=@~", c) >= 0:
		return p.fail(p.pos, "%s makes an expression, not a literal: write the value out", p.show())
	case c == '(' || c == '[' || c == '.':
		return p.fail(p.pos, "%s makes a call, an index or an attribute, not a literal; is a comma missing?", p.show())
	case c == ')' || c == ']' || c == '}':
		return p.fail(p.pos, "%s closes nothing that is open here", p.show())
	}
	return p.fail(p.pos, "%s where a comma or closing bracket should stand", p.show())
}

// show quotes the character or the word at pos for an error.
func (p *parser) show() string {
	end := p.pos
	for end < len(p.src) && end-p.pos < 32 && isName(p.src[end]) {
		end++
	}
	if end == p.pos {
		_, n := utf8.DecodeRune(p.src[p.pos:])
		end += n
	}
	return fmt.Sprintf("%q", p.src[p.pos:end])
}

func isName(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
