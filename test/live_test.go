package test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"syncgate/protocol"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

// inForce bounds how long an edit takes, which is a second where there is not more to do than processors to do it. It is
// less than the 15 seconds after which the server looks at everything again, edited or not.
const inForce = 12 * time.Second

// brokenEdits are edits that no server can run, each of another column or another kind, and what the view says of them.
var brokenEdits = []struct{ column, text, says string }{
	{"sync_sql", "-- downside: insert\ninsert into %s (id, url)\nvalues (:id, urll)", "SG0104 sync_sql downside 3:14"},
	{"sync_sql", "-- downside: insert\ninsert into %s (id, url)\n  values (:id, :urll)", "SG0112 sync_sql downside 3:16"},
	{"sync_sql", "insert into %s (id, url) values (:id, no_such_function(:url))", "SG0141 sync_sql downside 1:1"},
	{"sync_sql", "drop table %s", "SG0105 sync_sql downside 1:1"},
	{"sync_sql", "{'downside': (\"insert into %s (id,url) values ('%%s','%%s')\"", "SG0101 sync_sql"},
	{"sync_field", "id, url, id", "SG0114 sync_field"},
	{"sync_operation_type", "upsert", "SG0115 sync_operation_type"},
}

// A DBA edits rules with SQL while points upload. Each edit is in force soon, and a broken one leaves its rule as it was
// and everybody else alone.
func TestEditsByAnySQLClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol(pointName)
	good := func(mark string) string {
		return "-- downside: insert\ninsert into %s (id, url) values (:id, concat(:url, '" + mark + "'))"
	}
	var tables []string
	for i := range len(brokenEdits) + 1 { // the last one's rule is never broken
		name := fmt.Sprint("edited", i)
		tables = append(tables, name)
		must(t, w.centre, "CREATE TABLE "+name+" (id BIGINT PRIMARY KEY, url VARCHAR(190))")
		w.rule("server", "upload", name, fmt.Sprintf(good("!"), name), "sync_field", "id, url")
	}
	neighbour := tables[len(brokenEdits)]
	w.env = append(w.env, "SYNCGATE_ADMIN_LISTEN=127.0.0.1:0")
	server := w.serve()
	c, err := w.dialModern(pointName)
	if err != nil {
		t.Fatal(err)
	}
	id := int64(0)
	// applied is what a row's url has become on its way into a table.
	applied := func(table string) string {
		t.Helper()
		id++
		status, reply := c.upload(table, protocol.Rows{Columns: []string{"id", "url"}, Values: []any{id, "u"}})
		if status != protocol.StatusOK || reply.Applied != 1 {
			t.Fatalf("%s: %v %+v", table, status, reply)
		}
		return text(t, w, "SELECT url FROM "+table+" WHERE id = ?", id)
	}
	live := func(mark string) {
		t.Helper()
		edited := time.Now()
		must(t, w.centre, "UPDATE sync_control SET sync_sql = ? WHERE sync_table = ?", fmt.Sprintf(good(mark), neighbour), neighbour)
		for applied(neighbour) != "u"+mark {
			if time.Since(edited) > inForce {
				t.Fatalf("the edit is not in force after %v", time.Since(edited))
			}
		}
		t.Logf("in force after %v", time.Since(edited).Round(time.Millisecond))
	}
	for _, table := range tables {
		if got := applied(table); got != "u!" {
			t.Fatalf("%s has %q", table, got)
		}
	}
	live("?")

	for i, edit := range brokenEdits {
		value := edit.text
		if edit.column == "sync_sql" {
			value = fmt.Sprintf(edit.text, tables[i])
		}
		must(t, w.centre, "UPDATE sync_control SET "+edit.column+" = ? WHERE sync_table = ?", value, tables[i])
	}
	eventually(t, w.centre, len(brokenEdits), "SELECT COUNT(*) FROM sync_control_status WHERE state = 'stale'")
	for i, edit := range brokenEdits {
		says := text(t, w, `SELECT CONCAT_WS(' ', error_code, error_column, error_section, CONCAT(error_line, ':', error_position))
			FROM sync_control_status WHERE sync_table = ? AND error_text <> ''`, tables[i])
		if !strings.HasPrefix(says, edit.says) {
			t.Errorf("of %q the view says %q, want %q", edit.text, says, edit.says)
		}
		code, _, _ := strings.Cut(edit.says, " ")
		server.waitLine(func(line map[string]any) bool {
			problem, _ := line["problem"].(string)
			return line["table"] == tables[i] && line["code"] == code && line["state"] == "stale" && strings.Contains(problem, edit.column)
		})
		if got := applied(tables[i]); got != "u!" { // the last good version
			t.Errorf("%s has %q after a broken edit", tables[i], got)
		}
	}
	page, _ := server.waitLog("status page")["address"].(string)
	metric(t, page, fmt.Sprintf(`syncgate_rules{state="stale"} %d`, len(brokenEdits)))
	metric(t, page, `syncgate_rules{state="ok"} 1`)
	live(";") // a neighbour's edit is taken up as ever

	for i := range brokenEdits {
		must(t, w.centre, "UPDATE sync_control SET sync_sql = ?, sync_field = 'id, url', sync_operation_type = NULL WHERE sync_table = ?", fmt.Sprintf(good("."), tables[i]), tables[i])
	}
	eventually(t, w.centre, len(tables), "SELECT COUNT(*) FROM sync_control_status WHERE state = 'ok' AND error_code IS NULL AND error_line IS NULL AND error_text IS NULL")
	metric(t, page, `syncgate_rules{state="stale"} 0`)
	for i := range brokenEdits {
		if got := applied(tables[i]); got != "u." {
			t.Errorf("%s has %q after it was mended", tables[i], got)
		}
	}
	eventually(t, w.centre, len(tables), "SELECT COUNT(*) FROM sync_control_status WHERE runs >= 2 AND rows_moved = runs AND failures = 0 AND last_run_at IS NOT NULL")
}

// The point's own rules are edited at the centre: the agent that runs hears of it.
func TestEditsReachTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol(pointName)
	for _, db := range []*sql.DB{w.centre, w.point} {
		must(t, db, "CREATE TABLE edited (id BIGINT PRIMARY KEY, url VARCHAR(190))")
	}
	must(t, w.point, "INSERT INTO edited VALUES (1, 'a'), (2, 'b')")
	w.rule("server", "upload", "edited", "")
	must(t, w.centre, "INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_sql) VALUES ('edited', 'upload', 'client', 'select id, url from edited where id = 1')")
	w.serve()
	agent := start(t, append(w.agent, "SYNCGATE_AGENT_INTERVAL=100ms"), "syncgate-agent", "run")
	eventually(t, w.centre, 1, "SELECT COUNT(*) FROM edited")
	must(t, w.centre, "UPDATE sync_control SET sync_sql = 'select id, url from edited' WHERE sync_user = 'client'")
	eventually(t, w.centre, 2, "SELECT COUNT(*) FROM edited")
	if code := agent.stop(); code != 0 {
		t.Errorf("the agent exits with %d", code)
	}
}

// What makes no sense is refused when it is written, and the refusal reads as a sentence.
func TestChecksRefuseNonsense(t *testing.T) {
	t.Parallel()
	dsn := localdbtest.New(t)
	db := open(t, dsn)
	s, err := store.Open(t.Context(), store.Options{DSN: dsn, AcceptUnsafe: true})
	if err == nil {
		err = errors.Join(s.Migrate(t.Context(), nil), s.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	must(t, db, "INSERT INTO sync_control (id, sync_table, sync_type, sync_user) VALUES (1, 'hits', 'upload', 'server')")
	for column, values := range map[string][]struct{ value, says string }{
		"sync_table":       {{"''", "sync_table must not be empty"}, {"NULL", "'sync_table' cannot be null"}},
		"sync_type":        {{"''", "sync_type"}, {"'sideways'", "sync_type"}},
		"sync_user":        {{"'nobody'", "sync_user"}},
		"sync_point_no":    {{"''", "sync_point_no must name a point or be *"}},
		"sync_range":       {{"'sometimes'", "sync_range"}, {"'period'", "sync_range period needs a sync_range_value"}},
		"sync_range_value": {{"'day'", "must look like day:3 or hour:6"}, {"'day:0'", "must look like day:3 or hour:6"}, {"'minute:5'", "must look like day:3 or hour:6"}, {"'day:3; drop'", "must look like day:3 or hour:6"}},

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
	for _, good := range []string{"sync_range = 'period', sync_range_value = 'day:3'", "sync_range = '', sync_range_value = NULL", "sync_range = NULL", "sync_point_no = '*'", "enabled = 0"} {
		must(t, db, "UPDATE sync_control SET "+good+" WHERE id = 1")
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO sync_point (point_no) VALUES ('*')"); err == nil || !strings.Contains(err.Error(), "point_no must not be empty or *") {
		t.Errorf("a point * is answered with %v", err)
	}
}

// text is the one text of a query.
func text(t testing.TB, w *world, query string, args ...any) (s string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.centre.QueryRowContext(ctx, query, args...).Scan(&s); err != nil {
		t.Fatalf("%v in %s", err, query)
	}
	return s
}

// waitLine waits until the log has a line.
func (p *process) waitLine(is func(line map[string]any) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer context.AfterFunc(ctx, p.heard.Broadcast)()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for line := range strings.SplitSeq(p.log.String(), "\n") {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && is(fields) {
				return
			}
		}
		if ctx.Err() != nil {
			p.t.Fatalf("no such line in the log:\n%s", p.log.String())
		}
		p.heard.Wait()
	}
}

// metric waits until the page of metrics has a line.
func metric(t testing.TB, address, line string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) { // the page tells nobody of a change
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
			t.Fatalf("the metrics do not have %s but %q", line, slices.DeleteFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "syncgate_rules") }))
		}
	}
}
