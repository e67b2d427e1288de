package rule

import (
	"strings"
	"testing"
)

func TestLex(t *testing.T) {
	kinds := map[kind]string{tokWord: "w", tokName: "n", tokString: "s", tokNumber: "1", tokParam: "p",
		tokVariable: "v", tokPercent: "%", tokMark: "?", tokOp: "o", tokComment: "c", tokHint: "h"}
	for _, tt := range []struct{ text, kinds string }{
		{"select a.b from t", "wwowww"},
		{"a--b", "wooww"[:4]},
		{"a -- b\nc", "wcw"},
		{"a --b", "woow"},
		{"a --\nb\n--", "wcwc"},
		{"# x\n/* y */ /*! z */ /*+ q */ /*M! r */", "cchhh"},
		{`'it''s' "a""b" 'a\'b' '\\'`, "ssss"},
		{"`a``b` `:x`", "nn"},
		{`x"a" b 'c' n'd'"e"`, "wswsss"},
		{"1 1.5 .5 1e3 1e-3 1.e5 0xff 0b01 x'ff' b'01' N'x'", "111111111" + "1s"},
		{"2fa 0xzz 1ea", "www"},
		{"t.1", "wo1"},
		{":a :state.b :row.`c d` ::x", "ppp"},
		{"@a @@b.c @@global.x := 1", "vvow" + "vowo1"},
		{"'%s' %s %% %d", "s%oow"},
		{"? ?", "??"},
		{"a<=>b->>c!=d", "wowowow"},
		{"表.列 = 'é'", "wowos"},
	} {
		toks, err := lex(tt.text)
		if strings.Contains(tt.text, "::") {
			if err == nil || err.at != strings.Index(tt.text, "::") {
				t.Errorf("%s: %v", tt.text, err)
			}
			continue
		}
		got := ""
		for _, k := range toks {
			got += kinds[k.kind]
		}
		if err != nil || got != tt.kinds {
			t.Errorf("%s: %s, want %s (%v)", tt.text, got, tt.kinds, err)
		}
	}
}

func TestLexRefuses(t *testing.T) {
	for _, tt := range []struct {
		text string
		at   int
	}{
		{"a 'b", 2}, {"a /* b", 2}, {"`a", 0}, {"a : b", 2}, {"a \x00", 2}, {"ab\xff", 2}, {"'a\\'", 0}, {":`a", 1},
	} {
		if _, err := lex(tt.text); err == nil || err.at != tt.at {
			t.Errorf("%q: %+v, want a mistake at %d", tt.text, err, tt.at)
		}
	}
}

// Each offset of a string constant's meaning is found again in its writing.
func TestQuotedPlaces(t *testing.T) {
	for _, tt := range []struct{ column, value, find string }{
		{`x "a\nb\"c d"`, "a\nb\"c d", "d"},
		{`'a\x41\'z'`, "aA'z", "z"},
		{`u'\u4e2d z'`, "中 z", "z"},
		{`"\ud83d\ude00 z"`, "😀 z", "z"},
		{`'''a "b" z'''`, `a "b" z`, "z"},
		{`r'\n z'`, `\n z`, "z"},
		{"'a\\\nb z'", "ab z", "z"},
		{`'\U0001F600\101z'`, "😀Az", "z"},
		{`'\0\12 z'`, "\x00\n z", "z"},
		{`'\q z'`, `\q z`, "z"},
	} {
		start := strings.IndexAny(tt.column, `'"ur`)
		s := quoted(tt.column, tt.value, start, len(tt.column))
		if got, want := s.place(strings.Index(tt.value, tt.find)), strings.LastIndex(tt.column, tt.find); got != want {
			t.Errorf("%s: %s is at %d, want %d", tt.column, tt.find, got, want)
		}
	}
	if s := quoted("'ab' 'cd'", "abcd", 0, 9); s.place(3) != 0 {
		t.Errorf("joined constants are placed at %d, want their start", s.place(3))
	}
	c := quoted(`"a\nbcd"`, "a\nbcd", 0, 8).cut(1, 5)
	if got := c.place(2); got != 5 {
		t.Errorf("a cut moved the place to %d", got)
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		d    int
	}{{"plat", "plate", 1}, {"domian", "domain", 1}, {"", "abc", 3}, {"a", "a", 0}, {"kitten", "sitting", 3}} {
		if d := distance(tt.a, tt.b); d != tt.d {
			t.Errorf("%s to %s is %d, want %d", tt.a, tt.b, d, tt.d)
		}
	}
}

// Tokens stand in order, do not overlap, and leave only space between them.
func FuzzLex(f *testing.F) {
	for _, s := range []string{"select 'a''b' from `t` where x = :y -- z", "'%s' %s %%", "1e-3 0xff .5 /*! x */ @@a",
		":state.`a.b`", "\"\\\"\" #"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		toks, err := lex(text)
		if err != nil {
			if err.at < 0 || err.at > len(text) {
				t.Fatalf("a mistake at %d of %d", err.at, len(text))
			}
			return
		}
		at := 0
		for _, k := range toks {
			if k.from < at || k.to <= k.from || strings.TrimLeft(text[at:k.from], " \t\n\v\f\r") != "" {
				t.Fatalf("token %+v after %d in %q", k, at, text)
			}
			at = k.to
		}
		if strings.TrimLeft(text[at:], " \t\n\v\f\r") != "" {
			t.Fatalf("%q is left", text[at:])
		}
	})
}
