package test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"

	"syncgate/internal/harness/harnesstest"
)

// inForce bounds the time until an edit is in force. An idle machine needs a second. The bound is below the 15 seconds
// after which the server reads all rules again, edited or not.
const inForce = 12 * time.Second

// brokenEdits are edits that no server can run, each of another column or kind, with the text that the view shows.
var brokenEdits = []struct{ column, text, says string }{
	{"sync_sql", "-- downside: insert\ninsert into %s (id, url)\nvalues (:id, urll)", "SG0104 sync_sql downside 3:14"},
	{"sync_sql", "-- downside: insert\ninsert into %s (id, url)\n  values (:id, :urll)",
		"SG0112 sync_sql downside 3:16"},
	{"sync_sql", "insert into %s (id, url) values (:id, no_such_function(:url))", "SG0141 sync_sql downside 1:1"},
	{"sync_sql", "drop table %s", "SG0105 sync_sql downside 1:1"},
	{"sync_sql", "{'downside': (\"insert into %s (id,url) values ('%%s','%%s')\"", "SG0101 sync_sql"},
	{"sync_field", "id, url, id", "SG0114 sync_field"},
	{"sync_operation_type", "upsert", "SG0115 sync_operation_type"},
}

// editing is a DBA who edits the rules of a few tables while a point uploads to each of them.
type editing struct {
	*World
	tables []string
	wire   *harnesstest.Client
	rows   int64
}

// goodRule is a rule that leaves a mark in every row.
func goodRule(table, mark string) string {
	return fmt.Sprintf("-- downside: insert\ninsert into %s (id, url) values (:id, concat(:url, '%s'))", table, mark)
}

// applied is the url that a row has after the rule has marked it.
func (e *editing) applied(table string) string {
	e.T.Helper()
	e.rows++
	status, reply := e.wire.Upload(table, rowset.Rows{Columns: []string{"id", "url"}, Values: []any{e.rows, "u"}})
	if status != protocol.StatusOK || reply.Applied != 1 {
		e.T.Fatalf("%s: %v %+v", table, status, reply)
	}
	return e.Centre.Text("SELECT url FROM "+table+" WHERE id = ?", e.rows)
}

// live edits a good rule and waits until it is in force.
func (e *editing) live(table, mark string) {
	e.T.Helper()
	edited := time.Now()
	e.Centre.Must("UPDATE sync_control SET sync_sql = ? WHERE sync_table = ?", goodRule(table, mark), table)
	for e.applied(table) != "u"+mark {
		if time.Since(edited) > inForce {
			e.T.Fatalf("the edit is not in force after %v", time.Since(edited))
		}
	}
	e.T.Logf("in force after %v", time.Since(edited).Round(time.Millisecond))
}

// A DBA edits rules with SQL while points upload. Each good edit is in force soon. A broken edit leaves its rule and
// all other rules as they were.
func TestEditsByAnySQLClient(t *testing.T) {
	t.Parallel()
	e := &editing{World: New(t)}
	e.Point.Enrol(pointName)
	for i := range len(brokenEdits) + 1 { // the last one's rule is never broken
		name := fmt.Sprint("edited", i)
		e.tables = append(e.tables, name)
		e.Centre.Must("CREATE TABLE " + name + " (id BIGINT PRIMARY KEY, url VARCHAR(190))")
		e.Rule("server", "upload", name, goodRule(name, "!"), "sync_field", "id, url")
	}
	neighbour := e.tables[len(brokenEdits)]
	e.Env = append(e.Env, "SYNCGATE_ADMIN_LISTEN=127.0.0.1:0")
	server := e.Serve()
	page, _ := server.WaitLog("status page")["address"].(string)
	var err error
	if e.wire, err = e.Point.Dial(); err != nil {
		t.Fatal(err)
	}
	for _, table := range e.tables {
		if got := e.applied(table); got != "u!" {
			t.Fatalf("%s has %q", table, got)
		}
	}
	e.live(neighbour, "?")
	e.breakAll(server)
	metric(t, page, fmt.Sprintf(`syncgate_rules{state="stale"} %d`, len(brokenEdits)))
	metric(t, page, `syncgate_rules{state="ok"} 1`)
	e.live(neighbour, ";") // an edit of another rule still takes effect
	e.mendAll()
	metric(t, page, `syncgate_rules{state="stale"} 0`)
}

// breakAll makes the broken edits. The view and the log report each of them, and the last good version stays in force.
func (e *editing) breakAll(server *Process) {
	e.T.Helper()
	for i, edit := range brokenEdits {
		value := edit.text
		if edit.column == "sync_sql" {
			value = fmt.Sprintf(edit.text, e.tables[i])
		}
		e.Centre.Must("UPDATE sync_control SET "+edit.column+" = ? WHERE sync_table = ?", value, e.tables[i])
	}
	e.Centre.Eventually(len(brokenEdits), "SELECT COUNT(*) FROM sync_control_status WHERE state = 'stale'")
	for i, edit := range brokenEdits {
		says := e.Centre.Text(`SELECT CONCAT_WS(' ', error_code, error_column, error_section, CONCAT(error_line, `+
			`':', error_position))
			FROM sync_control_status WHERE sync_table = ? AND error_text <> ''`, e.tables[i])
		if !strings.HasPrefix(says, edit.says) {
			e.T.Errorf("of %q the view says %q, want %q", edit.text, says, edit.says)
		}
		code, _, _ := strings.Cut(edit.says, " ")
		server.WaitLine("of "+code, func(line map[string]any) bool {
			problem, _ := line["problem"].(string)
			return line["table"] == e.tables[i] && line["code"] == code && line["state"] == "stale" &&
				strings.Contains(problem, edit.column)
		})
		if got := e.applied(e.tables[i]); got != "u!" {
			e.T.Errorf("%s has %q after a broken edit", e.tables[i], got)
		}
	}
}

// mendAll corrects the edits of breakAll. They take effect, and the view and the log no longer report them.
func (e *editing) mendAll() {
	e.T.Helper()
	for i := range brokenEdits {
		e.Centre.Must("UPDATE sync_control SET sync_sql = ?, sync_field = 'id, url', sync_operation_type = NULL "+
			"WHERE sync_table = ?", goodRule(e.tables[i], "."), e.tables[i])
	}
	e.Centre.Eventually(len(e.tables), "SELECT COUNT(*) FROM sync_control_status WHERE state = 'ok' AND error_code "+
		"IS NULL AND error_line IS NULL AND error_text IS NULL")
	for i := range brokenEdits {
		if got := e.applied(e.tables[i]); got != "u." {
			e.T.Errorf("%s has %q after it was mended", e.tables[i], got)
		}
	}
	e.Centre.Eventually(len(e.tables), "SELECT COUNT(*) FROM sync_control_status WHERE runs >= 2 AND rows_moved = "+
		"runs AND failures = 0 AND last_run_at IS NOT NULL")
}

// A DBA edits the point's rules at the centre, and the running agent notices.
func TestEditsReachTheAgent(t *testing.T) {
	t.Parallel()
	w := New(t)
	w.Point.Enrol(pointName)
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE edited (id BIGINT PRIMARY KEY, url VARCHAR(190))")
	}
	w.Point.Must("INSERT INTO edited VALUES (1, 'a'), (2, 'b')")
	w.Rule("server", "upload", "edited", "")
	w.Centre.Must("INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_sql) VALUES ('edited', 'upload', " +
		"'client', 'select id, url from edited where id = 1')")
	w.Serve()
	agent := w.Point.Run("SYNCGATE_AGENT_INTERVAL=100ms")
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM edited")
	w.Centre.Must("UPDATE sync_control SET sync_sql = 'select id, url from edited' WHERE sync_user = 'client'")
	w.Centre.Eventually(2, "SELECT COUNT(*) FROM edited")
	agent.Stop()
}

// The database refuses a row that makes no sense when it is written, and the refusal reads as a sentence.
func TestChecksRefuseNonsense(t *testing.T) {
	t.Parallel()
	dsn := localdbtest.New(t)
	db := Open(t, dsn)
	s, err := store.Open(t.Context(), store.Options{DSN: dsn, AcceptUnsafe: true})
	if err == nil {
		err = errors.Join(s.Migrate(t.Context(), nil), s.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	db.Must("INSERT INTO sync_control (id, sync_table, sync_type, sync_user) VALUES (1, 'hits', 'upload', 'server')")
	for column, values := range map[string][]struct{ value, says string }{
		"sync_table":    {{"''", "sync_table must not be empty"}, {"NULL", "'sync_table' cannot be null"}},
		"sync_type":     {{"''", "sync_type"}, {"'sideways'", "sync_type"}},
		"sync_user":     {{"'nobody'", "sync_user"}},
		"sync_point_no": {{"''", "sync_point_no must name a point or be *"}},
		"sync_range":    {{"'sometimes'", "sync_range"}, {"'period'", "sync_range period needs a sync_range_value"}},
		"sync_range_value": {{"'day'", "must look like day:3 or hour:6"}, {"'day:0'", "must look like day:3 or hour:6"},
			{"'minute:5'", "must look like day:3 or hour:6"}, {"'day:3; drop'", "must look like day:3 or hour:6"}},

		"sync_is_carry_state":          {{"2", "sync_is_carry_state must be 0 or 1"}},
		"sync_is_use_state_carry_data": {{"-1", "sync_is_use_state_carry_data must be 0 or 1"}},
		"sync_is_update_state":         {{"7", "sync_is_update_state must be 0 or 1"}},
		"sync_is_update_time":          {{"2", "sync_is_update_time must be 0 or 1"}},
		"enabled":                      {{"3", "enabled must be 0 or 1"}, {"NULL", "'enabled' cannot be null"}},
	} {
		for _, v := range values {
			_, err := db.ExecContext(t.Context(), "UPDATE sync_control SET "+column+" = "+v.value+" WHERE id = 1")
			if err == nil || !strings.Contains(err.Error(), v.says) {
				t.Errorf("%s = %s is answered with %v, want %q", column, v.value, err, v.says)
			}
		}
	}
	for _, good := range []string{"sync_range = 'period', sync_range_value = 'day:3'",
		"sync_range = '', sync_range_value = NULL", "sync_range = NULL", "sync_point_no = '*'", "enabled = 0"} {
		db.Must("UPDATE sync_control SET " + good + " WHERE id = 1")
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO sync_point (point_no) VALUES ('*')"); err == nil ||
		!strings.Contains(err.Error(), "point_no must not be empty or *") {
		t.Errorf("a point * is answered with %v", err)
	}
}

// metric waits until the page of metrics has a line.
func metric(t testing.TB, address, line string) {
	t.Helper()
	// the page does not report its changes
	for deadline := time.Now().Add(harnesstest.Patience); ; time.Sleep(50 * time.Millisecond) {
		reply, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(reply.Body)
		if err := errors.Join(err, reply.Body.Close()); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(page), "\n")
		if slices.Contains(lines, line) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the metrics do not have %s but %q", line, slices.DeleteFunc(lines,
				func(l string) bool { return !strings.HasPrefix(l, "syncgate_rules") }))
		}
	}
}
