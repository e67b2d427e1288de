package pyliteral

import (
	"fmt"
	"strconv"
	"strings"
)

// canonicalDecimal returns a finite decimal number as decimal.Decimal prints it: the to-scientific-string conversion of
// the General Decimal Arithmetic Specification. 0.0000001 becomes 1E-7, and 0.0000000000 becomes 0E-10.
func canonicalDecimal(s string) (string, bool) {
	rest, sign := strings.TrimPrefix(s, "+"), ""
	if strings.HasPrefix(s, "-") {
		rest, sign = s[1:], "-"
	}
	exp := 0
	if i := strings.IndexAny(rest, "eE"); i >= 0 {
		n, err := strconv.ParseInt(rest[i+1:], 10, 32)
		if err != nil {
			return "", false
		}
		exp, rest = int(n), rest[:i]
	}
	whole, frac, _ := strings.Cut(rest, ".")
	digits := whole + frac
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", false
	}
	exp -= len(frac)
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		digits = "0"
	}
	point := len(digits) + exp // digits before the decimal point
	switch {
	case (exp > 0 || point < -5) && len(digits) > 1:
		return fmt.Sprintf("%s%s.%sE%+d", sign, digits[:1], digits[1:], point-1), true
	case exp > 0 || point < -5:
		return fmt.Sprintf("%s%sE%+d", sign, digits, point-1), true
	case exp == 0:
		return sign + digits, true
	case point > 0:
		return sign + digits[:point] + "." + digits[point:], true
	}
	return sign + "0." + strings.Repeat("0", -point) + digits, true
}
