package ruleset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"syncgate/rule"
	"syncgate/store"
)

// desk is a RuleSource and a StatusSink that holds still, so that failures can be had at each step. What a database
// makes of rules is tried where one is.
type desk struct {
	rows    []rule.Row
	tables  map[string]*rule.Table
	refuses string // Check refuses statements with this in it

	failing map[string]bool // by method
	asked   map[string]int
	states  []store.RuleStatus
	runs    []store.RuleRuns

	differences []store.Difference
}

func (d *desk) ask(method string) error {
	d.asked[method]++
	if d.failing[method] {
		return store.ErrUnavailable
	}
	return nil
}

func (d *desk) RulesVersion(context.Context) (uint64, error) {
	return uint64(crc32.ChecksumIEEE(fmt.Append(nil, d.rows))), d.ask("version")
}

func (d *desk) Rules(context.Context) ([]rule.Row, error) {
	return slices.Clone(d.rows), d.ask("rules")
}

func (d *desk) Table(_ context.Context, name string) (*rule.Table, error) {
	if err := d.ask("table"); err != nil {
		return nil, err
	}
	if t := d.tables[name]; t != nil {
		return t, nil
	}
	return nil, store.ErrNoTable
}

func (d *desk) SameColumns(_ context.Context, t *rule.Table) (bool, error) {
	return d.tables[t.Name] == t, d.ask("columns")
}

func (d *desk) CheckPlan(_ context.Context, p *rule.Plan, _ *rule.Table) ([]rule.Diagnostic, error) {
	if d.refuses != "" && strings.Contains(p.Row.SQL, d.refuses) {
		return []rule.Diagnostic{{Code: rule.RefusedByDatabase, Severity: rule.Error, RuleID: p.Row.ID}}, d.ask("check")
	}
	return nil, d.ask("check")
}

func (d *desk) SaveRuleStatus(_ context.Context, s []store.RuleStatus) error {
	if err := d.ask("states"); err != nil {
		return err
	}
	d.states = append(d.states, s...)
	return nil
}

func (d *desk) AddRuleRuns(_ context.Context, r []store.RuleRuns) error {
	if err := d.ask("runs"); err != nil {
		return err
	}
	d.runs = append(d.runs, r...)
	return nil
}

func (d *desk) RuleDifferences(context.Context) ([]store.Difference, error) {
	return d.differences, d.ask("differences")
}

func (d *desk) SaveRuleDifferences(_ context.Context, all []store.Difference) error {
	d.differences = append(d.differences, all...)
	return d.ask("differences")
}

type setWorld struct {
	*testing.T
	*desk
	*Set
	now time.Time
	log bytes.Buffer
}

func newSetWorld(t *testing.T, rows ...rule.Row) *setWorld {
	w := &setWorld{T: t, now: time.Unix(1e9, 0), desk: &desk{rows: rows, failing: map[string]bool{},
		asked: map[string]int{},
		tables: map[string]*rule.Table{"hits": {Name: "hits", Engine: "InnoDB", Columns: []rule.Column{
			{Name: "id", Type: "bigint", ColumnType: "bigint(20)"},
			{Name: "url", Type: "varchar", ColumnType: "varchar(20)"}},
			Keys: []rule.Key{{Name: "PRIMARY", Columns: []string{"id"}, Unique: true, Primary: true}}}}}}
	var err error
	w.Set, err = New(Options{Source: w.desk, Sink: w.desk, Side: rule.Server, Clock: func() time.Time { return w.now },
		Logger: zerolog.New(&w.log)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *setWorld) refresh() {
	w.Helper()
	if err := w.Refresh(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// inForce is the SQL of the rule that Find gives, or the error.
func (w *setWorld) inForce(point string) string {
	e, err := w.Find("hits", rule.Upload, point)
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(e.Row.SQL, "-- downside: insert\n")
}

func row(id uint64, point, values string) rule.Row {
	return rule.Row{ID: id, Table: "hits", Type: rule.Upload, User: rule.Server, PointNo: point, Enabled: true,
		Field: `["id", "url"]`,
		SQL:   "-- downside: insert\ninsert into hits (id, url) values (" + values + ")"}
}

func sql(values string) string { return "insert into hits (id, url) values (" + values + ")" }

func TestFindPrefersThePointsOwnRow(t *testing.T) {
	off := row(3, "off", ":id, 'off'")
	off.Enabled = false
	w := newSetWorld(t, row(1, "*", ":id, 'all'"), row(2, "own", ":id, 'own'"), off, row(4, "broken", ":id, :none"))
	if got := w.inForce("own"); !strings.HasPrefix(got, store.ErrUnavailable.Error()) {
		t.Errorf("before the rules were read: %s", got)
	}
	w.refresh()
	for point, want := range map[string]string{
		"anybody": sql(":id, 'all'"), "own": sql(":id, 'own'"), "off": ErrDisabled.Error(), "*": sql(":id, 'all'"),
	} {
		if got := w.inForce(point); got != want {
			t.Errorf("%s: %s, want %s", point, got, want)
		}
	}
	if got := w.inForce("broken"); !strings.HasPrefix(got,
		"the rule is broken: sync_control id=4 sync_sql[downside] 2:41 error SG0112") {
		t.Error(got)
	}
	if _, err := w.Find("hits", rule.Download, "own"); !errors.Is(err, ErrNoRule) {
		t.Error(err)
	}
}

// A name in another case stands for the rule's table only where no rule has that very name.
func TestSpelled(t *testing.T) {
	row := func(id uint64, table string) rule.Row {
		return rule.Row{ID: id, Table: table, Type: rule.Upload, User: rule.Server, PointNo: rule.AnyPoint,
			Enabled: true}
	}
	w := newSetWorld(t, row(1, "Log"), row(2, "log"), row(3, "Goods"), row(4, "hits"))
	w.refresh()
	for asked, want := range map[string]string{"Log": "Log", "log": "log", "LOG": "log", "goods": "Goods",
		"HITS ": "hits", "other": "other"} {
		if got := w.Spelled(asked, rule.Upload, "p"); got != want {
			t.Errorf("%q is %q, want %q", asked, got, want)
		}
	}
	if w.Lookup("goods", rule.Upload, "p") != nil {
		t.Error("Lookup takes another case for the same")
	}
}

func TestClientRules(t *testing.T) {
	client := func(id uint64, table, point, text string) rule.Row {
		return rule.Row{ID: id, Table: table, Type: rule.Upload, User: rule.Client, PointNo: point, Enabled: true,
			SQL: text}
	}
	broken := client(4, "d", "*", "-- upside\ndrop table d")
	off := client(5, "a", "p3", "")
	off.Enabled = false
	w := newSetWorld(t, client(1, "a", "*", ""), client(2, "b", "*", ""), client(3, "a", "p1", ""), broken, off,
		row(6, "*", ":id, :url"))
	if _, _, err := w.Client("p1"); !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
	w.refresh()
	for point, want := range map[string][]uint64{"p1": {2, 3}, "p2": {1, 2}, "p3": {2}} {
		version, rows, err := w.Client(point)
		var ids []uint64
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		if err != nil || version != w.Version() || !slices.Equal(ids, want) {
			t.Errorf("%s has %v at %d, %v; want %v", point, ids, version, err, want)
		}
	}
}

func TestOnlyWhatChangedIsCompiled(t *testing.T) {
	w := newSetWorld(t, row(1, "*", ":id, :url"), row(2, "p", ":id, :url"))
	w.refresh()
	w.refresh()
	if w.asked["rules"] != 1 || w.asked["check"] != 2 || w.asked["version"] != 2 {
		t.Errorf("asked %v", w.asked)
	}
	w.rows[1].Note = "edited"
	w.refresh()
	if w.asked["rules"] != 2 || w.asked["check"] != 3 {
		t.Errorf("asked %v after an edit", w.asked)
	}
	w.now = w.now.Add(time.Minute) // what did not change is compared with its table, and not compiled
	w.refresh()
	if w.asked["rules"] != 3 || w.asked["check"] != 3 {
		t.Errorf("asked %v after a minute", w.asked)
	}
	if got := len(w.states); got != 3 {
		t.Errorf("%d states were recorded", got)
	}
}

func TestTwoRowsForOneKey(t *testing.T) {
	w := newSetWorld(t, row(1, "*", ":id, 'first'"), row(2, "*", ":id, 'second'"))
	w.refresh()
	if got := w.inForce("p"); got != sql(":id, 'first'") {
		t.Error(got)
	}
	if w.Count(store.RuleOK) != 1 || w.Count(store.RuleBroken) != 1 || !strings.Contains(w.log.String(), "SG0132") {
		t.Errorf("the second row is not told: %s", &w.log)
	}
	w.rows = w.rows[1:]
	w.refresh()
	if got := w.inForce("p"); got != sql(":id, 'second'") || w.Count(store.RuleBroken) != 0 {
		t.Error(got)
	}
}

func TestLastGoodVersionStays(t *testing.T) {
	w := newSetWorld(t, row(1, "*", ":id, 'good'"))
	w.refresh()
	w.refuses = "bad"
	w.rows[0].SQL = row(1, "*", ":id, bad(1)").SQL
	for range 3 {
		w.refresh()
		w.now = w.now.Add(time.Minute)
		if got := w.inForce("p"); got != sql(":id, 'good'") || w.Count(store.RuleStale) != 1 {
			t.Fatal(got)
		}
	}
	if len(w.states) != 2 || w.states[1].State != store.RuleStale ||
		w.states[1].Problem.Code != rule.RefusedByDatabase {
		t.Errorf("%+v", w.states)
	}
	w.rows[0].Enabled = false
	w.refresh()
	w.rows[0].Enabled = true
	w.rows[0].Note = "on again"
	w.refresh()
	if got := w.inForce("p"); !strings.HasPrefix(got, "the rule is broken") {
		t.Errorf("a rule that was switched off had no good version left, and yet: %s", got)
	}
	w.refuses = ""
	w.now = w.now.Add(time.Minute)
	w.refresh() // the database has come to know the function
	if got := w.inForce("p"); got != sql(":id, bad(1)") {
		t.Error(got)
	}
}

func TestRulesStayWhenTheDatabaseIsAway(t *testing.T) {
	w := newSetWorld(t, row(1, "*", ":id, 'old'"))
	w.refresh()
	version := w.Version()
	w.rows[0].SQL = row(1, "*", ":id, 'newer'").SQL
	for _, method := range []string{"version", "rules", "table", "check"} {
		w.failing[method] = true
		if err := w.Refresh(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s fails, Refresh says %v", method, err)
		}
		if got := w.inForce("p"); got != sql(":id, 'old'") || w.Version() != version {
			t.Errorf("%s fails, in force is %s", method, got)
		}
		w.failing[method] = false
	}
	w.failing["states"] = true
	if err := w.Refresh(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
	if got := w.inForce("p"); got != sql(":id, 'newer'") {
		t.Errorf("an edit waits for its state to be recorded: %s", got)
	}
	w.failing["states"] = false
	before := len(w.states)
	w.refresh()
	if len(w.states) != before+1 {
		t.Error("a state was never recorded")
	}
}

func TestRunsAreSummed(t *testing.T) {
	w := newSetWorld(t)
	w.RecordRun(1, 10, nil)
	w.RecordRun(1, 0, errors.New("first"))
	w.RecordRun(2, 5, nil)
	w.failing["runs"] = true
	if err := w.Refresh(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
	w.failing["runs"] = false
	w.now = w.now.Add(time.Second)
	w.RecordRun(1, 1, nil)
	w.RecordRun(3, 7, errors.New("second"))
	w.refresh()
	w.refresh()
	slices.SortFunc(w.desk.runs, func(a, b store.RuleRuns) int { return int(a.RuleID) - int(b.RuleID) })
	then := w.now.Add(-time.Second)
	want := []store.RuleRuns{
		{RuleID: 1, Runs: 3, Rows: 11, Failures: 1, At: w.now, LastFailure: "first", FailedAt: then},
		{RuleID: 2, Runs: 1, Rows: 5, At: then},
		{RuleID: 3, Runs: 1, Rows: 7, Failures: 1, At: w.now, LastFailure: "second", FailedAt: w.now},
	}
	if !slices.Equal(w.desk.runs, want) {
		t.Errorf("recorded\n%+v, want\n%+v", w.desk.runs, want)
	}
}

func TestSetRuns(t *testing.T) {
	w := newSetWorld(t, row(1, "*", ":id, :url"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { w.Set.Run(ctx); close(done) }()
	select {
	case <-w.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("no rules")
	}
	w.RecordRun(1, 1, nil)
	cancel()
	<-done
	if len(w.desk.runs) != 1 {
		t.Errorf("%d sums were recorded at the end", len(w.desk.runs))
	}
}
