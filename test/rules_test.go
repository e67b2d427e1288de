package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// seedUpload is a seed-era row as it exists in the field.
const seedUpload = `INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_field, ` +
	`sync_operation_type, sync_sql,
	sync_patch_field, sync_patch_field_value, sync_is_update_time) VALUES ('phishing_log', 'upload', 'server', 'point-01',
	'("url","ip","title","hits","update_time")', '{''upside'': ''select'', ''downside'': ''insert|update'', ''update_state'': None}',
	'{''upside'': None, ''downside'': ("insert into phishing_log (url,ip,title,hits,update_time) values (''%s'',''%s'',''%s'',''%s'',''%s'')",
	"update phishing_log set ip=''%s'',title=''%s'',hits=''%s'',update_time=''%s'' where url=''%s''"), ''update_state'': None}',
	'{''upside'': None, ''downside'': (("url","ip","title","hits","update_time"), ("ip","title","hits","update_time","url")), ''update_state'': None}',
	'{''upside'': None, ''downside'': ((("transfer",None),("transfer",None),("transfer",None),("transfer",None),("transfer",None)),
	(("transfer",None),("transfer",None),("transfer",None),("transfer",None),("transfer",None))), ''update_state'': None}', 1)`

const phishingLog = `CREATE TABLE phishing_log (url VARCHAR(190) NOT NULL PRIMARY KEY, ip VARCHAR(64), title TEXT, ` +
	`hits INT, update_time DATETIME(6), KEY (update_time))`

// withRules is a centre with one good table and one seed-era rule.
func withRules(t testing.TB) *World {
	w := New(t)
	w.Centre.Must(phishingLog)
	w.Centre.Must(seedUpload)
	return w
}

func TestRulesCheck(t *testing.T) {
	w := withRules(t)
	w.Centre.Must("INSERT INTO sync_control (id, sync_table, sync_type, sync_user, sync_point_no, sync_sql) VALUES "+
		"(12, 'phishing_log', 'download', 'server', 'point-01', ?)",
		"-- upside\nselect url,\n  plat\nfrom phishing_log")
	out, errs, code := Run(t, w.Env, "syncgate", "rules", "check")
	if code != 2 || !strings.Contains(out, "sync_control id=12 sync_sql[upside] 3:3 error SG0104 unknown column plat") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	out, _, code = Run(t, w.Env, "syncgate", "rules", "check", "--format", "json")
	var list []map[string]any
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 2 || len(list) == 0 {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	out, _, code = Run(t, w.Env, "syncgate", "rules", "check", "--format", "sarif")
	var log struct {
		Version string
		Runs    []struct{ Results []map[string]any }
	}
	if err := json.Unmarshal([]byte(out), &log); err != nil || code != 2 || log.Version != "2.1.0" ||
		len(log.Runs) != 1 || len(log.Runs[0].Results) != len(list) {
		t.Fatalf("exit %d, %v\n%s", code, err, out)
	}
	w.Centre.Must("DELETE FROM sync_control WHERE id = 12")
	if out, _, code := Run(t, w.Env, "syncgate", "rules", "check"); code > 1 {
		t.Fatalf("exit %d\n%s", code, out)
	}
}

// `rules check` and the running server report the same errors of a row, also of a point's row, whose table need not
// exist at the centre.
func TestRulesCheckAgreesWithTheServer(t *testing.T) {
	w := withRules(t)
	w.Rule("server", "download", "phishing_log", "-- upside\nselect url, plat from phishing_log")
	w.Rule("server", "upload", "nosuch", "")
	w.Rule("server", "download", "nosuch", "-- upside\nselect a from nosuch")
	w.Rule("server", "download", "gone", "drop table gone")
	w.Centre.Must(`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_sql) VALUES
		('pointonly', 'upload', 'client', 'point-01', NULL),
		('pointonly', 'download', 'client', 'point-01', 'select 1')`)
	w.Serve()
	w.Centre.Eventually(7, "SELECT COUNT(*) FROM sync_control_status WHERE state IN ('ok', 'broken')")
	out, errs, code := Run(t, w.Env, "syncgate", "rules", "check", "--format", "json")
	var found []struct {
		Code, Severity, Message, Fix string
		RuleID                       uint64 `json:"rule_id"`
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != 2 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	said, broken := map[string]bool{}, map[uint64]bool{}
	for _, f := range found {
		if f.Fix != "" {
			f.Message += "; " + f.Fix
		}
		said[fmt.Sprint(f.RuleID, f.Severity, f.Code, f.Message)] = true
		broken[f.RuleID] = broken[f.RuleID] || f.Severity == "error"
	}
	rows, err := w.Centre.Query("SELECT id, state = 'broken', COALESCE(error_code, ''), COALESCE(error_text, '') " +
		"FROM sync_control_status")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id uint64
		var bad bool
		var code, text string
		if err := rows.Scan(&id, &bad, &code, &text); err != nil {
			t.Fatal(err)
		}
		if bad != broken[id] || bad && !said[fmt.Sprint(id, "error", code, text)] {
			t.Errorf("of rule %d the server says %s %q, but rules check\n%s", id, code, text, out)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestRulesTry(t *testing.T) {
	w := withRules(t)
	rows := filepath.Join(w.Dir, "rows.jsonl")
	text := `{"url": "http://a", "ip": "10.0.0.1", "title": "'; drop table phishing_log; --", "hits": 3, ` +
		`"update_time": "2020-01-01 00:00:00"}
{"url": "http://b", "hits": "not a number"}
`
	if err := os.WriteFile(rows, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out := w.Must("rules", "try", "1", "--point", pointName, "--input", rows)
	for _, want := range []string{"1 of 2 rows applied", "1 by insert", "row 1 goes to quarantine", "rolled back"} {
		if !strings.Contains(out, want) {
			t.Fatalf("no %q in\n%s", want, out)
		}
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM phishing_log"); n != 0 {
		t.Fatalf("%d rows were kept", n)
	}
	w.Must("rules", "try", "1", "--input", rows, "--execute")
	if n := w.Centre.Count("SELECT COUNT(*) FROM phishing_log WHERE title = '''; drop table " +
		"phishing_log; --'"); n != 1 {
		t.Fatalf("%d rows were kept", n)
	}
	if _, errs, code := Run(t, w.Env, "syncgate", "rules", "try", "1"); code != 2 ||
		!strings.Contains(errs, "url, ip, title") {
		t.Fatalf("without rows: exit %d, %s", code, errs)
	}
	if _, errs, code := Run(t, w.Env, "syncgate", "rules", "try", "99"); code != 1 ||
		!strings.Contains(errs, "no row with id 99") {
		t.Fatalf("an unknown rule: exit %d, %s", code, errs)
	}
	if out := w.Must("rules", "explain", "1"); !strings.Contains(out, "?1  field url") ||
		!strings.Contains(out, "plan: ") {
		t.Fatalf("explain says\n%s", out)
	}
	if out := w.Must("rules", "show", "1"); !strings.Contains(out, ":text.url") ||
		!strings.Contains(out, "-- downside: update") {
		t.Fatalf("show says\n%s", out)
	}
}

func TestRulesConvertHistoryRevert(t *testing.T) {
	w := withRules(t)
	const text = "SELECT COUNT(*) FROM sync_control WHERE sync_sql LIKE '%-- downside: insert%:text.url%'"
	if out := w.Must("rules", "convert"); !strings.Contains(out, "+ -- downside: insert") || w.Centre.Count(text) != 0 {
		t.Fatalf("convert says, or has written:\n%s", out)
	}
	w.Must("rules", "convert", "--write")
	if w.Centre.Count(text) != 1 {
		t.Fatal("the row was not converted")
	}
	if out := w.Must("rules", "history", "1"); !strings.Contains(out, "update") || !strings.Contains(out, "sync_sql") {
		t.Fatalf("the history says\n%s", out)
	}
	if out := w.Must("rules", "diff", "1"); !strings.Contains(out, "+ -- downside: insert") {
		t.Fatalf("diff says\n%s", out)
	}
	w.Must("rules", "revert", "1")
	if w.Centre.Count(text) != 0 ||
		w.Centre.Count("SELECT COUNT(*) FROM sync_control WHERE sync_sql LIKE '{''upside'': None%'") != 1 {
		t.Fatal("the row is not as it was")
	}
	w.Centre.Must("DELETE FROM sync_control WHERE id = 1")
	w.Must("rules", "revert", "1")
	if w.Centre.Count("SELECT COUNT(*) FROM sync_control WHERE id = 1 AND sync_is_update_time = 1") != 1 {
		t.Fatal("a deleted row did not come back")
	}
}

func TestRulesInit(t *testing.T) {
	w := withRules(t)
	w.Centre.Must(hitsTable)
	if out := w.Must("rules", "init", "hits", "--point", pointName, "--both", "--dry-run"); !strings.Contains(out,
		"on duplicate key update") {
		t.Fatalf("init says\n%s", out)
	}
	w.Must("rules", "init", "hits", "--point", pointName, "--both", "--type", "upload,download")
	if n := w.Centre.Count("SELECT COUNT(*) FROM sync_control WHERE sync_table = 'hits'"); n != 4 {
		t.Fatalf("%d rows", n)
	}
	if _, errs, code := Run(t, w.Env, "syncgate", "rules", "init", "hits", "--point", pointName); code != 1 ||
		!strings.Contains(errs, "is already for") {
		t.Fatalf("a second time: exit %d, %s", code, errs)
	}
	if _, errs, code := Run(t, w.Env, "syncgate", "rules", "init", "nothing"); code != 1 ||
		!strings.Contains(errs, "nothing") {
		t.Fatalf("no such table: exit %d, %s", code, errs)
	}
	if out := w.Must("rules", "list"); strings.Count(out, "hits") != 4 {
		t.Fatalf("list says\n%s", out)
	}
}

func TestQuarantineCommands(t *testing.T) {
	w := withRules(t)
	rows := filepath.Join(w.Dir, "rows.jsonl")
	if err := os.WriteFile(rows, []byte(`{"url": "http://b", "hits": "not a number"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Must("rules", "try", "1", "--input", rows, "--execute")
	if out := w.Must("quarantine", "list"); !strings.Contains(out, "phishing_log") {
		t.Fatalf("list says\n%s", out)
	}
	if out := w.Must("quarantine", "show", "1"); !strings.Contains(out, "not a number") {
		t.Fatalf("show says\n%s", out)
	}
	if _, errs, code := Run(t, w.Env, "syncgate", "quarantine", "replay", "1"); code != 1 ||
		!strings.Contains(errs, "stays in quarantine") {
		t.Fatalf("replay: exit %d, %s", code, errs)
	}
	w.Must("quarantine", "edit", "1", "--set", `{"hits": 7}`)
	if out := w.Must("quarantine", "replay", "1"); !strings.Contains(out, "insert") {
		t.Fatalf("replay says\n%s", out)
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM phishing_log WHERE url = 'http://b' AND hits = 7"); n != 1 {
		t.Fatal("the row is not in its table")
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM sync_quarantine"); n != 0 {
		t.Fatal("the row is still in quarantine")
	}
	w.Must("rules", "try", "1", "--input", rows, "--execute")
	w.Must("quarantine", "drop", "2")
	if n := w.Centre.Count("SELECT COUNT(*) FROM sync_quarantine"); n != 0 {
		t.Fatal("the row was not dropped")
	}
}

// The JSON output uses the names of the tables' columns.
func TestRulesJSONKeys(t *testing.T) {
	w := withRules(t)
	w.Point.Enrol(pointName)
	rows := filepath.Join(w.Dir, "rows.jsonl")
	if err := os.WriteFile(rows, []byte(`{"url": "http://b", "hits": "not a number"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Must("rules", "try", "1", "--input", rows, "--execute")
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	var look func(command string, v any)
	look = func(command string, v any) {
		switch v := v.(type) {
		case []any:
			if len(v) == 0 {
				t.Errorf("%s lists nothing", command)
			}
			for _, item := range v {
				look(command, item)
			}
		case map[string]any:
			for key, value := range v {
				if !name.MatchString(key) {
					t.Errorf("%s has a key %q", command, key)
				}
				look(command, value)
			}
		}
	}
	for _, command := range []string{"point list", "rules list", "rules history", "quarantine list",
		"quarantine show 1"} {
		var v any
		if out := w.Must(append(strings.Fields(command), "--format", "json")...); json.Unmarshal([]byte(out),
			&v) != nil {
			t.Fatalf("%s prints no JSON:\n%s", command, out)
		}
		look(command, v)
	}
}

func TestDoctor(t *testing.T) {
	w := withRules(t)
	// The tests' database is not durable, and the doctor must report this.
	out, errs, code := Run(t, w.Env, "syncgate", "doctor")
	if code != 2 || !strings.Contains(out, "innodb_flush_log_at_trx_commit") || !strings.Contains(out, "fail ") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
}

// A table that does not roll back would keep half a batch and then get that half again. A setting accepts this.
func TestRulesCheckEngine(t *testing.T) {
	w := withRules(t)
	w.Centre.Must("ALTER TABLE phishing_log ENGINE = MyISAM")
	for accepted, want := range map[string]bool{"false": true, "true": false} {
		out, errs, code := Run(t, append(w.Env, "SYNCGATE_ACCEPT_UNSAFE_DATABASE="+accepted), "syncgate",
			"rules", "check")
		if said := strings.Contains(out, "sync_control id=1 sync_table error SG0146 the table phishing_log is "+
			"MyISAM"); said != want || (code == 2) != want {
			t.Errorf("accepted %s: exit %d\n%s%s", accepted, code, out, errs)
		}
	}
}
