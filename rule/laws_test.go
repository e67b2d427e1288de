package rule_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"syncgate/rule"
)

var update = flag.Bool("update", false, "write the golden files")

// statements is every statement of a plan as text, with its arguments.
func statements(p *rule.Plan) (out []string) {
	for _, all := range [][]rule.Statement{p.Upside, p.Downside, p.UpdateState} {
		for _, s := range all {
			sql := s.SQL
			if s.File != nil {
				sql = fmt.Sprint(*s.File)
			}
			out = append(out, fmt.Sprintf("%s %s %v %v", s.Op, sql, argTexts(s.Args), s.Insert != nil))
		}
	}
	return out
}

func hasFixed(p *rule.Plan) bool {
	for _, all := range [][]rule.Statement{p.Upside, p.Downside, p.UpdateState} {
		for _, s := range all {
			for _, a := range s.Args {
				if a.Source == rule.Fixed {
					return true
				}
			}
		}
	}
	return false
}

// The output of Describe compiles to the statements it describes.
func TestDescribeCompiles(t *testing.T) {
	s := loadSuite(t)
	for i := range s.Rules {
		c := &s.Rules[i]
		row := c.row()
		p, _ := rule.Compile(row, s.facts(c))
		if p == nil || hasFixed(p) {
			continue
		}
		again := row
		again.SQL, again.OperationType, again.PatchField, again.PatchFieldValue = p.Describe(), "", "", ""
		q, ds := rule.Compile(again, s.facts(c))
		if q == nil {
			t.Errorf("%s: %v in\n%s", c.Name, ds, again.SQL)
			continue
		}
		if d := cmp.Diff(statements(p), statements(q)); d != "" || p.AllOrNothing != q.AllOrNothing {
			t.Errorf("%s (-first +again)\n%s", c.Name, d)
		}
	}
}

// A converted row says the same as the row it was.
func TestConvert(t *testing.T) {
	s := loadSuite(t)
	converted := 0
	for i := range s.Rules {
		c := &s.Rules[i]
		row := c.row()
		before, ds := rule.Compile(row, nil)
		got, said, err := rule.Convert(row, nil)
		if d := cmp.Diff(ds, said); d != "" {
			t.Errorf("%s: Convert says something else\n%s", c.Name, d)
		}
		if before == nil {
			if err == nil || got != row {
				t.Errorf("%s: a broken row was converted", c.Name)
			}
			continue
		}
		if before.Form == rule.Generated || before.Form == rule.Named {
			if err != nil || got != row {
				t.Errorf("%s: a modern row was changed: %v", c.Name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		converted++
		after, ds := rule.Compile(got, nil)
		if after == nil || after.Form != rule.Named {
			t.Errorf("%s: %v\n%s", c.Name, ds, got.SQL)
			continue
		}
		if d := cmp.Diff(statements(before), statements(after)); d != "" && !hasFixed(before) {
			t.Errorf("%s (-before +after)\n%s", c.Name, d)
		}
	}
	if converted < 20 {
		t.Errorf("only %d rows were converted", converted)
	}
}

// A fixed value that is bound becomes a constant of the plain form.
func TestConvertFixed(t *testing.T) {
	row := rule.Row{ID: 1, Table: "t", Type: rule.Upload, User: rule.Server, PointNo: "p", Field: "('a','b')",
		SQL:        `{'downside': ("replace into t values ('%s','%s','%s','%s','%s')",)}`,
		PatchField: `{'downside': (('a','b','x','y','z'),)}`,
		PatchFieldValue: `{'downside': ((('transfer',None),` +
			`('fixed',"it's \\ 1"),('fixed',None),('fixed',7),('fixed',b'\x00\xff')),)}`}
	got, _, err := rule.Convert(row, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "-- option: allow-rounding\n-- downside: replace\nreplace into t " +
		"values (:text.a,'it''s \\\\ 1',NULL,'7',x'00ff')\n"
	if got.SQL != want {
		t.Errorf("got %s want %s", got.SQL, want)
	}
	if got.Field != "a, b" {
		t.Errorf("fields %q", got.Field)
	}
}

// Golden files hold what `rules show` prints for generated and converted rules.
func TestDescribeGolden(t *testing.T) {
	s := loadSuite(t)
	golden := map[string]*strings.Builder{"generated": {}, "literal": {}}
	for i := range s.Rules {
		c := &s.Rules[i]
		p, _ := rule.Compile(c.row(), s.facts(c))
		if p != nil && golden[p.Form.String()] != nil {
			fmt.Fprintf(golden[p.Form.String()], "== %s\n%s\n", c.Name, p.Describe())
		}
	}
	for name, got := range golden {
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got.String()); d != "" {
			t.Errorf("%s (-want +got); run go test -update when it is meant\n%s", file, d)
		}
	}
}
