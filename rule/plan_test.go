package rule_test

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

func compile(t *testing.T, r rule.Row, tab *rule.Table) *rule.Plan {
	t.Helper()
	p, ds := rule.Compile(r, tab)
	if p == nil {
		t.Fatal(ds)
	}
	return p
}

func TestBind(t *testing.T) {
	p := compile(t, rule.Row{Table: "t", Type: rule.Upload, User: rule.Client, PointNo: "p", Range: rule.Period,
		RangeValue: "hour:6", UpdateState: true,
		Field: "a, b", SQL: `-- upside
select a, b from t where u > :since and u <= :until and a > :state.a and a > :state.1 and p = :point_no order by a limit 5
-- update_state
update t set u = :now where b = :b and a = :state.A`}, nil)
	zone := time.FixedZone("", 8*3600)
	now := time.Date(2026, 3, 1, 1, 2, 3, 450_000_999, zone)
	since, until := p.Window(now)
	env := &rule.Env{State: []rowset.StateItem{{Name: "a", Value: int64(7)}}, Since: since, Until: until, Now: now,
		Point: "p-1"}
	got, err := p.Upside[0].Bind([]any{"kept"}, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]any{"kept", "2026-02-28 19:02:03.45", "2026-03-01 01:02:03.45", int64(7), int64(7), "p-1"},
		got); d != "" {
		t.Error(d)
	}
	got, err = p.UpdateState[0].Bind(nil, env, []any{"x", nil})
	if d := cmp.Diff([]any{"2026-03-01 01:02:03.45", nil, int64(7)}, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := p.UpdateState[0].Bind(nil, env, []any{"x"}); !errors.Is(err, rule.ErrRowShape) {
		t.Errorf("a short row: %v", err)
	}
	if p.Upside[0].PerRow() || !p.UpdateState[0].PerRow() || p.Paged() {
		t.Error("only update_state uses the row in hand, and nothing is paged")
	}
}

func TestBindLimitAndInitialState(t *testing.T) {
	s := loadSuite(t)
	p := compile(t, rule.Row{Table: "black_list", Type: rule.Download, User: rule.Server, PointNo: "p"},
		&s.Tables["black_list"].Table)
	for _, tt := range []struct{ limit, want int64 }{{0, rule.DefaultLimit}, {-1, rule.DefaultLimit}, {20, 20}} {
		got, err := p.Upside[0].Bind(nil, &rule.Env{Limit: int(tt.limit), LocalBound: "bound"}, nil)
		if d := cmp.Diff([]any{"1970-01-01 00:00:00", "1970-01-01 00:00:00", "", "bound", tt.want}, got); d != "" ||
			err != nil {
			t.Error(d, err)
		}
	}
	got, _ := p.Load.Start.Bind(nil, &rule.Env{Limit: 3, Now: time.Unix(0, 0).UTC()}, nil)
	if cmp.Diff([]any{"1970-01-01 00:00:00", int64(3)}, got) != "" {
		t.Errorf("the first page is bound to %v", got)
	}
	if p.Lag != rule.DefaultLag {
		t.Errorf("lag %s", p.Lag)
	}
}

// A plan does not depend on anything but the row and the facts.
func TestCompileIsRepeatable(t *testing.T) {
	s := loadSuite(t)
	for i := range s.Rules {
		c := &s.Rules[i]
		p, ds := rule.Compile(c.row(), s.facts(c))
		q, es := rule.Compile(c.row(), s.facts(c))
		if d := cmp.Diff(ds, es); d != "" {
			t.Errorf("%s\n%s", c.Name, d)
		}
		if p != nil && cmp.Diff(statements(p), statements(q)) != "" {
			t.Errorf("%s: another plan", c.Name)
		}
	}
}

func TestRows(t *testing.T) {
	r := rowset.Rows{Columns: []string{"a", "b"}, Values: []any{1, 2, 3, 4}}
	if r.Len() != 2 || cmp.Diff([]any{3, 4}, r.Row(1)) != "" || (rowset.Rows{}).Len() != 0 {
		t.Errorf("%d rows, the second %v", r.Len(), r.Row(1))
	}
}

func TestDiagnosticText(t *testing.T) {
	d := rule.Diagnostic{Code: rule.UnknownColumn, Severity: rule.Error, RuleID: 12, Column: "sync_sql",
		Section: "upside", Line: 3, Col: 17,
		Message: "unknown column plat", Fix: "did you mean plate?"}
	if got, want := d.String(), "sync_control id=12 sync_sql[upside] 3:17 error SG0104 unknown column plat; "+
		"did you mean plate?"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	text, err := json.Marshal(d)
	want := `{"code":"SG0104","severity":"error","rule_id":12,"column":"sync_sql",` +
		`"section":"upside","line":3,"col":17,"message":"unknown column plat","fix":"did you mean plate?"}`
	if err != nil || string(text) != want {
		t.Errorf("%s %v", text, err)
	}
}

func TestTooLarge(t *testing.T) {
	p, ds := rule.Compile(rule.Row{ID: 12, Table: "t", Type: rule.Upload, User: rule.Server, PointNo: "p",
		SQL: strings.Repeat(" ", 1<<20)}, nil)
	if p != nil {
		t.Error("a rule of a megabyte was read")
	}
	checkDiagnostics(t, []string{"SG0142 error"}, ds)
}

func TestInit(t *testing.T) {
	s := loadSuite(t)
	tab := &s.Tables["phishing_log"].Table
	rows := rule.Init("phishing_log", "point-01", "", "", rule.Upload, rule.Download)
	if len(rows) != 4 {
		t.Fatalf("%d rows", len(rows))
	}
	for i := range rows {
		rows[i].ID = uint64(i + 1)
		p, ds := rule.Compile(rows[i], tab)
		if worst, _ := rule.Worst(ds); p == nil || worst > rule.Info {
			t.Errorf("%+v: %v", rows[i], ds)
		}
	}
	if ds := rule.CheckSet(rows, func(string) *rule.Table { return tab }); len(ds) > 0 {
		t.Error(ds)
	}
	names := func(columns ...rule.Column) string { return (&rule.Table{Columns: columns}).UpdateColumn() }
	set := rule.Column{Name: "updated_at", Type: "timestamp", OnUpdate: true}
	own := rule.Column{Name: "update_time", Type: "datetime"}
	other := rule.Column{Name: "seen", Type: "datetime", OnUpdate: true}
	if got := [4]string{names(set), names(set, own), names(set, other), names(own)}; got != [4]string{"updated_at"} {
		t.Errorf("columns that are set at each update: %q", got)
	}
}

func TestCheckSet(t *testing.T) {
	row := func(id uint64, typ, user, point string) rule.Row {
		return rule.Row{ID: id, Table: "t", Type: typ, User: user, PointNo: point, Enabled: true}
	}
	with := func(r rule.Row, change func(*rule.Row)) rule.Row { change(&r); return r }
	up, down, srv, cli := rule.Upload, rule.Download, rule.Server, rule.Client
	child := func(id uint64, user, point string) rule.Row {
		return with(row(id, up, user, point), func(r *rule.Row) { r.Table = "child" })
	}
	for _, tt := range []struct {
		name string
		rows []rule.Row
		want []string
	}{
		{"a child without its parent", []rule.Row{child(1, srv, "p"), child(2, cli, "p")}, []string{"1 SG0148 info"}},
		{"a child with its parent for all", []rule.Row{child(1, srv, "p"), child(2, cli, "p"), row(3, up, srv, "*"),
			row(4, up, cli, "*")}, nil},
		{"a pair", []rule.Row{row(1, up, srv, "p"), row(2, up, cli, "p")}, nil},
		{"a pair through *", []rule.Row{row(1, up, srv, "*"), row(2, up, cli, "p")}, nil},
		{"a client alone", []rule.Row{row(1, up, cli, "p")}, []string{"1 SG0131 warning"}},
		{"a server alone", []rule.Row{row(1, down, srv, "p")}, []string{"1 SG0131 info"}},
		{"another direction is no peer", []rule.Row{row(1, up, srv, "p"), row(2, down, cli, "p")},
			[]string{"1 SG0131 info", "2 SG0131 warning"}},
		{"another point is no peer", []rule.Row{row(1, up, srv, "q"), row(2, up, cli, "p")},
			[]string{"1 SG0131 info", "2 SG0131 warning"}},
		{"two for one key", []rule.Row{row(1, up, srv, "p"), row(2, up, cli, "p"), row(3, up, srv, "p")},
			[]string{"3 SG0132 error"}},
		{"a disabled one does not count", []rule.Row{row(1, up, srv, "p"), row(2, up, cli, "p"),
			with(row(3, up, srv, "p"), func(r *rule.Row) { r.Enabled = false })}, nil},
		{"the same fields in another order", []rule.Row{with(row(1, up, srv, "p"),
			func(r *rule.Row) { r.Field = "a,b" }),
			with(row(2, up, cli, "p"), func(r *rule.Row) { r.Field = "('b','A')" })}, nil},
		{"other fields", []rule.Row{with(row(1, up, srv, "p"), func(r *rule.Row) { r.Field = "a,b" }),
			with(row(2, up, cli, "p"), func(r *rule.Row) { r.Field = "a" })}, []string{"2 SG0138 warning"}},
		{"a select of less than all", []rule.Row{row(1, up, srv, "p"),
			with(row(2, up, cli, "p"), func(r *rule.Row) { r.SQL = "select a from t where a > 0" })},
			[]string{"2 SG0138 warning"}},
		{"less than all the other way", []rule.Row{with(row(1, down, srv, "p"),
			func(r *rule.Row) { r.SQL = "select a from t where a > 0" }), row(2, down, cli, "p")},
			[]string{"2 SG0138 warning"}},
		{"a select of everything", []rule.Row{row(1, up, srv, "p"),
			with(row(2, up, cli, "p"), func(r *rule.Row) { r.SQL = "select * from t where a > 0" })}, nil},
		{"names that the database tells apart by case",
			[]rule.Row{row(1, up, srv, "p"), row(2, up, cli, "p"),
				with(row(3, up, srv, "p"), func(r *rule.Row) { r.Table = "T" }),
				with(row(4, up, cli, "p"), func(r *rule.Row) { r.Table = "T" })}, nil},
		{"names that the database takes for one", []rule.Row{row(1, up, srv, "p"), row(2, up, cli, "p"),
			with(row(3, up, srv, "p"), func(r *rule.Row) { r.Table = "t.t" })}, []string{"3 SG0132 error"}},
		{"round and round", []rule.Row{with(row(1, up, srv, "p"), func(r *rule.Row) { r.UpdateTime = true }),
			row(2, up, cli, "p"), row(3, down, srv, "p"), row(4, down, cli, "p")}, []string{"1 SG0133 warning"}},
	} {
		var got []string
		for _, d := range rule.CheckSet(tt.rows, func(name string) *rule.Table {
			if name == "t" || name == "t.t" {
				return &rule.Table{Name: "t", Columns: []rule.Column{{Name: "a", Type: "int"},
					{Name: "b", Type: "int", Nullable: true}},
					Keys: []rule.Key{{Name: "PRIMARY", Columns: []string{"a"}, Unique: true, Primary: true}}}
			}
			if name == "child" {
				return &rule.Table{Name: "child", Columns: []rule.Column{{Name: "a", Type: "int"}},
					Parents: []string{"child", "T"},
					Keys:    []rule.Key{{Name: "PRIMARY", Columns: []string{"a"}, Unique: true, Primary: true}}}
			}
			return nil
		}) {
			got = append(got, strings.Join(strings.Fields(d.String())[1:], " "))
		}
		if len(got) != len(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
			continue
		}
		for i, w := range tt.want {
			id, rest, _ := strings.Cut(w, " ")
			code, severity, _ := strings.Cut(rest, " ")
			if !strings.HasPrefix(got[i], "id="+id+" ") || !strings.Contains(got[i], " "+severity+" "+code+" ") {
				t.Errorf("%s: %s, want %s", tt.name, got[i], w)
			}
		}
	}
}

// A refusal of PREPARE gets its place in sync_sql.
func TestCheck(t *testing.T) {
	s := loadSuite(t)
	tab := &s.Tables["phishing_log"].Table
	p := compile(t, rule.Row{ID: 12, Table: "phishing_log", Type: rule.Upload, User: rule.Client, PointNo: "p",
		SQL: "-- upside\nselect l.url\nfrom phishing_log l, odd o where o.ulr = l.url limt 3"}, tab)
	for _, tt := range []struct {
		number  uint16
		message string
		want    string
	}{
		{1054, "Unknown column 'o.ulr' in 'WHERE'",
			"sync_control id=12 sync_sql[upside] 3:36 error SG0104 unknown column o.ulr; did you mean url?"},
		{1146, "Table 'centre.odd' doesn't exist",
			"sync_control id=12 sync_sql[upside] 3:22 error SG0103 unknown table odd"},
		{1064, "You have an error in your SQL syntax; check the manual for the right syntax to use near 'limt 3' at " +
			"line 2",
			"sync_control id=12 sync_sql[upside] 3:48 error SG0102 the database cannot read the statement at limt 3"},
		{1305, "FUNCTION centre.f does not exist",
			"sync_control id=12 sync_sql[upside] 2:1 error SG0141 FUNCTION centre.f does not exist"},
	} {
		ds, err := p.Check(tab, func(sql string) (*rule.Refusal, error) {
			if sql != p.Upside[0].SQL {
				return nil, nil
			}
			return &rule.Refusal{Number: tt.number, Message: tt.message}, nil
		})
		if err != nil || len(ds) != 1 || ds[0].String() != tt.want {
			t.Errorf("got  %s %v\nwant %s", ds, err, tt.want)
		}
	}
}

// PREPARE names one unknown column at a time. It is asked again until it knows them all, or says what was put in their
// place.
func TestCheckAsksAgain(t *testing.T) {
	s := loadSuite(t)
	tab := &s.Tables["phishing_log"].Table
	p := compile(t, rule.Row{ID: 12, Table: "phishing_log", Type: rule.Download, User: rule.Server, PointNo: "p",
		SQL: "select urll, `ipp` from phishing_log where tilte > :state.title"}, tab)
	var asked []string
	unknown := []string{"urll", "ipp", "tilte", "title"}
	ds, err := p.Check(tab, func(sql string) (*rule.Refusal, error) {
		name := unknown[len(asked)]
		asked = append(asked, sql)
		return &rule.Refusal{Number: 1054, Message: "Unknown column '" + name + "' in 'field list'"}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	checkDiagnostics(t, []string{"SG0104 error 1:8", "SG0104 error 1:14", "SG0104 error 1:44"}, ds)
	if d := cmp.Diff("select `url`, `ip` from phishing_log where `title` > ?", asked[len(asked)-1]); d != "" {
		t.Error(d)
	}
	gone := errors.New("the database is gone")
	if _, err := p.Check(tab, func(string) (*rule.Refusal, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Error(err)
	}
}

// Every number is where it was promised, and docs/rules.md tells its cause and cure.
func TestCodes(t *testing.T) {
	if rule.UnknownColumn.String() != "SG0104" || rule.BadColumn != 100 || rule.SharedKey != 145 {
		t.Error("numbers have moved")
	}
	doc, err := os.ReadFile("../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	for c := rule.BadColumn; c <= rule.UnseenDeletes; c++ {
		if !strings.Contains(string(doc), "\n| "+c.String()+" | ") {
			t.Errorf("docs/rules.md does not explain %s", c)
		}
	}
}

// A table of another database keeps its qualifier, each part in its own quotes.
func TestOtherDatabase(t *testing.T) {
	s := loadSuite(t)
	facts := s.Tables["only_keys"].Table
	facts.Schema = "centre"
	row := rule.Row{ID: 12, Table: "centre.only_keys", Type: rule.Upload, User: rule.Server, PointNo: "p"}
	if got := compile(t, row, &facts).Downside[0].Insert.Head; got != "insert into "+
		"`centre`.`only_keys` (`point_no`, `id`)\nvalues " {
		t.Error(got)
	}
	row.SQL = "insert into centre.only_keys (id) values (:id) on duplicate key update id = :id"
	_, ds := rule.Compile(row, &facts)
	checkDiagnostics(t, []string{"SG0144 warning"}, ds)
}

// A carried NULL, as max() of an empty table gives, is nothing carried.
func TestCarriedNull(t *testing.T) {
	for _, sql := range []string{"select a from t where update_time > :state.m",
		"select a from t where update_time > :state.1"} {
		p := compile(t, rule.Row{Table: "t", Type: rule.Download, User: rule.Server, PointNo: "p", SQL: sql}, nil)
		got, err := p.Upside[0].Bind(nil, &rule.Env{State: []rowset.StateItem{{Name: "m"}}}, nil)
		if d := cmp.Diff([]any{"1970-01-01 00:00:00"}, got); d != "" || err != nil {
			t.Error(d, err)
		}
	}
}

// A rule with a thousand mistakes is answered with a hundred.
func TestManyMistakes(t *testing.T) {
	s := loadSuite(t)
	sql := "select " + strings.Repeat("sleep(), ", 20000) + "url from phishing_log where url > ''"
	p, ds := rule.Compile(rule.Row{ID: 12, Table: "phishing_log", Type: rule.Upload, User: rule.Client, PointNo: "p",
		Field: "url", SQL: sql}, &s.Tables["phishing_log"].Table)
	if p != nil || len(ds) != 100 {
		t.Errorf("%d diagnostics, plan %v", len(ds), p != nil)
	}
}

// Only what writes rows needs a table that rolls back.
func TestNoRollback(t *testing.T) {
	table := &rule.Table{Name: "t", Engine: "MyISAM", NoRollback: true,
		Columns: []rule.Column{{Name: "id", Type: "int"}},
		Keys:    []rule.Key{{Name: "PRIMARY", Columns: []string{"id"}, Unique: true, Primary: true}}}
	for typ, want := range map[string]bool{rule.Upload: true, rule.Download: false} {
		_, ds := rule.Compile(rule.Row{ID: 1, Table: "t", Type: typ, User: rule.Server, PointNo: rule.AnyPoint,
			Enabled: true}, table)
		said := slices.ContainsFunc(ds, func(d rule.Diagnostic) bool {
			return d.Code == rule.NoRollback && d.Severity == rule.Error
		})
		if said != want {
			t.Errorf("%s: %v", typ, ds)
		}
	}
}
