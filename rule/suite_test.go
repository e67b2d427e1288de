package rule_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"syncgate/rule"
)

// suite is testdata/rules.json: rules and what compiling them says.
type suite struct {
	Tables map[string]*table `json:"tables"`
	Rules  []suiteRule       `json:"rules"`
}

type table struct {
	rule.Table
	DDL string `json:"ddl"`
}

type suiteRule struct {
	Name        string         `json:"name"`
	Columns     map[string]any `json:"row"`
	NoFacts     bool           `json:"no_facts"`
	Say         []string       `json:"say"`
	Form        string         `json:"form"`
	Fields      []string       `json:"fields"`
	Cursor      []string       `json:"cursor"`
	Upside      []string       `json:"upside"`
	Downside    []string       `json:"downside"`
	UpdateState []string       `json:"update_state"`
	Args        []string       `json:"args"`
	Joined      *bool          `json:"joined"`
}

func loadSuite(t testing.TB) *suite {
	t.Helper()
	text, err := os.ReadFile("testdata/rules.json")
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{}
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// row is the rule's row with what every rule has in common.
func (c *suiteRule) row() rule.Row {
	r := rule.Row{ID: 12, Table: "phishing_log", Type: rule.Upload, User: rule.Server, PointNo: "point-01",
		Enabled: true}
	text := map[string]*string{"sync_table": &r.Table, "sync_type": &r.Type, "sync_user": &r.User,
		"sync_point_no": &r.PointNo, "sync_field": &r.Field, "sync_range": &r.Range, "sync_range_value": &r.RangeValue,
		"sync_operation_type": &r.OperationType, "sync_sql": &r.SQL,
		"sync_patch_field": &r.PatchField, "sync_patch_field_value": &r.PatchFieldValue}
	flag := map[string]*bool{"sync_is_carry_state": &r.CarryState, "sync_is_use_state_carry_data": &r.UseCarriedState,
		"sync_is_update_state": &r.UpdateState, "sync_is_update_time": &r.UpdateTime}
	for name, v := range c.Columns {
		switch v := v.(type) {
		case string:
			*text[name] = v
		case float64:
			*flag[name] = v != 0
		}
	}
	return r
}

func (s *suite) facts(c *suiteRule) *rule.Table {
	if t := s.Tables[c.row().Table]; t != nil && !c.NoFacts {
		return &t.Table
	}
	return nil
}

func TestSuite(t *testing.T) {
	s := loadSuite(t)
	if len(s.Rules) < 200 {
		t.Fatalf("only %d rules", len(s.Rules))
	}
	for i := range s.Rules {
		c := &s.Rules[i]
		t.Run(c.Name, func(t *testing.T) {
			row := c.row()
			plan, ds := rule.Compile(row, s.facts(c))
			checkDiagnostics(t, c.Say, ds)
			if worst, _ := rule.Worst(ds); (worst == rule.Error) != (plan == nil) {
				t.Fatalf("a plan is there: %v; the worst is %s", plan != nil, worst)
			}
			if plan != nil {
				checkPlan(t, c, plan)
			}
		})
	}
}

// checkDiagnostics compares what is said, in any order; a line:column that is not
// expected is not compared.
func checkDiagnostics(t *testing.T, want []string, ds []rule.Diagnostic) {
	t.Helper()
	left := append([]string(nil), want...)
next:
	for _, d := range ds {
		if d.RuleID != 12 || d.Column == "" || d.Message == "" {
			t.Errorf("a diagnostic without its row, column or message: %s", d)
		}
		short := fmt.Sprintf("%s %s", d.Code, d.Severity)
		for i, w := range left {
			if w == short || w == fmt.Sprintf("%s %d:%d", short, d.Line, d.Col) {
				left = append(left[:i], left[i+1:]...)
				continue next
			}
		}
		t.Errorf("said but not expected: %s", d)
	}
	for _, w := range left {
		t.Errorf("expected but not said: %s", w)
	}
}

func checkPlan(t *testing.T, c *suiteRule, p *rule.Plan) {
	t.Helper()
	same := func(what string, want, got []string) {
		if want != nil {
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s (-want +got)\n%s", what, d)
			}
		}
	}
	if c.Form != "" && p.Form.String() != c.Form {
		t.Errorf("form %s, want %s", p.Form, c.Form)
	}
	same("fields", c.Fields, p.Fields)
	same("cursor", c.Cursor, p.Cursor)
	same("upside", c.Upside, texts(p, p.Upside))
	same("downside", c.Downside, texts(p, p.Downside))
	same("update_state", c.UpdateState, texts(p, p.UpdateState))
	main := p.Downside
	if len(main) == 0 {
		main = p.Upside
	}
	same("args", c.Args, argTexts(main[0].Args))
	if c.Joined != nil && *c.Joined != (main[0].Insert != nil) {
		t.Errorf("rows may be joined: %v, want %v", main[0].Insert != nil, *c.Joined)
	}
	for _, all := range [][]rule.Statement{p.Upside, p.Downside, p.UpdateState} {
		for i := range all {
			checkStatement(t, p, &all[i])
		}
	}
}

func texts(p *rule.Plan, all []rule.Statement) (out []string) {
	for _, s := range all {
		if s.File == nil {
			out = append(out, s.SQL)
			continue
		}
		var names []string
		for _, f := range s.File.Fields {
			names = append(names, p.Fields[f])
		}
		out = append(out, s.File.Name+" "+string(s.File.Format)+" "+strings.Join(names, ","))
	}
	return out
}

func argTexts(args []rule.Arg) (out []string) {
	for _, a := range args {
		switch {
		case a.Source == rule.Field:
			out = append(out, a.Name)
		case a.Source == rule.Now && a.Name != "now":
			out = append(out, a.Name+":now")
		case a.Source == rule.State && a.Name == "":
			out = append(out, fmt.Sprintf("state.%d=%s", a.Field+1, shown(a.Value)))
		case a.Source == rule.State:
			out = append(out, fmt.Sprintf("state.%s=%s", a.Name, shown(a.Value)))
		case a.Source == rule.Fixed:
			out = append(out, "fixed="+shown(a.Value))
		default:
			out = append(out, a.Source.String())
		}
	}
	return out
}

func shown(v any) string {
	if b, ok := v.([]byte); ok {
		return fmt.Sprintf("%x", b)
	}
	return fmt.Sprint(v)
}

var quotedText = regexp.MustCompile("'(?:[^'\\\\]|\\\\.|'')*'|\"(?:[^\"\\\\]|\\\\.|\"\")*\"|`(?:[^`]|``)*`")

// checkStatement holds what is true of every statement: as many marks as
// arguments, and the parts of an insert are the insert.
func checkStatement(t *testing.T, p *rule.Plan, s *rule.Statement) {
	t.Helper()
	if n := strings.Count(quotedText.ReplaceAllString(s.SQL, ""), "?"); n != len(s.Args) {
		t.Errorf("%d marks and %d arguments in %s", n, len(s.Args), s.SQL)
	}
	if in := s.Insert; in != nil {
		if in.Head+in.Tuple+in.Tail != s.SQL {
			t.Errorf("the parts %+v are not %s", in, s.SQL)
		}
		if !strings.HasPrefix(in.Tuple, "(") || !strings.HasSuffix(in.Tuple, ")") || strings.Contains(in.Head, "?") {
			t.Errorf("odd parts %+v", in)
		}
	}
	vals, err := s.Bind(nil, &rule.Env{}, make([]any, len(p.Fields)))
	if err != nil || len(vals) != len(s.Args) {
		t.Errorf("Bind: %d values for %d arguments, %v", len(vals), len(s.Args), err)
	}
	if s.Start != nil {
		checkStatement(t, p, s.Start)
	}
}
