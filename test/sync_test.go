package test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const hitsTable = "CREATE TABLE hits (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, url VARCHAR(190) NOT NULL, title " +
	"TEXT, weight DECIMAL(12,4), seen DATETIME(6), body BLOB)"

// makeHits fills a table with rows that are a little awkward and all different.
func makeHits(t testing.TB, db *DB, from, rows int) {
	t.Helper()
	const chunk = 500
	for at := from; at < from+rows; at += chunk {
		n := min(chunk, from+rows-at)
		var values []any
		for i := at; i < at+n; i++ {
			values = append(values, i, fmt.Sprintf("http://host-%d.example/%%s?'q'=\\%d", i, i),
				fmt.Sprintf("título 中文 😀 %d\n", i),
				fmt.Sprintf("%d.%04d", i, i%10000), time.Unix(int64(i), int64(i)*1000).UTC().
					Format("2006-01-02 15:04:05.000000"), []byte{0, byte(i), 0xff})
		}
		db.Must("INSERT INTO hits VALUES "+strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?),", n), ","), values...)
	}
}

// hits is a world that syncs the table hits in one direction, with generated statements.
func hits(t testing.TB, kind string, rows int) *World {
	w := New(t)
	w.Centre.Must(hitsTable)
	w.Point.Must(hitsTable)
	w.Rule("server", kind, "hits", "")
	w.Rule("client", kind, "hits", "")
	w.Point.Enrol(pointName)
	full := w.Point.DB
	if kind == "download" {
		full = w.Centre
	}
	makeHits(t, full, 1, rows)
	return w
}

// same fails unless hits holds the same on both sides.
func same(w *World) {
	w.T.Helper()
	const query = "SELECT * FROM hits"
	if centre, point := w.Centre.Sum(query), w.Point.Sum(query); centre != point {
		w.T.Fatalf("the centre has %s, the point has %s", centre, point)
	}
}

func TestUploadAndDownload(t *testing.T) {
	for _, kind := range []string{"upload", "download"} {
		t.Run(kind, func(t *testing.T) {
			w := hits(t, kind, 5000)
			p := w.Serve()
			for range 2 { // the second round moves nothing
				if out, errs, code := w.Point.Once(); code != 0 {
					t.Fatalf("exit %d\n%s%s", code, out, errs)
				}
				same(w)
			}
			p.Stop()
		})
	}
}

// The point's rules may be at the centre. The agent fetches them.
func TestRulesComeFromTheCentre(t *testing.T) {
	w := New(t)
	w.Centre.Must(hitsTable)
	w.Point.Must(hitsTable)
	w.Point.Enrol(pointName)
	makeHits(t, w.Point.DB, 1, 100)
	w.Must("rules", "init", "hits", "--point", pointName, "--both")
	w.Serve()
	if out, errs, code := w.Point.Once(); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	same(w)
}

// Rules that no frame can carry together come in parts.
func TestManyRulesComeFromTheCentre(t *testing.T) {
	w := New(t)
	w.Env = append(w.Env, "SYNCGATE_MAX_FRAME=64KiB")
	w.Point.Enrol(pointName)
	const rules = 40
	text := func(i int) string {
		return "-- " + strings.Repeat("x", i*1000) + "\n-- upside\nselect 1"
	}
	for i := range rules {
		w.Centre.Must("INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_sql) VALUES "+
			"(?, 'upload', 'client', ?, ?)",
			fmt.Sprint("things_", i), pointName, text(i))
	}
	server := w.Serve()
	w.Point.Once() // there are no such tables
	const query = "SELECT COUNT(*) FROM sync_agent_rule"
	if n := w.Point.Count(query); n != rules {
		t.Errorf("%d rules, want %d", n, rules)
	}
	for i := range rules {
		table, size := fmt.Sprint("things_", i), len(text(i))
		if n := w.Point.Count("SELECT COALESCE(MAX(LENGTH(sync_sql)), 0) FROM sync_agent_rule WHERE sync_table = ?",
			table); n != size {
			t.Errorf("%s has %d bytes of SQL, want %d", table, n, size)
		}
	}
	server.Stop()
}

// killAfter is the number of rows at the centre when the kill comes.
const killAfter = 5000

// The test kills the server with -9 in the middle of an upload, again and again, and restarts it each time. The agent
// never stops. At the end the centre holds each of the point's rows once. The table has no key, so a row that is
// applied twice would be there twice.
func TestUploadSurvivesKilledServer(t *testing.T) {
	w := New(t)
	const rows = 40_000
	w.Point.Must(hitsTable)
	w.Centre.Must(strings.Replace(hitsTable, "PRIMARY KEY", "", 1))
	w.Rule("server", "upload", "hits", "-- downside: insert\ninsert into hits (id, url, title, weight, seen, body) "+
		"values (:id, :url, :title, :weight, :seen, :body)")
	w.Rule("client", "upload", "hits", "")
	w.Point.Enrol(pointName)
	makeHits(t, w.Point.DB, 1, rows)

	server := w.Serve()
	agent := w.Point.Run("SYNCGATE_AGENT_BATCH_ROWS=200")
	for kill := 1; kill <= 3; kill++ {
		w.Centre.AtLeast(kill*killAfter, "SELECT COUNT(*) FROM hits")
		server.Kill()
		server = w.Serve()
	}
	w.Centre.Eventually(rows, "SELECT COUNT(*) FROM hits")
	w.Point.Eventually(0, "SELECT COUNT(*) FROM sync_outbox")
	same(w)
	agent.Stop()
	server.Stop()
}

// The test kills the agent instead, in the middle of an upload and in the middle of a download.
func TestSyncSurvivesKilledAgent(t *testing.T) {
	for _, kind := range []string{"upload", "download"} {
		t.Run(kind, func(t *testing.T) {
			const rows = 20_000
			w := hits(t, kind, rows)
			w.Serve()
			empty := w.Centre
			if kind == "download" {
				empty = w.Point.DB
			}
			for kill := 1; kill <= 2; kill++ {
				agent := w.Point.Run("SYNCGATE_AGENT_BATCH_ROWS=200")
				agent.WaitLog("connected")
				empty.AtLeast(kill*1000, "SELECT COUNT(*) FROM hits")
				agent.Kill()
			}
			if out, errs, code := w.Point.Once(); code != 0 {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			same(w)
		})
	}
}
