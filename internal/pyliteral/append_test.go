package pyliteral

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// printings are values and what repr prints for them in Python 2.7 and 3.12. They stand for the interpreters where
// there are none.
var printings = []struct {
	v          Value
	two, three string
}{
	{nil, "None", "None"},
	{true, "True", "True"},
	{false, "False", "False"},
	{int64(-7), "-7", "-7"},
	{Long(7), "7L", "7"},
	{bigInt("-9223372036854775809"), "-9223372036854775809L", "-9223372036854775809"},
	{bigInt("7"), "7", "7"},
	{0.0, "0.0", "0.0"},
	{math.Copysign(0, -1), "-0.0", "-0.0"},
	{1.0, "1.0", "1.0"},
	{0.1, "0.1", "0.1"},
	{1.0 / 3, "0.3333333333333333", "0.3333333333333333"},
	{0.0001, "0.0001", "0.0001"},
	{0.00001, "1e-05", "1e-05"},
	{123456.75, "123456.75", "123456.75"},
	{1e10, "10000000000.0", "10000000000.0"},
	{1e11, "100000000000.0", "100000000000.0"},
	{1e15, "1000000000000000.0", "1000000000000000.0"},
	{1e16, "1e+16", "1e+16"},
	{-1.5e300, "-1.5e+300", "-1.5e+300"},
	{5e-324, "5e-324", "5e-324"},
	{Str("a"), "'a'", "'a'"},
	{Str(""), "''", "''"},
	{Str("it's"), `"it's"`, `"it's"`},
	{Str(`it's "it"`), `'it\'s "it"'`, `'it\'s "it"'`},
	{Str(`"`), `'"'`, `'"'`},
	{Str("\\\n\r\t\x00\x1f\x7f"), `'\\\n\r\t\x00\x1f\x7f'`, `'\\\n\r\t\x00\x1f\x7f'`},
	{Str("中"), `'\xe4\xb8\xad'`, "'中'"},
	{Unicode("中"), `u'\u4e2d'`, "'中'"},
	{Unicode("é\u00a0\u00ad"), `u'\xe9\xa0\xad'`, `'é\xa0\xad'`},
	{Unicode("\u200b\u2028\ufeff"), `u'\u200b\u2028\ufeff'`, `'\u200b\u2028\ufeff'`},
	{Unicode("😀\U000e0001\ue000"), `u'\U0001f600\U000e0001\ue000'`, `'😀\U000e0001\ue000'`},
	{Unicode("\xed\xa0\xbd\xed\xb8\x80"), `u'\ud83d\ude00'`, `'\ud83d\ude00'`},
	{Bytes("a'\xff"), `"a'\xff"`, `b"a'\xff"`},
	{Tuple{}, "()", "()"},
	{Tuple{Str("x")}, "('x',)", "('x',)"},
	{Tuple{Long(1), nil}, "(1L, None)", "(1, None)"},
	{List{Tuple{int64(1), 2.0}, List{}}, "[(1, 2.0), []]", "[(1, 2.0), []]"},
	{Dict{}, "{}", "{}"},
	{Dict{Str("a"), Unicode("b")}, "{'a': u'b'}", "{'a': 'b'}"},
	{DateTime{2020, 1, 2, 3, 4, 0, 0}, "datetime.datetime(2020, 1, 2, 3, 4)", "datetime.datetime(2020, 1, 2, 3, 4)"},
	{DateTime{2020, 1, 2, 0, 0, 0, 0}, "datetime.datetime(2020, 1, 2, 0, 0)", "datetime.datetime(2020, 1, 2, 0, 0)"},
	{DateTime{2020, 1, 2, 0, 0, 0, 5}, "datetime.datetime(2020, 1, 2, 0, 0, 0, 5)",
		"datetime.datetime(2020, 1, 2, 0, 0, 0, 5)"},
	{Date{20, 1, 2}, "datetime.date(20, 1, 2)", "datetime.date(20, 1, 2)"},
	{Time{0, 0, 7, 0}, "datetime.time(0, 0, 7)", "datetime.time(0, 0, 7)"},
	{TimeDelta{}, "datetime.timedelta(0)", "datetime.timedelta(0)"},
	{TimeDelta{1, 2, 3}, "datetime.timedelta(1, 2, 3)", "datetime.timedelta(days=1, seconds=2, microseconds=3)"},
	{TimeDelta{-2, 0, 0}, "datetime.timedelta(-2)", "datetime.timedelta(days=-2)"},
	{TimeDelta{0, 0, 3}, "datetime.timedelta(0, 0, 3)", "datetime.timedelta(microseconds=3)"},
	{Decimal("1.50"), "Decimal('1.50')", "Decimal('1.50')"},
	{Decimal("+007"), "Decimal('7')", "Decimal('7')"},
	{Decimal("-0.0000000000"), "Decimal('-0E-10')", "Decimal('-0E-10')"},
	{Decimal("0.000001"), "Decimal('0.000001')", "Decimal('0.000001')"},
	{Decimal("0.00000123"), "Decimal('0.00000123')", "Decimal('0.00000123')"},
	{Decimal("0.000000123"), "Decimal('1.23E-7')", "Decimal('1.23E-7')"},
	{Decimal("12e3"), "Decimal('1.2E+4')", "Decimal('1.2E+4')"},
}

func TestAppend(t *testing.T) {
	for _, tt := range printings {
		for d, want := range map[Dialect]string{Python2: tt.two, Python3: tt.three} {
			if got, err := Append(nil, tt.v, d); err != nil || string(got) != want {
				t.Errorf("%s: repr of %#v is %s (%v), want %s", dialects[d], tt.v, got, err, want)
			}
		}
	}
	b, err := Append(nil, TimeDelta{1, 2, 3}, Python36)
	if err != nil || string(b) != "datetime.timedelta(1, 2, 3)" {
		t.Errorf("python3.6: %s (%v)", b, err)
	}
	if b, err = Append(nil, Str("🥰"), Python36); err != nil || string(b) != `'\U0001f970'` {
		t.Errorf("python3.6 shows a character of Unicode 11: %s (%v)", b, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, v := range []Value{
		math.Inf(1), math.NaN(), Decimal("NaN"), Decimal(""), Decimal("1e99999999999"), Decimal("1.2.3"),
		Date{2019, 2, 29}, DateTime{0, 1, 1, 0, 0, 0, 0}, Time{24, 0, 0, 0}, TimeDelta{0, -1, 0},
		Unicode("\xff"), Dict{List{}, nil}, Dict{Tuple{Dict{}}, nil}, List{Dict{int64(1), math.Inf(-1)}}, 1,
		uint64(1), struct{}{},
	} {
		if b, err := Append(nil, v, Python2); !errors.Is(err, ErrValue) {
			t.Errorf("Append(%#v) = %s, %v", v, b, err)
		}
	}
}

func TestDialectNames(t *testing.T) {
	for d := Python2; d <= Python313; d++ {
		if got, err := ParseDialect(dialects[d]); err != nil || got != d {
			t.Errorf("%v is read as %v, %v", d, got, err)
		}
	}
	for name, want := range map[string]Dialect{"python2.7": Python2, "python3": Python3, "python3.10": Python39} {
		if got, err := ParseDialect(name); err != nil || got != want {
			t.Errorf("%s is read as %v, %v", name, got, err)
		}
	}
	if _, err := ParseDialect("python4"); err == nil {
		t.Error("python4 passed")
	}
}

// TestLaw holds Parse(Append(x)) == x over generated values.
func TestLaw(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for d := Python2; d <= Python313; d++ {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(d))), d: d}
		for range 2000 {
			v := g.value(4)
			b, err := Append(nil, v, d)
			if err != nil {
				t.Fatalf("%v: %#v: %v", d, v, err)
			}
			n, err := Parse(b, Limits{Dialect: d})
			if err != nil {
				t.Fatalf("%v: %s: %v", d, b, err)
			}
			if !cmp.Equal(v, n.Value, same...) || n.Start != 0 || n.End != len(b) {
				t.Fatalf("%v: %s: %s", d, b, cmp.Diff(v, n.Value, same...))
			}
			if seen, ok := Detect(b); ok && (seen == Python2) != (d == Python2) {
				t.Fatalf("%s printed by %v is taken for %v", b, d, seen)
			}
		}
	}
}

// FuzzParse holds that what is read is printed and read again as the same, that
// an error has a position inside the source, and that memory stays in bounds.
func FuzzParse(f *testing.F) {
	for _, tt := range readings {
		f.Add([]byte(tt.src))
	}
	for _, tt := range refusals {
		f.Add([]byte(tt.src))
	}
	for _, tt := range printings {
		f.Add([]byte(tt.two))
		f.Add([]byte(tt.three))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, d := range []Dialect{Python2, Python36, Python3} {
			n, err := Parse(src, Limits{Dialect: d})
			if err != nil {
				var se *SyntaxError
				if !errors.As(err, &se) || se.Offset < 0 || se.Offset > len(src) || se.Line < 1 || se.Col < 1 {
					t.Fatalf("%v", err)
				}
				continue
			}
			checkSpans(t, src, n)
			text, err := Append(nil, n.Value, d)
			if err != nil {
				t.Fatalf("%q was read and can't be printed: %v", src, err)
			}
			again, err := Parse(text, Limits{Dialect: d})
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if d != Python2 || !strings.ContainsAny(string(src), "bB") { // b'…' is printed as '…' by Python 2
				if !cmp.Equal(n.Value, again.Value, same...) {
					t.Fatal(cmp.Diff(n.Value, again.Value, same...))
				}
			}
			if text2, err := Append(nil, again.Value, d); err != nil || string(text2) != string(text) {
				t.Fatalf("%q printed again is %q (%v)", text, text2, err)
			}
		}
	})
}

func checkSpans(t *testing.T, src []byte, n *Node) {
	if n.Start < 0 || n.End < n.Start || n.End > len(src) {
		t.Fatalf("span %d..%d of %d", n.Start, n.End, len(src))
	}
	last := n.Start
	for i := range n.Items {
		e := &n.Items[i]
		if e.Start < last || e.End > n.End {
			t.Fatalf("span %d..%d in %d..%d", e.Start, e.End, n.Start, n.End)
		}
		last = e.End
		checkSpans(t, src, e)
	}
}

// TestParseMemory holds the bound that Parse documents, on the inputs that cost
// most.
func TestParseMemory(t *testing.T) {
	for _, unit := range []string{"0,", "300,", "'',", "'a',", "(),", "(0,),", "[],", "{},", "0.5,", "1L,",
		"u'\\u4e2d',", "'\\n',", "{0:0},", "99999999999999999999,",
		"datetime.date(1,1,1),", "datetime.datetime(1,1,1),", "Decimal('1'),", "(((((0,),),),),),", "('a' 'b'),"} {
		src := []byte("[" + strings.Repeat(unit, 1<<17/len(unit)) + "]")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(src, Limits{DictSpans: true})
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Errorf("%s: %v", unit, err)
		}
		times := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(src))
		t.Logf("%-28s %5.1f bytes a byte", unit, times)
		if times > 20 {
			t.Errorf("%s: %.1f bytes a byte", unit, times)
		}
	}
}
