package rule_test

import (
	"strings"
	"testing"

	"syncgate/rule"
)

// Whatever stands in a row, Compile says what is wrong or gives a plan that holds
// together, and what the plan describes compiles again.
func FuzzCompile(f *testing.F) {
	s := loadSuite(f)
	for i := range s.Rules {
		r := s.Rules[i].row()
		f.Add(r.SQL, r.Field, r.OperationType, r.PatchField, r.PatchFieldValue, r.RangeValue, r.Type == rule.Upload,
			r.User == rule.Server, r.UseCarriedState, i%3 == 0)
	}
	facts := &s.Tables["phishing_log"].Table
	f.Fuzz(func(t *testing.T, sql, field, ops, patch, values, span string, up, server, use, known bool) {
		r := rule.Row{ID: 12, Table: "phishing_log", Type: rule.Download, User: rule.Client, PointNo: "p", SQL: sql,
			Field: field, OperationType: ops,
			PatchField: patch, PatchFieldValue: values, UseCarriedState: use, UpdateState: use}
		if up {
			r.Type = rule.Upload
		}
		if server {
			r.User = rule.Server
		}
		if span != "" {
			r.Range, r.RangeValue = rule.Period, span
		}
		var tab *rule.Table
		if known {
			tab = facts
		}
		p, ds := rule.Compile(r, tab)
		worst, _ := rule.Worst(ds)
		if (p == nil) != (worst == rule.Error) {
			t.Fatalf("plan %v, diagnostics %v", p, ds)
		}
		for _, d := range ds {
			if d.Code < 100 || d.Code > 199 || d.Message == "" {
				t.Fatalf("odd diagnostic %s", d)
			}
		}
		if p == nil {
			return
		}
		for _, all := range [][]rule.Statement{p.Upside, p.Downside, p.UpdateState} {
			for i := range all {
				if st := &all[i]; st.File == nil {
					checkArgs(t, p, st)
				}
			}
		}
		_ = p.Describe()
		if got, _, err := rule.Convert(r, nil); err == nil {
			if q, ds := rule.Compile(got, nil); q == nil && !(got == r && tab != nil) {
				t.Fatalf("converted to what does not compile: %v\n%s", ds, got.SQL)
			}
		}
	})
}

func checkArgs(t *testing.T, p *rule.Plan, s *rule.Statement) {
	vals, err := s.Bind(nil, &rule.Env{}, make([]any, len(p.Fields)))
	if err != nil || len(vals) != len(s.Args) {
		t.Fatalf("%d values for %d arguments, %v", len(vals), len(s.Args), err)
	}
	if in := s.Insert; in != nil && in.Head+in.Tuple+in.Tail != s.SQL {
		t.Fatalf("%+v is not %s", in, s.SQL)
	}
}

// Plain SQL that needs no values is sent as it was written.
func FuzzPlainIsUnchanged(f *testing.F) {
	for _, s := range []string{"select a from t where b = '%s;' and c = \"--\"", "select `x#` from t", "select 1",
		"select 'it''s' from t where a like '%\\_'"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		p, _ := rule.Compile(rule.Row{ID: 12, Table: "t", Type: rule.Download, User: rule.Server, PointNo: "p",
			SQL: sql}, nil)
		if p == nil || p.Form != rule.Named || strings.ContainsAny(sql, ":;#-/") {
			return
		}
		if got, want := p.Upside[0].SQL, strings.Trim(sql, " \t\n\v\f\r"); got != want || len(p.Upside[0].Args) > 0 {
			t.Fatalf("sent %q, written %q", got, want)
		}
	})
}
