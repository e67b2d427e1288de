package test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// The centre knows how a point is: its rules with their errors, how far they are behind, and the agent itself.
func TestReport(t *testing.T) {
	t.Parallel()
	w := New(t)
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, v VARCHAR(20))")
	}
	w.Point.Must("CREATE TABLE parts (id INT PRIMARY KEY, v VARCHAR(20))")
	w.Must("rules", "init", "goods", "--point", w.Point.Name, "--both", "--write")
	w.Rule("client", "upload", "parts", "") // nothing at the centre takes it
	w.Point.Must("INSERT INTO goods VALUES (1, 'one'), (2, 'two')")
	w.Point.Must("INSERT INTO parts SELECT seq, 'p' FROM seq_1_to_7")
	server := w.Serve()
	agentRuns := w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms", "SYNCGATE_AGENT_REPORT_INTERVAL=1s",
		"SYNCGATE_AGENT_METRICS=127.0.0.1:0")

	const of = "SELECT CONCAT_WS(' ', state, rows_moved, backlog_rows, lag_ms > 0, COALESCE(error_code, ''), " +
		"failures > 0) FROM sync_point_status WHERE sync_table = "
	wait := func(db *DB, query, want string) {
		t.Helper()
		got := ""
		Eventually(t, func() string { return got + " instead of " + want }, func() bool {
			got = db.Text("SELECT COALESCE((" + query + "), '')")
			return got == want
		})
	}
	for _, db := range w.Databases() { // the point has its own report too
		wait(db, of+"'goods'", "ok 2 0 0  0")
		wait(db, of+"'parts'", "failing 0 7 1 SG0200 1")
	}
	wait(w.Centre, "SELECT s.rule_id = c.id FROM sync_point_status s JOIN sync_control c ON c.sync_table = "+
		"s.sync_table WHERE c.sync_user = 'server'", "1")
	agent := w.Centre.Text("SELECT CONCAT_WS(' ', software, database_version, disk_free > 0, memory > 0, " +
		"ABS(clock_ahead_ms) < 5000) FROM sync_point_agent")
	if !strings.HasPrefix(agent, "syncgate-agent ") || !strings.HasSuffix(agent, " 1 1 1") ||
		!strings.Contains(agent, "MariaDB") {
		t.Errorf("of itself the agent says %q", agent)
	}

	// An edit that the point's database refuses: the last good version stays, and the centre is told where it is wrong.
	w.Centre.Must("UPDATE sync_control SET sync_sql = '-- upside\nselect id, nothing from goods where id > :state.id " +
		"order by id limit :limit' WHERE sync_table = 'goods' AND sync_user = 'client'")
	wait(w.Centre, "SELECT CONCAT_WS(' ', state, error_column, error_line, error_text LIKE '%nothing%') "+
		"FROM sync_point_status WHERE sync_table = 'goods'", "stale sync_sql 2 1")
	w.Point.Must("INSERT INTO goods VALUES (3, 'three')")
	wait(w.Centre, "SELECT COUNT(*) FROM goods", "3")

	// The DBA's view at both ends, and the commands.
	const view = "SELECT CONCAT_WS(' ', state, points_reporting, points_in_trouble, error_text LIKE 'at point-01: " +
		"%nothing%') FROM sync_control_status WHERE sync_table = 'goods' AND sync_user = "
	wait(w.Centre, view+"'client'", "stale 1 1 1")
	wait(w.Centre, view+"'server'", "stale 1 1 1")
	w.Rule("client", "upload", "elsewhere", "", "enabled", "0")
	w.Point.Must("INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no) VALUES ('goods', " +
		"'upload', 'server', '*')")
	wait(w.Point.DB, "SELECT GROUP_CONCAT(state ORDER BY id) FROM sync_control_status", "failing,disabled,elsewhere")
	shows := func(want []string, args ...string) {
		t.Helper()
		out := w.Must(args...)
		for _, s := range want {
			if !strings.Contains(out, s) {
				t.Errorf("syncgate %v does not say %q:\n%s", args, s, out)
			}
		}
	}
	shows([]string{"connected", "1 failing, 1 stale", " 7 ", "modern"}, "points")
	shows([]string{"connected", "MariaDB", "sync_sql:2", "SG0200", "ago"}, "status", w.Point.Name)
	shows([]string{"serving", "1 trouble", w.Point.Name}, "status")
	shows([]string{w.Point.Name, "127.0.0.1"}, "connections")
	shows([]string{"debug"}, "loglevel", "debug")

	// The agent's own metrics and health.
	at, _ := agentRuns.WaitLog("metrics")["address"].(string)
	ask := func(path string) (code int, body string) {
		t.Helper()
		res, err := http.Get("http://" + at + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	_, text := ask("/metrics")
	if problems, err := promlint.New(strings.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	for _, sample := range []string{`syncgate_agent_rule_backlog_rows{table="parts",direction="upload"} 7`,
		"syncgate_agent_connected 1", `syncgate_agent_rows_total{direction="upload"} 3`} {
		if !strings.Contains(text, sample+"\n") {
			t.Errorf("the agent's metrics lack %s:\n%s", sample, text)
		}
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/other": 404} {
		if code, text := ask(path); code != want {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}

	// Without the server the commands say so and show what the database has.
	w.Must("drain")
	server.WaitLog("syncgate ends")
	Eventually(t, func() string { return "the agent is not ready without the server" }, func() bool {
		code, text := ask("/readyz")
		return code == 503 && strings.Contains(text, "not connected")
	})
	if code, _ := ask("/livez"); code != 200 {
		t.Error("without the server the agent is not alive")
	}
	out, errs, code := Run(t, w.Env, "syncgate", "points")
	if code != 0 || !strings.Contains(errs, "the server is not running") || !strings.Contains(out, "away") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if _, errs, code := Run(t, w.Env, "syncgate", "status"); code != 1 ||
		!strings.Contains(errs, "the server is not running") {
		t.Errorf("status: exit %d, %s", code, errs)
	}
}
