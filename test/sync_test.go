package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const hitsTable = "CREATE TABLE hits (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, url VARCHAR(190) NOT NULL, title TEXT, weight DECIMAL(12,4), seen DATETIME(6), body BLOB)"

// makeHits fills a table with rows that are a little awkward and all different.
func makeHits(t testing.TB, db *sql.DB, from, rows int) {
	t.Helper()
	const chunk = 500
	for at := from; at < from+rows; at += chunk {
		n := min(chunk, from+rows-at)
		var values []any
		for i := at; i < at+n; i++ {
			values = append(values, i, fmt.Sprintf("http://host-%d.example/%%s?'q'=\\%d", i, i), fmt.Sprintf("título 中文 😀 %d\n", i),
				fmt.Sprintf("%d.%04d", i, i%10000), time.Unix(int64(i), int64(i)*1000).UTC().Format("2006-01-02 15:04:05.000000"), []byte{0, byte(i), 0xff})
		}
		must(t, db, "INSERT INTO hits VALUES "+strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?),", n), ","), values...)
	}
}

// hits is a world that syncs the table hits in one direction, with generated statements.
func hits(t testing.TB, kind string, rows int) *world {
	w := newWorld(t)
	must(t, w.centre, hitsTable)
	must(t, w.point, hitsTable)
	w.rule("server", kind, "hits", "")
	w.rule("client", kind, "hits", "")
	w.enrol(pointName)
	full := w.point
	if kind == "download" {
		full = w.centre
	}
	makeHits(t, full, 1, rows)
	return w
}

// same fails unless hits holds the same on both sides.
func (w *world) same() {
	w.t.Helper()
	const query = "SELECT * FROM hits"
	if centre, point := sum(w.t, w.centre, query), sum(w.t, w.point, query); centre != point {
		w.t.Fatalf("the centre has %s, the point has %s", centre, point)
	}
}

func TestUploadAndDownload(t *testing.T) {
	for _, kind := range []string{"upload", "download"} {
		t.Run(kind, func(t *testing.T) {
			w := hits(t, kind, 5000)
			p := w.serve()
			for range 2 { // the second round moves nothing
				if out, errs, code := w.once(); code != 0 {
					t.Fatalf("exit %d\n%s%s", code, out, errs)
				}
				w.same()
			}
			if code := p.stop(); code != 0 {
				t.Fatalf("the server exits with %d:\n%s", code, p.text())
			}
		})
	}
}

// The point's rules may be at the centre. The agent fetches them.
func TestRulesComeFromTheCentre(t *testing.T) {
	w := newWorld(t)
	must(t, w.centre, hitsTable)
	must(t, w.point, hitsTable)
	w.enrol(pointName)
	makeHits(t, w.point, 1, 100)
	w.must("rules", "init", "hits", "--point", pointName, "--both")
	w.serve()
	if out, errs, code := w.once(); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	w.same()
}

// killAfter is the number of rows at the centre when the kill comes.
const killAfter = 5000

// The test kills the server with -9 in the middle of an upload, again and again, and restarts it each time. The agent
// never stops. At the end the centre holds each of the point's rows once. The table has no key, so a row that is
// applied twice would be there twice.
func TestUploadSurvivesKilledServer(t *testing.T) {
	w := newWorld(t)
	const rows = 40_000
	must(t, w.point, hitsTable)
	must(t, w.centre, strings.Replace(hitsTable, "PRIMARY KEY", "", 1))
	w.rule("server", "upload", "hits", "-- downside: insert\ninsert into hits (id, url, title, weight, seen, body) values (:id, :url, :title, :weight, :seen, :body)")
	w.rule("client", "upload", "hits", "")
	w.enrol(pointName)
	makeHits(t, w.point, 1, rows)

	server := w.serve()
	agent := start(t, append(w.agent, "SYNCGATE_AGENT_BATCH_ROWS=200"), "syncgate-agent", "run")
	for kill := 1; kill <= 3; kill++ {
		atLeast(t, w.centre, kill*killAfter, "SELECT COUNT(*) FROM hits")
		server.kill()
		server = w.serve()
	}
	eventually(t, w.centre, rows, "SELECT COUNT(*) FROM hits")
	eventually(t, w.point, 0, "SELECT COUNT(*) FROM sync_outbox")
	w.same()
	if code := agent.stop(); code != 0 {
		t.Fatalf("the agent exits with %d:\n%s", code, agent.text())
	}
	if code := server.stop(); code != 0 {
		t.Fatalf("the server exits with %d:\n%s", code, server.text())
	}
}

// The test kills the agent instead, in the middle of an upload and in the middle of a download.
func TestSyncSurvivesKilledAgent(t *testing.T) {
	for _, kind := range []string{"upload", "download"} {
		t.Run(kind, func(t *testing.T) {
			const rows = 20_000
			w := hits(t, kind, rows)
			w.serve()
			empty := w.centre
			if kind == "download" {
				empty = w.point
			}
			for kill := 1; kill <= 2; kill++ {
				agent := start(t, append(w.agent, "SYNCGATE_AGENT_BATCH_ROWS=200"), "syncgate-agent", "run")
				agent.waitLog("connected")
				atLeast(t, empty, kill*1000, "SELECT COUNT(*) FROM hits")
				agent.kill()
			}
			if out, errs, code := w.once(); code != 0 {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			w.same()
		})
	}
}

// atLeast waits until a query gives at least the number. It also counts uncommitted rows, because the test looks for
// the middle of a transfer.
func atLeast(t testing.TB, db *sql.DB, want int, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for got := 0; got < want; {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadUncommitted, ReadOnly: true})
		if err == nil {
			err = errors.Join(tx.QueryRowContext(ctx, query).Scan(&got), tx.Rollback())
		}
		if err != nil {
			t.Fatalf("%s gave %d, and %d is waited for: %v", query, got, want, err)
		}
	}
}
