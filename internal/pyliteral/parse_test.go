package pyliteral

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var same = []cmp.Option{
	cmpopts.EquateEmpty(),
	cmp.Comparer(func(a, b *big.Int) bool { return a.Cmp(b) == 0 }),
}

func bigInt(s string) *big.Int {
	b, ok := new(big.Int).SetString(s, 10)
	if !ok {
		panic(s)
	}
	return b
}

// readings are sources and what each of the two Pythons reads.
var readings = []struct {
	src        string
	two, three Value
}{
	{src: "None"},
	{" True ", true, true},
	{"False # not true", false, false},
	{"0", int64(0), int64(0)},
	{"-5", int64(-5), int64(-5)},
	{"+5", int64(5), int64(5)},
	{"00", int64(0), int64(0)},
	{"9223372036854775807", int64(1<<63 - 1), int64(1<<63 - 1)},
	{"18446744073709551615", bigInt("18446744073709551615"), bigInt("18446744073709551615")},
	{"1.5", 1.5, 1.5},
	{"1.", 1.0, 1.0},
	{".5e1", 5.0, 5.0},
	{"-1e-05", -1e-05, -1e-05},
	{`'a'`, Str("a"), Str("a")},
	{`"it's"`, Str("it's"), Str("it's")},
	{`u'\u4e2d'`, Unicode("中"), Str("中")},
	{`'\xe4\xb8\xad'`, Str("中"), Str("ä¸\u00ad")},
	{"'中'", Str("中"), Str("中")},
	{`'\u4e2d'`, Str(`\u4e2d`), Str("中")},
	{`u'\U0001f600\ud83d'`, Unicode("😀\xed\xa0\xbd"), Str("😀\xed\xa0\xbd")},
	{`'\n\t\\\'\"\a\b\f\v\r\0\101\x41'`, Str("\n\t\\'\"\a\b\f\v\r\x00AA"), Str("\n\t\\'\"\a\b\f\v\r\x00AA")},
	{`'\d \('`, Str(`\d \(`), Str(`\d \(`)},
	{"'a\\\nb'", Str("ab"), Str("ab")},
	{"'a\\\r\nb'", Str("ab"), Str("ab")},
	{`r'\d\''`, Str(`\d\'`), Str(`\d\'`)},
	{`br'\d'`, Bytes(`\d`), Bytes(`\d`)},
	{`b'a\xff'`, Bytes("a\xff"), Bytes("a\xff")},
	{`b'\u4e2d'`, Bytes(`\u4e2d`), Bytes(`\u4e2d`)},
	{`'''a"b'c'''`, Str(`a"b'c`), Str(`a"b'c`)},
	{"'''a\r\nb\rc'''", Str("a\nb\nc"), Str("a\nb\nc")},
	{"\"\"\"select\n a\"\"\"", Str("select\n a"), Str("select\n a")},
	{"('a' # first\n  \"b\"\n 'c')", Str("abc"), Str("abc")},
	{`'a' u'b'`, Unicode("ab"), Str("ab")},
	{"()", Tuple{}, Tuple{}},
	{"(1)", int64(1), int64(1)},
	{"(1,)", Tuple{int64(1)}, Tuple{int64(1)}},
	{"1,", Tuple{int64(1)}, Tuple{int64(1)}},
	{"'a', 'b'", Tuple{Str("a"), Str("b")}, Tuple{Str("a"), Str("b")}},
	{"(1,\n [2, (3,)],)", Tuple{int64(1), List{int64(2), Tuple{int64(3)}}},
		Tuple{int64(1), List{int64(2), Tuple{int64(3)}}}},
	{"(1, \\\n2)", Tuple{int64(1), int64(2)}, Tuple{int64(1), int64(2)}},
	{"[]", List{}, List{}},
	{"{}", Dict{}, Dict{}},
	{"{'a': {1: 2}, (1, 'x'): [],}", Dict{Str("a"), Dict{int64(1), int64(2)}, Tuple{int64(1), Str("x")}, List{}},
		Dict{Str("a"), Dict{int64(1), int64(2)}, Tuple{int64(1), Str("x")}, List{}}},
	{"datetime.datetime(2020, 1, 2, 3, 4)", DateTime{2020, 1, 2, 3, 4, 0, 0}, DateTime{2020, 1, 2, 3, 4, 0, 0}},
	{"datetime.datetime(2020, 1, 2)", DateTime{Year: 2020, Month: 1, Day: 2}, DateTime{Year: 2020, Month: 1, Day: 2}},
	{"datetime.date(2020, 2, 29)", Date{2020, 2, 29}, Date{2020, 2, 29}},
	{"datetime.time(23, 59, 59, 999999)", Time{23, 59, 59, 999999}, Time{23, 59, 59, 999999}},
	{"datetime.timedelta(-1, 2, 3)", TimeDelta{-1, 2, 3}, TimeDelta{-1, 2, 3}},
	{"datetime.timedelta(days=-1, microseconds=3)", TimeDelta{-1, 0, 3}, TimeDelta{-1, 0, 3}},
	{"datetime.timedelta(0)", TimeDelta{}, TimeDelta{}},
	{"Decimal('1.50')", Decimal("1.50"), Decimal("1.50")},
	{"Decimal('0.0000001')", Decimal("1E-7"), Decimal("1E-7")},
}

func TestParse(t *testing.T) {
	for _, tt := range readings {
		for d, want := range map[Dialect]Value{Python2: tt.two, Python3: tt.three} {
			n, err := Parse([]byte(tt.src), Limits{Dialect: d})
			if err != nil {
				t.Errorf("%v: %s: %v", d, tt.src, err)
				continue
			}
			if diff := cmp.Diff(want, n.Value, same...); diff != "" {
				t.Errorf("%v: %s: %s", d, tt.src, diff)
			}
		}
	}
}

func TestParseLong(t *testing.T) {
	n, err := Parse([]byte("[1L, -2L, 99999999999999999999L, 9223372036854775807L]"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := List{Long(1), Long(-2), bigInt("99999999999999999999"), Long(1<<63 - 1)}
	if diff := cmp.Diff(Value(want), n.Value, same...); diff != "" {
		t.Error(diff)
	}
	if _, err := Parse([]byte("1L"), Limits{Dialect: Python3}); err == nil {
		t.Error("Python 3 read a long")
	}
}

// refusals are sources that no dialect reads, with the position and a part of
// the reason.
var refusals = []struct {
	src       string
	line, col int
	reason    string
}{
	{"", 1, 1, "nothing here"},
	{"  # only a comment", 1, 19, "nothing here"},
	{`(("transfer",None),) * 5`, 1, 22, `"*" makes an expression`},
	{"(1 + 2)", 1, 4, `"+" makes an expression`},
	{"[1 2]", 1, 4, "comma or closing bracket"},
	{"(1, 2", 1, 6, "closing bracket is missing"},
	{"(1, 2]", 1, 6, "closes nothing"},
	{"1)", 1, 2, "closes nothing"},
	{"(,)", 1, 2, "can't begin a value"},
	{"[1,,2]", 1, 4, "can't begin a value"},
	{"{1, 2}", 1, 3, "set"},
	{"{1: 2, 3}", 1, 9, "set"},
	{"{1: }", 1, 5, "can't begin a value"},
	{"{[]: 1}", 1, 2, "can't be a key"},
	{"{'a': 1, u'a': 2}", 1, 1, "key twice"},
	{"{1: 1, True: 2}", 1, 1, "key twice"},
	{"null", 1, 1, `the name "null"`},
	{"__import__('os').system('x')", 1, 1, `the name "__import__"`},
	{"(lambda: 1)", 1, 2, `the name "lambda"`},
	{"'a'.upper()", 1, 4, "attribute"},
	{"'a'[0]", 1, 4, "index"},
	{"'a' % 1", 1, 5, `"%" makes an expression`},
	{"[x for x in y]", 1, 2, `the name "x"`},
	{"f'a'", 1, 1, "prefix"},
	{"bu'a'", 1, 1, "prefix"},
	{"ur'a'", 1, 1, "prefix"},
	{"'a' b'b'", 1, 5, "can't be joined"},
	{"'abc", 1, 1, "does not end"},
	{"'a\nb'", 1, 1, "does not end on its line"},
	{"('a',\n  \"中\", 'x", 2, 8, "does not end"},
	{"'\\", 1, 1, "does not end"},
	{`u'\N{DASH}'`, 1, 3, "no escape"},
	{`'\x4'`, 1, 2, "no escape"},
	{`u'\ud8'`, 1, 3, "no escape"},
	{`u'\U00110000'`, 1, 3, "no escape"},
	{"u'\xff'", 1, 1, "UTF-8"},
	{"'a\x00'", 1, 3, "NUL"},
	{"1\x00", 1, 2, "comma or closing bracket"},
	{"0x10", 1, 1, "decimal"},
	{"010", 1, 1, "leading 0"},
	{"1_000", 1, 1, "decimal"},
	{"1j", 1, 1, "decimal"},
	{"1.5j", 1, 1, "after a number"},
	{"--1", 1, 1, "expression"},
	{"-", 1, 1, "expression"},
	{".", 1, 1, "without digits"},
	{"1e", 1, 1, "exponent"},
	{"1e999", 1, 1, "out of range"},
	{"inf", 1, 1, `the name "inf"`},
	{strings.Repeat("9", 4302), 1, 1, "digits"},
	{"datetime.datetime(2020, 13, 1)", 1, 1, "no value of its kind"},
	{"datetime.datetime(2020, 1)", 1, 1, "no value of its kind"},
	{"datetime.date(2019, 2, 29)", 1, 1, "no value of its kind"},
	{"datetime.time(24)", 1, 1, "no value of its kind"},
	{"datetime.timedelta(0, 86400)", 1, 1, "no value of its kind"},
	{"datetime.timedelta(days=1, days=2)", 1, 1, "no value of its kind"},
	{"datetime.timedelta(weeks=1)", 1, 1, "no value of its kind"},
	{"datetime.timedelta(days=1, 2)", 1, 1, "no value of its kind"},
	{"datetime.datetime(2020, 1, 1, tzinfo=None)", 1, 31, "can't be a part"},
	{"datetime.datetime.now()", 1, 1, `the name "datetime.datetime.now"`},
	{"datetime.date", 1, 1, "without its value"},
	{"datetime.date(1, 1, 1, 1, 1, 1, 1, 1)", 1, 36, "too many parts"},
	{"Decimal('nan')", 1, 1, "no value of its kind"},
	{"Decimal(1.5)", 1, 9, "can't be a part"},
	{"Decimal('1', '2')", 1, 1, "no value of its kind"},
	{"\n\n  (1;)", 3, 5, "comma or closing bracket"},
	{strings.Repeat("(", 40), 1, 33, "deeper than 32"},
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range refusals {
		for _, d := range []Dialect{Python2, Python3} {
			_, err := Parse([]byte(tt.src), Limits{Dialect: d})
			var se *SyntaxError
			if !errors.As(err, &se) {
				t.Errorf("%v: %.40q: error %v, want a SyntaxError", d, tt.src, err)
				continue
			}
			if se.Line != tt.line || se.Col != tt.col || !strings.Contains(se.Msg, tt.reason) {
				t.Errorf("%v: %.40q: %v, want line %d, column %d, %q", d, tt.src, se, tt.line, tt.col, tt.reason)
			}
		}
	}
}

func TestParseLimits(t *testing.T) {
	if _, err := Parse([]byte("[1, 2, 3]"), Limits{Elements: 2}); err == nil {
		t.Error("three elements passed a limit of two")
	}
	if _, err := Parse([]byte("[[1]]"), Limits{Depth: 1}); err == nil {
		t.Error("two levels passed a depth of one")
	}
	var b strings.Builder
	for i := range MaxDict + 1 {
		b.WriteString(bigInt("1000").String() + strings.Repeat("1", i/50) + string(rune('0'+i%10)) +
			string(rune('0'+i/10%10)) + ":0,")
	}
	if _, err := Parse([]byte("{"+b.String()+"}"), Limits{}); err == nil || !strings.Contains(err.Error(), "pairs") {
		t.Errorf("a dict beyond MaxDict: %v", err)
	}
}

func TestSpans(t *testing.T) {
	src := `{'Business': {'Content': [(1, 'a'),  ('b')], 'Type': 'T'}, 'x': None}`
	n, err := Parse([]byte(src), Limits{DictSpans: true})
	if err != nil {
		t.Fatal(err)
	}
	content := n.Get("Business").Get("Content")
	if got := src[content.Start:content.End]; got != `[(1, 'a'),  ('b')]` {
		t.Errorf("span of Content is %s", got)
	}
	if content.Items != nil {
		t.Error("items of a list kept with DictSpans")
	}
	if n.Get("none") != nil || n.Get("x").Get("y") != nil {
		t.Error("Get found what is not there")
	}
	if n, err = Parse([]byte("[{'a': 1}]"), Limits{DictSpans: true}); err != nil || n.Items != nil {
		t.Errorf("items of a list kept with DictSpans: %v", err)
	}
	n, err = Parse([]byte(src), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	items := n.Get("Business").Get("Content").Items
	if len(items) != 2 || src[items[0].Items[1].Start:items[0].Items[1].End] != "'a'" ||
		src[items[1].Start:items[1].End] != "'b'" {
		t.Errorf("items of Content: %v", items)
	}
}

func TestDetect(t *testing.T) {
	for _, tt := range []struct {
		src  string
		want Dialect
		ok   bool
	}{
		{"{'a': [1, 'x']}", 0, false},
		{"{'a': 1L}", Python2, true},
		{"u'a'", Python2, true},
		{`'\xe4\xb8\xad'`, Python2, true},
		{`'\xad\x80'`, 0, false},
		{"'中'", Python3, true},
		{`'\u200b'`, Python3, true},
		{`'\\u200b'`, 0, false},
		{`b'\xff'`, Python3, true},
		{"datetime.timedelta(days=1)", Python3, true},
		{"datetime.timedelta(1)", 0, false},
		{"(u'a', b'b')", 0, false},
		{"'u', 'L'", 0, false},
	} {
		if d, ok := Detect([]byte(tt.src)); ok != tt.ok || ok && d != tt.want {
			t.Errorf("Detect(%s) = %v, %v", tt.src, d, ok)
		}
	}
}

// JSON is read with its own names and escapes.
func TestParseJSON(t *testing.T) {
	src := `{"a\/\ud83d\ude00": [null, true, false, -1.5e3, "\u4e2d\"'"]}`
	want := Dict{Str("a/😀"), List{nil, true, false, -1500.0, Str("中\"'")}}
	n, err := Parse([]byte(src), Limits{JSON: true})
	if err != nil || !cmp.Equal(want, n.Value, same...) {
		t.Errorf("%v %v", n, err)
	}
	if _, err := Parse([]byte(src), Limits{}); err == nil {
		t.Error("a literal has names of JSON")
	}
	if _, err := Parse([]byte(`"\x41"`), Limits{JSON: true}); err == nil {
		t.Error("JSON has escapes of Python")
	}
}
