package pyliteral

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"syncgate/internal/harness/pythontest"
)

type answer struct{ repr, dump string }

// python evaluates every text in one process and returns its answers.
func python(t *testing.T, version string, texts [][]byte) (answers []answer) {
	t.Helper()
	var stdin bytes.Buffer
	for _, s := range texts {
		fmt.Fprintf(&stdin, "%x\n", s)
	}
	lines := pythontest.Run(t, version, stdin.Bytes(), filepath.Join("testdata", "check.py"))
	if len(lines) != len(texts) {
		t.Fatalf("%d answers to %d texts", len(lines), len(texts))
	}
	for _, l := range lines {
		f := strings.Fields(l)
		answers = append(answers, answer{unhex(f[0]), unhex(f[1])})
	}
	return answers
}

func unhex(s string) string {
	if s == "-" {
		return ""
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// dump is the notation of testdata/check.py.
func dump(v Value, d Dialect) string {
	var b strings.Builder
	switch x := v.(type) {
	case nil:
		return "N"
	case bool:
		return map[bool]string{true: "T", false: "F"}[x]
	case int64:
		return fmt.Sprintf("i%d;", x)
	case Long:
		return fmt.Sprintf("%s%d;", map[bool]string{true: "l", false: "i"}[d == Python2], x)
	case *big.Int:
		return fmt.Sprintf("%s%d;", map[bool]string{true: "l", false: "i"}[d == Python2], x)
	case float64:
		return fmt.Sprintf("f%016x", math.Float64bits(x))
	case Bytes:
		return fmt.Sprintf("s%x;", string(x))
	case Str:
		if d == Python2 {
			return fmt.Sprintf("s%x;", string(x))
		}
		return dump(Unicode(x), d)
	case Unicode:
		b.WriteByte('u')
		for s := string(x); s != ""; {
			r, n, _ := decodeRune(s)
			fmt.Fprintf(&b, "%x,", r)
			s = s[n:]
		}
		b.WriteByte(';')
	case Tuple:
		b.WriteByte('(')
		for _, e := range x {
			b.WriteString(dump(e, d))
		}
		b.WriteByte(')')
	case List:
		b.WriteByte('[')
		for _, e := range x {
			b.WriteString(dump(e, d))
		}
		b.WriteByte(']')
	case Dict:
		var pairs []string
		for i := 0; i < len(x); i += 2 {
			k, v := x[i], x[i+1]
			pairs = append(pairs, dump(k, d)+dump(v, d))
		}
		slices.Sort(pairs)
		return "{" + strings.Join(pairs, "") + "}"
	case DateTime:
		return fmt.Sprintf("D%d,%d,%d,%d,%d,%d,%d;", x.Year, x.Month, x.Day, x.Hour, x.Minute, x.Second, x.Microsecond)
	case Date:
		return fmt.Sprintf("d%d,%d,%d;", x.Year, x.Month, x.Day)
	case Time:
		return fmt.Sprintf("t%d,%d,%d,%d;", x.Hour, x.Minute, x.Second, x.Microsecond)
	case TimeDelta:
		return fmt.Sprintf("x%d,%d,%d;", x.Days, x.Seconds, x.Microseconds)
	case Decimal:
		s, neg := strings.CutPrefix(string(x), "-")
		s, e, _ := strings.Cut(s, "E")
		exp := 0
		if e != "" {
			fmt.Sscan(e, &exp)
		}
		whole, frac, _ := strings.Cut(s, ".")
		digits := strings.TrimLeft(whole+frac, "0")
		if digits == "" {
			digits = "0"
		}
		return fmt.Sprintf("m%d,%s,%d;", map[bool]int{true: 1, false: 0}[neg], digits, exp-len(frac))
	default:
		panic(fmt.Sprintf("%T", v))
	}
	return b.String()
}

// generator makes values that the dialect has.
type generator struct {
	*rand.Rand
	d Dialect
}

func (g *generator) value(depth int) Value {
	n := 15
	if depth > 0 {
		n = 18
	}
	switch g.IntN(n) {
	case 0:
		return nil
	case 1:
		return g.IntN(2) == 0
	case 2:
		return int64(g.IntN(2000) - 1000)
	case 3:
		return int64(g.Uint64() >> g.IntN(64))
	case 4:
		b := new(big.Int).SetUint64(g.Uint64() | 1<<63)
		if g.IntN(2) == 0 {
			b.Mul(b, b).Neg(b)
		}
		return b
	case 5:
		if g.d == Python2 {
			return Long(g.Uint64() >> g.IntN(64))
		}
		return Bytes(g.bytes())
	case 6:
		return g.float()
	case 7, 8, 9:
		if g.d == Python2 {
			return Str(g.bytes())
		}
		return Str(g.text())
	case 10:
		if g.d == Python2 {
			return Unicode(g.text())
		}
		return Str(g.text())
	case 11:
		t := time.Unix(g.Int64N(3e11)-6e10, 0).UTC()
		return DateTime{t.Year(), int(t.Month()), t.Day(), g.zero(24), g.zero(60), g.zero(60), g.zero(1e6)}
	case 12:
		t := time.Unix(g.Int64N(3e11)-6e10, 0).UTC()
		return Date{t.Year(), int(t.Month()), t.Day()}
	case 13:
		if g.IntN(2) == 0 {
			return Time{g.zero(24), g.zero(60), g.zero(60), g.zero(1e6)}
		}
		return TimeDelta{g.zero(2000) - g.zero(1000), g.zero(86400), g.zero(1e6)}
	case 14:
		return g.decimal()
	case 15:
		return Tuple(g.values(depth))
	case 16:
		return List(g.values(depth))
	}
	// Python 2 prints a dict of several pairs in an order of its own.
	var kv []Value
	for i := range g.IntN(map[bool]int{true: 2, false: 4}[g.d == Python2]) {
		kv = append(kv, Str(fmt.Sprint("k", i)), g.value(depth-1))
	}
	return Dict(kv)
}

func (g *generator) values(depth int) []Value {
	vs := make([]Value, g.IntN(5))
	for i := range vs {
		vs[i] = g.value(depth - 1)
	}
	return vs
}

// zero is often 0, so that parts at the end are.
func (g *generator) zero(n int) int {
	if g.IntN(2) == 0 {
		return 0
	}
	return g.IntN(n)
}

func (g *generator) float() float64 {
	if g.IntN(2) == 0 {
		return float64(g.IntN(2e6)-1e6) * math.Pow10(g.IntN(40)-20)
	}
	for {
		if f := math.Float64frombits(g.Uint64()); !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	}
}

func (g *generator) bytes() string {
	const often = "aZ09 '\"\\\n\r\t\x00\x7f\x80\xff"
	b := make([]byte, g.IntN(12))
	for i := range b {
		if g.IntN(2) == 0 {
			b[i] = often[g.IntN(len(often))]
		} else {
			b[i] = byte(g.IntN(256))
		}
	}
	return string(b)
}

func (g *generator) text() string {
	var b []byte
	for range g.IntN(12) {
		switch g.IntN(4) {
		case 0:
			b = append(b, "aZ '\"\\\n\r\t\x00\x7f"[g.IntN(11)])
		case 1:
			b = appendRune(b, rune(g.IntN(0x3000)))
		case 2:
			b = appendRune(b, rune(0xd700+g.IntN(0x900)))
		default:
			b = appendRune(b, rune(g.IntN(unicode.MaxRune+1)))
		}
	}
	return string(b)
}

func (g *generator) decimal() Value {
	s := fmt.Sprintf("%d", g.Uint64()>>g.IntN(64))
	if g.IntN(5) == 0 {
		s = "0"
	}
	switch g.IntN(4) {
	case 0:
		s = "0." + strings.Repeat("0", g.IntN(9)) + s
	case 1:
		s += fmt.Sprintf("E%d", g.IntN(60)-30)
	case 2:
		s += "." + fmt.Sprint(g.IntN(1000))
	}
	if g.IntN(3) == 0 {
		s = "-" + s
	}
	d, ok := canonicalDecimal(s)
	if !ok {
		panic(s)
	}
	return Decimal(d)
}

var versions = []struct {
	version string
	d       Dialect
}{
	{"2.7", Python2}, {"3.6", Python36}, {"3.7", Python37}, {"3.8", Python38}, {"3.9", Python39}, {"3.10", Python39},
	{"3.11", Python311}, {"3.12", Python312}, {"3.13", Python313},
}

// TestRealPython prints thousands of values, has the interpreter evaluate them
// and print them again, and compares what it prints and what it then holds.
func TestRealPython(t *testing.T) {
	for _, tt := range versions {
		t.Run(tt.version, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), d: tt.d}
			values := make([]Value, 2000)
			texts := make([][]byte, len(values))
			for i := range values {
				values[i] = g.value(3)
				var err error
				if texts[i], err = Append(nil, values[i], tt.d); err != nil {
					t.Fatalf("%#v: %v", values[i], err)
				}
			}
			answers := python(t, tt.version, texts)
			for i, a := range answers {
				if want := dump(values[i], tt.d); a.dump != want {
					t.Fatalf("%q is %s there and %s here", texts[i], a.dump, want)
				}
				if a.repr != string(texts[i]) {
					t.Fatalf("its repr is %q, ours %q", a.repr, texts[i])
				}
			}
		})
	}
}

// TestPrintable compares which code points are printable. Planes 4 to 13 hold none, 15 and 16 are private.
func TestPrintable(t *testing.T) {
	const script = "print(' '.join(str(i) for r in (range(0x40000), range(0xe0000, 0xe1000)) for i in r if " +
		"chr(i).isprintable() != chr(i - 1 if i else 0).isprintable()))"
	for _, tt := range versions[1:] {
		t.Run(tt.version, func(t *testing.T) {
			there := strings.Fields(pythontest.Run(t, tt.version, nil, "-c", script)[0])
			var here []string // where printable ones begin and end
			for _, plane := range [...][2]rune{{0, 0x40000}, {0xe0000, 0xe1000}} {
				last := printable(max(plane[0]-1, 0), tt.d)
				for r := plane[0]; r < plane[1]; r++ {
					if p := printable(r, tt.d); p != last {
						here, last = append(here, fmt.Sprint(r)), p
					}
				}
			}
			if diff := cmp.Diff(there, here); diff != "" || len(here) < 1000 {
				t.Errorf("%d changes: %s", len(here), diff)
			}
		})
	}
}
