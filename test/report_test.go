package test

import (
	"strings"
	"testing"

	"syncgate/internal/harness/harnesstest"
)

// The centre knows how a point is: its rules with their errors, how far they are behind, and the agent itself.
func TestReport(t *testing.T) {
	t.Parallel()
	w := harnesstest.New(t)
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, v VARCHAR(20))")
	}
	w.Point.Must("CREATE TABLE parts (id INT PRIMARY KEY, v VARCHAR(20))")
	w.Must("rules", "init", "goods", "--point", w.Point.Name, "--both", "--write")
	w.Rule("client", "upload", "parts", "") // nothing at the centre takes it
	w.Point.Must("INSERT INTO goods VALUES (1, 'one'), (2, 'two')")
	w.Point.Must("INSERT INTO parts SELECT seq, 'p' FROM seq_1_to_7")
	w.Serve()
	w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms")

	const of = "SELECT CONCAT_WS(' ', state, rows_moved, backlog_rows, lag_ms > 0, COALESCE(error_code, ''), failures > 0) " +
		"FROM sync_point_status WHERE sync_table = "
	wait := func(db *harnesstest.DB, query, want string) {
		t.Helper()
		got := ""
		harnesstest.Eventually(t, func() string { return got + " instead of " + want }, func() bool {
			got = db.Text("SELECT COALESCE((" + query + "), '')")
			return got == want
		})
	}
	for _, db := range w.Databases() { // the point has its own report too
		wait(db, of+"'goods'", "ok 2 0 0  0")
		wait(db, of+"'parts'", "failing 0 7 1 SG0200 1")
	}
	wait(w.Centre, "SELECT s.rule_id = c.id FROM sync_point_status s JOIN sync_control c ON c.sync_table = s.sync_table "+
		"WHERE c.sync_user = 'server'", "1")
	agent := w.Centre.Text("SELECT CONCAT_WS(' ', software, database_version, disk_free > 0, memory > 0, ABS(clock_ahead_ms) < 5000) " +
		"FROM sync_point_agent")
	if !strings.HasPrefix(agent, "syncgate-agent ") || !strings.HasSuffix(agent, " 1 1 1") || !strings.Contains(agent, "MariaDB") {
		t.Errorf("of itself the agent says %q", agent)
	}

	// An edit that the point's database refuses: the last good version stays, and the centre is told where it is wrong.
	w.Centre.Must("UPDATE sync_control SET sync_sql = '-- upside\nselect id, nothing from goods where id > :state.id order by id limit :limit' " +
		"WHERE sync_table = 'goods' AND sync_user = 'client'")
	wait(w.Centre, "SELECT CONCAT_WS(' ', state, error_column, error_line, error_text LIKE '%nothing%') "+
		"FROM sync_point_status WHERE sync_table = 'goods'", "stale sync_sql 2 1")
	w.Point.Must("INSERT INTO goods VALUES (3, 'three')")
	wait(w.Centre, "SELECT COUNT(*) FROM goods", "3")
}
