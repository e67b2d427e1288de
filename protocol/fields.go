package protocol

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"syncgate/internal/rowset"
)

// payload is a CBOR map. fields passes the fields to the coder in the order of their keys. The coder writes them all,
// or reads those that are present.
type payload interface {
	fields(c *coder)
}

// coder writes a payload's map to out, or reads it from the decoder's buf. It keeps the first failure in err.
type coder struct {
	decoder
	reading bool
	out     []byte

	entries uint64 // written, or left to read
	next    uint64 // the least key allowed
	ahead   bool   // key next-1 has been read, and its value has not
}

// Two keys that no field has.
const (
	item uint64 = 1<<63 + iota // stands for an element of an array
	rest                       // comes after every field
)

// encode appends the map of p to dst.
func encode(dst []byte, p payload) ([]byte, error) {
	c := coder{out: dst}
	c.mapOf(p)
	return c.out, c.err
}

// decode reads all of buf into p. An empty buf is an empty map. It skips keys that p does not have, and leaves fields
// alone whose keys are missing.
func decode(buf []byte, p payload) error {
	if len(buf) == 0 {
		buf = []byte{majorMap << 5}
	}
	c := coder{decoder: decoder{buf: buf}, reading: true}
	c.mapOf(p)
	if c.pos != len(buf) {
		c.fail(ErrPayload, "bytes left over")
	}
	return c.err
}

// mapOf is a map with the fields of p: the payload, or an element of an array in it.
func (c *coder) mapOf(p payload) {
	outer := *c
	c.entries, c.next, c.ahead = 0, 0, false
	if c.reading {
		c.entries = c.expect(majorMap, "a map")
		p.fields(c)
		c.at(rest)
	} else {
		at := len(c.out)
		c.out = append(c.out, majorMap<<5)
		p.fields(c)
		c.out[at] |= byte(c.entries)
	}
	c.entries, c.next, c.ahead = outer.entries, outer.next, outer.ahead
}

// at precedes the value of a field. A writer writes the key; a reader looks for it. at reports whether the value is to
// be written or read.
func (c *coder) at(key uint64) bool {
	if key == item {
		return c.err == nil
	}
	if !c.reading {
		c.out = append(c.out, byte(key))
		c.entries++
		return true
	}
	for c.err == nil && (c.ahead || c.entries > 0) {
		switch {
		case !c.ahead:
			k := c.uint(item - 1)
			if k < c.next {
				c.fail(ErrPayload, "keys not ascending")
			}
			c.next, c.ahead, c.entries = k+1, true, c.entries-1
		case c.next-1 > key:
			return false
		case c.next-1 == key:
			c.ahead = false
			return true
		default:
			c.skip(0)
			c.ahead = false
		}
	}
	return false
}

// has guards an optional field: a reader looks for it, and a writer writes it only when it is set.
func (c *coder) has(set bool) bool { return c.reading || set }

// check fails a reader unless ok. It does not check a writer.
func (c *coder) check(ok bool, why string) {
	if c.reading && !ok {
		c.fail(ErrPayload, why)
	}
}

// number is an unsigned integer up to most. A negative one becomes 0.
func number[T uint16 | uint32 | uint64 | int | int64 | Status](c *coder, key uint64, v *T, most uint64) {
	switch {
	case !c.at(key):
	case c.reading:
		*v = T(c.uint(most))
	default:
		c.out = appendHead(c.out, majorUint, uint64(max(*v, 0)))
	}
}

func (c *coder) flag(key uint64, v *bool) {
	switch {
	case !c.at(key):
	case c.reading:
		*v = c.bool()
	case *v:
		c.out = append(c.out, cborTrue)
	default:
		c.out = append(c.out, cborFalse)
	}
}

// text is a text of up to most bytes. A writer fails on a longer one.
func (c *coder) text(key uint64, v *string, most int) {
	switch {
	case !c.at(key):
	case c.reading:
		*v = c.decoder.text(most)
	case !validText(*v, most):
		c.err = fmt.Errorf("%w: text of %d bytes", ErrValue, len(*v))
	default:
		c.out = appendString(c.out, *v, true)
	}
}

// bytes are up to most bytes.
func (c *coder) bytes(key uint64, v *[]byte, most int) {
	switch {
	case !c.at(key):
	case !c.reading:
		c.out = appendString(c.out, *v, false)
	default:
		n := c.expect(majorBytes, "bytes")
		if n > uint64(most) {
			c.fail(ErrPayload, "bytes over their bound")
			return
		}
		if from, to := c.span(n); from < to {
			*v = c.buf[from:to:to]
		}
	}
}

// note is a text for a person. A writer cuts a long one between characters.
func (c *coder) note(key uint64, v *string) {
	if !c.reading {
		cut := clip(*v)
		v = &cut
	}
	c.text(key, v, maxText)
}

func clip(s string) string {
	if s = strings.ToValidUTF8(s, "?"); len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "")
	}
	return s
}

// list is an array of up to most elements, each of width items. A writer fails on more.
func list[T any](c *coder, key uint64, v *[]T, most, width int, element func(*coder, *T)) {
	if !c.at(key) {
		return
	}
	if c.reading {
		n := c.array(most * width)
		c.check(n%width == 0, "array ends within an element")
		if n >= width {
			*v = make([]T, n/width)
		}
	} else if c.out = appendHead(c.out, majorArray, uint64(len(*v)*width)); len(*v) > most {
		c.err = ErrLimit
	}
	for i := range *v {
		if c.err != nil {
			return
		}
		element(c, &(*v)[i])
	}
}

// names is an array of names of columns or types.
func (c *coder) names(key uint64, v *[]string) {
	list(c, key, v, maxColumns, 1, func(c *coder, name *string) { c.text(item, name, maxName) })
}

// items is an array of name, value, name, value, …
func (c *coder) items(key uint64, v *[]rowset.StateItem, most int) {
	list(c, key, v, most, 2, func(c *coder, it *rowset.StateItem) {
		c.text(item, &it.Name, maxName)
		c.value(&it.Value)
	})
}

// values is an array of SQL values, row after row. It has a loop of its own for speed, since all rows pass here.
func (c *coder) values(key uint64, v *[]any) {
	if !c.reading {
		list(c, key, v, maxValues, 1, (*coder).value)
	} else if c.at(key) {
		if n := c.array(maxValues); n > 0 {
			*v = make([]any, n)
		}
		for i := range *v {
			if (*v)[i] = c.decoder.value(); c.err != nil {
				return
			}
		}
	}
}

func (c *coder) value(v *any) {
	switch {
	case c.err != nil:
	case c.reading:
		*v = c.decoder.value()
	default:
		c.out, c.err = appendValue(c.out, *v, false)
	}
}

// counts is an array of name, number, name, number, …, names ascending.
func (c *coder) counts(key uint64, v *map[string]uint64) {
	names, last := slices.Sorted(maps.Keys(*v)), ""
	list(c, key, &names, maxOps, 2, func(c *coder, name *string) {
		n := (*v)[*name]
		c.text(item, name, maxName)
		number(c, item, &n, math.MaxUint64)
		c.check(*name > last, "names not ascending")
		if last = *name; !c.reading {
			return // several writers may write one message
		}
		if *v == nil {
			*v = make(map[string]uint64)
		}
		(*v)[*name] = n
	})
}
