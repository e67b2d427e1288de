package rule

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// narrow is what a column keeps of a value. The database cuts or rounds what is more, without an error: the end of a
// fraction, the time of a date, the day of a time, blanks at the end of a text.
type narrow struct {
	kind   narrowKind
	most   int    // digits of a fraction, or characters
	column string // its type, for the reason
}

type narrowKind uint8

const (
	anyValue narrowKind = iota
	decimals            // most digits behind the point
	single              // FLOAT
	double
	dateOnly
	timeOnly // most digits of a second
	seconds  // most digits of a second, with the day
	chars    // most characters; blanks behind them are cut
)

// narrowOf is what a column keeps.
func narrowOf(col *Column) narrow {
	n := narrow{column: col.ColumnType}
	args := ""
	if open := strings.IndexByte(col.ColumnType, '('); open >= 0 {
		args, _, _ = strings.Cut(col.ColumnType[open+1:], ")")
	}
	first, second, scaled := strings.Cut(args, ",")
	number := func(text string) int { v, _ := strconv.Atoi(text); return v } // "" is 0
	switch col.Type {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "year":
		n.kind = decimals
	case "decimal":
		n.kind, n.most = decimals, number(second)
	case "float", "double":
		switch n.kind = single; {
		case scaled:
			n.kind, n.most = decimals, number(second)
		case col.Type == "double":
			n.kind = double
		}
	case "date":
		n.kind = dateOnly
	case "time":
		n.kind, n.most = timeOnly, number(first)
	case "datetime", "timestamp":
		n.kind, n.most = seconds, number(first)
	case "char", "varchar":
		n.kind, n.most = chars, number(first)
	}
	return n
}

// keeps reports whether the column keeps the whole value. A value that does not fit at all it leaves to the database,
// which refuses it.
func (n *narrow) keeps(v any) bool {
	switch v := v.(type) {
	case string:
		return n.keepsText(v)
	case float64:
		return n.keepsFloat(v)
	case int64:
		return n.kind != single && n.kind != double || n.keepsInt(v)
	}
	return true
}

func (n *narrow) keepsText(v string) bool {
	switch n.kind {
	case chars:
		return len(v) <= n.most || v[len(v)-1] != ' ' || utf8.RuneCountInString(v) <= n.most ||
			utf8.RuneCountInString(strings.TrimRight(v, " ")) > n.most // the database refuses the text
	case decimals:
		return fractionFits(v, n.most)
	case single, double:
		f, err := strconv.ParseFloat(v, 64)
		return err != nil || n.keepsFloat(f) && sameNumber(v, f)
	case dateOnly:
		at := strings.IndexAny(v, " T")
		return at < 0 || strings.Trim(v[at+1:], "0:.") == ""
	case timeOnly:
		return strings.LastIndexByte(v, '-') <= 0 && fractionFits(v, n.most)
	case seconds:
		return fractionFits(v, n.most)
	}
	return true
}

func (n *narrow) keepsFloat(v float64) bool {
	switch n.kind {
	case single: // 0.1 of a DOUBLE is the 0.1 of a FLOAT, although the bits behind it differ
		return float64(float32(v)) == v ||
			strconv.FormatFloat(v, 'g', -1, 64) == strconv.FormatFloat(float64(float32(v)), 'g', -1, 32)
	case decimals:
		return fractionFits(strconv.FormatFloat(v, 'f', -1, 64), n.most)
	}
	return true
}

func (n *narrow) keepsInt(v int64) bool {
	f := float64(v)
	if n.kind == single {
		f = float64(float32(v))
	}
	return f < math.MaxInt64 && int64(f) == v
}

// fractionFits reports whether a text has no more than most digits behind its point, zeros at the end apart.
func fractionFits(v string, most int) bool {
	if strings.ContainsAny(v, "eE") {
		exact := rational(v)
		if exact == nil {
			return true // the database refuses it
		}
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(most)), nil)
		return exact.Mul(exact, new(big.Rat).SetInt(scale)).IsInt()
	}
	at := strings.IndexByte(v, '.')
	return at < 0 || len(v)-at-1 <= most || strings.Trim(v[at+1+most:], "0") == ""
}

// sameNumber reports whether a float is written as the text is, to the digits that the float has.
func sameNumber(text string, f float64) bool {
	a, b := rational(text), rational(strconv.FormatFloat(f, 'g', -1, 64))
	return a == nil || b == nil || a.Cmp(b) == 0
}

// rational is a number exactly; nil when the text is none, or one that no column can hold.
func rational(text string) *big.Rat {
	const longest, largest = 400, 400 // characters, and digits of 10 to the power of the exponent
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		if exponent, err := strconv.Atoi(text[at+1:]); err != nil || exponent > largest || exponent < -largest {
			return nil
		}
	}
	if len(text) > longest {
		return nil
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil
	}
	return r
}

// Loses says which value of a row in hand its column would cut or round; "" when all are kept.
func (p *Plan) Loses(row []any) string {
	for i := range p.narrow {
		if n := &p.narrow[i]; n.kind != anyValue && row[i] != nil && !n.keeps(row[i]) {
			return fmt.Sprintf("%s has a value that %s would cut or round: %.40v", p.Fields[i], n.column, row[i])
		}
	}
	return ""
}

// readNarrow notes the columns of the rule's table that an insert gives fields to as they are. Under a rule in the
// original's form the database cuts and rounds, as it did there.
func (c *compiler) readNarrow(s *script, values [][2]int) {
	if c.table == nil || c.plan.Form == Literal || s.phase != downside ||
		!sameName(s.toks[s.table].value, c.table.Name) {
		return
	}
	for i, name := range s.columns {
		arg := slices.Index(s.argAt, values[i][0])
		col := c.table.Column(name)
		if col == nil || arg < 0 || values[i][1] > values[i][0]+1 || s.args[arg].Source != Field {
			continue
		}
		if c.plan.narrow == nil {
			c.plan.narrow = make([]narrow, len(c.plan.Fields))
		}
		c.plan.narrow[s.args[arg].Field] = narrowOf(col)
	}
}
