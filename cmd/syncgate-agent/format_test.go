package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"syncgate/protocol"
)

// Every format gives back what was written into it. Text that looks like a number comes back as text, and the database
// reads it.
func TestFormats(t *testing.T) {
	columns := []string{"id", "wide \"name\", with\tall", "x"}
	texts := []any{"", `\N`, `\\N`, "NULL", " a ", "a,b", `say "no"`, "tab\there", "cr\r\nlf\n", "\r", `back\slash`,
		`\n`, "nul\x00", "título 中文 😀", "\ufeffmark", nil, []byte{0, 0xff, '\n', '"'}}
	for _, f := range []format{{"csv", `\N`}, {"csv", ""}, {"csv", "NULL"}, {"tsv", ""}, {"jsonl", ""}} {
		text := ""
		if f.kind != "jsonl" {
			text = string(f.heading(columns))
		}
		var want [][]any
		for i, v := range texts {
			row := []any{fmt.Sprint(i), v, texts[len(texts)-1-i]}
			line, err := f.appendRow(nil, columns, row)
			if err != nil {
				t.Fatal(err)
			}
			text, want = text+string(line), append(want, row)
		}
		r, err := newRowReader(strings.NewReader(text), f, nil)
		if err != nil {
			t.Fatal(f, err)
		}
		var got [][]any
		for {
			row, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || !reflect.DeepEqual(row.Columns, columns) {
				t.Fatalf("%v: columns %q, %v", f, row.Columns, err)
			}
			got = append(got, row.Values)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%v: read\n%q, wrote\n%q", f, got, want)
		}
	}
	line, _ := format{"csv", `\N`}.appendRow(nil, nil, []any{int64(-5), uint64(math.MaxUint64), 0.1, 1e300})
	if string(line) != "-5,18446744073709551615,0.1,1e+300\n" {
		t.Errorf("numbers are %q", line)
	}
}

// A mistake is told with its line.
func TestFormatMistakes(t *testing.T) {
	for _, tt := range []struct{ kind, text, says string }{
		{"csv", "a,b\n1,2\n\n3\n", "line 4: 1 fields, and there are 2 columns"},
		{"csv", "a,b\n1,\"2\n3,4\n", "quotes are not closed"},
		{"csv", "a,b\n1,\"2\"x\n", "line 2: text behind"},
		{"csv", "a,a\n", "line 1: \"a\" is empty or there twice"},
		{"csv", "a,\n", "line 1: \"\""},
		{"tsv", "a\tb\n1\t2\t3\n", "line 2: 3 fields"},
		{"jsonl", "{\"a\": 1}\n\n[1]\n", "line 3: a row is a JSON object"},
		{"jsonl", "{\"a\": 1} {\"a\": 2}\n", "line 1: there is text"},
		{"csv", "\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3,\"4\"\r\n", ""},
		{"csv", "", ""},
		{"jsonl", "\n", ""},
	} {
		r, err := newRowReader(strings.NewReader(tt.text), format{kind: tt.kind}, nil)
		for err == nil {
			_, err = r.next()
		}
		if errors.Is(err, io.EOF) != (tt.says == "") || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s %q: %v, want %q", tt.kind, tt.text, err, tt.says)
		}
	}
}

// A result keeps what became of earlier rows.
func TestPushedAdds(t *testing.T) {
	var p pushed
	for first, unknown := range [][]string{{"a"}, {"b", "a"}, nil} {
		p.add(uint64(first), &protocol.UploadReply{Applied: 1, Unknown: unknown})
	}
	if p.Applied != 3 || !slices.Equal(p.LeftOut, []string{"a", "b"}) {
		t.Errorf("%d applied, %q left out", p.Applied, p.LeftOut)
	}
}
