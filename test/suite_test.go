package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"syncgate/internal/rowset"
	"syncgate/rule"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

// suite is rule/testdata/rules.json: tables, rules, and the expected diagnostics of each rule.
type suite struct {
	Tables map[string]struct {
		rule.Table
		DDL string `json:"ddl"`
	} `json:"tables"`
	Rules []suiteRule `json:"rules"`
}

type suiteRule struct {
	Name    string         `json:"name"`
	Columns map[string]any `json:"row"`
	NoFacts bool           `json:"no_facts"`
	Say     []string       `json:"say"`     // "SG0104 error 3:17", the place where it matters
	Refused []string       `json:"refused"` // the same of what PREPARE finds
}

// suiteRows are in the tables before each rule runs. One is of tomorrow; generated statements must not read it yet.
var suiteRows = []string{
	"INSERT INTO phishing_log (url, ip, plate, update_time) VALUES ('url 1', '10.0.0.1', 'new', '2026-01-01'), ('b', " +
		"NULL, 'new', NOW(6) + INTERVAL 1 DAY), ('~', '', '', '2026-01-02')",
	"INSERT INTO black_list VALUES ('domain 1', '2026-01-01'), ('b.cn', '2026-01-01'), ('z', '2026-01-02 03:04:05')",
	"INSERT INTO bare_log VALUES ('msg 1', '2026-01-01'), ('b', NULL)",
	"INSERT INTO only_keys VALUES ('point-01', 1), ('point_no 1', 1)",
	"INSERT INTO counter VALUES (1, 1), (5, 5)",
	"INSERT INTO kinds VALUES ('a', 1.00, '1', 1, '2026-01-01'), ('z', 2.50, 0xff, NULL, NULL)",
	"INSERT INTO computed (id, a) VALUES (1, 1), (7, 7)",
	"INSERT INTO flags VALUES (1, 1), (2, NULL)",
	"INSERT INTO `odd names` VALUES (1, 'one', 1, 1), (9, NULL, NULL, NULL)",
}

// TestSuiteOnServer treats each rule of the suite like a DBA's row: it is written into sync_control, compiled against
// the server's own facts, prepared there, and run over rows. testdata/suite_effects.json holds the expected effects.
func TestSuiteOnServer(t *testing.T) {
	t.Parallel()
	dsn := localdbtest.New(t)
	s := &suiteRun{db: Open(t, dsn), files: t.TempDir(), facts: map[string]*rule.Table{}}
	readJSON(t, filepath.Join(Root(t), "rule", "testdata", "rules.json"), &s.suite)
	effects := map[string]string{}
	readJSON(t, filepath.Join("testdata", "suite_effects.json"), &effects)
	var err error
	if s.store, err = store.Open(t.Context(),
		store.Options{DSN: dsn, AcceptUnsafe: true, FileRoot: s.files}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	if err := s.store.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.makeTables(t)
	rows, refused := s.insertRules(t)
	for i := range s.suite.Rules {
		c := &s.suite.Rules[i]
		want, stated := effects[c.Name]
		delete(effects, c.Name)
		t.Run(c.Name, func(t *testing.T) {
			got := ""
			if refused[i] != nil { // a CHECK may refuse only what the compiler would
				if !strings.Contains(strings.Join(c.Say, " "), "error") {
					t.Errorf("sync_control refuses what the suite finds no error in: %v", refused[i])
				}
			} else if plan := s.compile(t, c, rows[i]); plan != nil {
				got = s.effect(t, plan)
			}
			switch {
			case stated && got != want:
				t.Errorf("effect %q, want %q", got, want)
			case !stated && got != "":
				t.Logf("no effect is stated for this rule: %q: %q", c.Name, got)
			}
		})
	}
	for name := range effects {
		t.Errorf("an effect is stated for a rule that the suite has not: %s", name)
	}
}

func readJSON(t testing.TB, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

type suiteRun struct {
	suite suite
	store *store.Store
	db    *DB
	files string
	facts map[string]*rule.Table
}

// makeTables makes the tables and checks that the server has the facts that the suite states.
func (s *suiteRun) makeTables(t *testing.T) {
	t.Helper()
	for name, table := range s.suite.Tables {
		s.db.Must(table.DDL)
		facts, err := s.store.Table(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&table.Table, facts, cmpopts.EquateEmpty(),
			cmpopts.IgnoreFields(rule.Column{}, "Collation", "OnUpdate")); d != "" {
			t.Errorf("the server describes %s in another way (-suite +server)\n%s", name, d)
		}
		s.facts[name] = facts
	}
	for _, query := range suiteRows {
		s.db.Must(query)
	}
}

// insertRules writes the suite's rows into sync_control and reads them as the server does. For each rule it returns the
// row or the database's error.
func (s *suiteRun) insertRules(t *testing.T) (rows map[int]rule.Row, refused map[int]error) {
	t.Helper()
	tx, err := s.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() // after Commit it does nothing
	rows, refused = map[int]rule.Row{}, map[int]error{}
	for i := range s.suite.Rules {
		row := map[string]any{"id": i + 1, "sync_table": "phishing_log", "sync_type": rule.Upload,
			"sync_user": rule.Server, "sync_point_no": pointName}
		maps.Copy(row, s.suite.Rules[i].Columns)
		names := slices.Sorted(maps.Keys(row))
		values := make([]any, len(names))
		for k, name := range names {
			values[k] = row[name]
		}
		if _, err := tx.Exec("INSERT INTO sync_control ("+strings.Join(names, ", ")+") VALUES (?"+
			strings.Repeat(", ?", len(names)-1)+")", values...); err != nil {
			refused[i] = err
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	all, err := s.store.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range all {
		rows[int(row.ID)-1] = row
	}
	return rows, refused
}

// compile returns the plan of a rule, or nil when a diagnostic is an error. It compares the diagnostics with the suite.
func (s *suiteRun) compile(t *testing.T, c *suiteRule, row rule.Row) *rule.Plan {
	t.Helper()
	facts := s.facts[row.Table]
	if c.NoFacts {
		facts = nil
	}
	plan, ds := rule.Compile(row, facts)
	checkSaid(t, c.Say, ds)
	draft, _ := rule.Draft(row, facts)
	refused, err := s.store.CheckPlan(t.Context(), draft, facts)
	if err != nil {
		t.Fatal(err)
	}
	checkSaid(t, c.Refused, refused)
	for _, d := range refused {
		if d.Severity != rule.Error || d.RuleID != row.ID || d.Column != "sync_sql" || d.Section == "" || d.Line == 0 ||
			d.Col == 0 || d.Message == "" {
			t.Errorf("PREPARE's refusal has no place: %s", d)
		}
	}
	if len(refused) > 0 {
		return nil
	}
	return plan
}

// checkSaid compares diagnostics, in any order, with "code severity" and, where given, the position.
func checkSaid(t *testing.T, want []string, ds []rule.Diagnostic) {
	t.Helper()
	left := slices.Clone(want)
	for _, d := range ds {
		short := fmt.Sprintf("%s %s", d.Code, d.Severity)
		at := slices.IndexFunc(left, func(w string) bool {
			return w == short || w == fmt.Sprintf("%s %d:%d", short, d.Line, d.Col)
		})
		if at < 0 {
			t.Errorf("said but not expected: %s", d)
			continue
		}
		left = slices.Delete(left, at, at+1)
	}
	if len(left) > 0 {
		t.Errorf("expected but not said: %v", left)
	}
}

// effect runs a plan in a transaction, rolls it back and returns the effects: rows read by each upside statement, rows
// taken by each operation, quarantined rows with their reasons, the growth of the table, and the lines of a file.
func (s *suiteRun) effect(t *testing.T, p *rule.Plan) string {
	t.Helper()
	tx, err := s.store.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() // it may have been committed
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	env := rule.Env{Point: pointName, Now: now, Until: now, Since: now.Add(-p.Period), Limit: 2}
	var did []string
	if len(p.Upside) > 0 {
		var sink countSink
		if _, err := tx.Read(t.Context(), p, env, &sink); err != nil {
			t.Fatal(err)
		}
		did = append(did, fmt.Sprintf("read %v", sink.rows))
	}
	rows := s.rowsFor(p)
	before := s.size(t, tx, p.Row.Table)
	if len(p.Downside) > 0 {
		out, err := tx.Apply(t.Context(), p, rows, env)
		if refused := (*store.SQLError)(nil); errors.As(err, &refused) {
			return fmt.Sprintf("fails: %d", refused.Code)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range slices.Sorted(maps.Keys(out.ByOp)) {
			did = append(did, fmt.Sprintf("%s %d", op, out.ByOp[op]))
		}
		for _, q := range out.Quarantined {
			did = append(did, fmt.Sprintf("aside %d: %d", q.Row, q.Code))
		}
	}
	if len(p.UpdateState) > 0 {
		if err := tx.UpdateState(t.Context(), p, rows, env); err != nil {
			t.Fatal(err)
		}
		did = append(did, "state")
	}
	if grown := s.size(t, tx, p.Row.Table) - before; grown != 0 {
		did = append(did, fmt.Sprintf("%+d", grown))
	}
	if slices.ContainsFunc(p.Downside, func(st rule.Statement) bool { return st.Op == rule.OpFile }) {
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		did = append(did, s.written(t, p)...)
	}
	return strings.Join(did, ", ")
}

// written returns the files that a plan has written and their lines, and removes the files.
func (s *suiteRun) written(t *testing.T, p *rule.Plan) (all []string) {
	t.Helper()
	for _, st := range p.Downside {
		if st.File == nil {
			continue
		}
		path := filepath.Join(s.files, filepath.FromSlash(st.File.NameFor(pointName)))
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.Remove(path)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d lines in %s", strings.Count(string(text), "\n"), st.File.Name))
	}
	return all
}

func (s *suiteRun) size(t *testing.T, tx *store.Tx, table string) (n int) {
	t.Helper()
	if s.facts[table] == nil {
		return 0
	}
	if err := tx.One(t.Context(), "SELECT COUNT(*) FROM `"+table+"`", nil, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// rowsFor returns three rows for a plan: the first has the key of an existing row, the others are new.
func (s *suiteRun) rowsFor(p *rule.Plan) rowset.Rows {
	rows := rowset.Rows{Columns: p.Fields}
	facts := s.facts[p.Row.Table]
	for n := 1; n <= 3; n++ {
		for _, field := range p.Fields {
			rows.Values = append(rows.Values, suiteValue(facts.Column(field), field, n))
		}
	}
	return rows
}

func suiteValue(c *rule.Column, field string, n int) any {
	kind := "varchar"
	if c != nil {
		kind = c.Type
	}
	switch kind {
	case "int", "bigint":
		return int64(n)
	case "decimal":
		return fmt.Sprintf("%d.00", n)
	case "enum":
		return "a"
	case "bit":
		return []byte{byte(n)}
	case "varbinary":
		return fmt.Append(nil, n)
	case "datetime", "timestamp":
		return fmt.Sprintf("2026-01-0%d 00:00:00", n)
	}
	return fmt.Sprintf("%s %d", field, n)
}

// countSink counts the rows of each statement.
type countSink struct{ rows []int }

func (s *countSink) Begin(int, []rowset.Column) error { s.rows = append(s.rows, 0); return nil }
func (s *countSink) Row([]any) error                  { s.rows[len(s.rows)-1]++; return nil }
