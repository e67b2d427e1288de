package test

import (
	"fmt"
	"testing"
)

// counted is the table hits at the centre with triggers that note every write of it, and a world that uploads it with
// generated rules.
func counted(t *testing.T, o Options) *World {
	t.Helper()
	w := Make(t, o)
	w.Centre.Must(hitsTable)
	w.Centre.Must("CREATE TABLE written (id BIGINT NOT NULL, how VARCHAR(6) NOT NULL)")
	w.Centre.Must("CREATE TRIGGER hits_i AFTER INSERT ON hits FOR EACH ROW INSERT INTO written VALUES " +
		"(NEW.id, 'insert')")
	w.Centre.Must("CREATE TRIGGER hits_u AFTER UPDATE ON hits FOR EACH ROW INSERT INTO written VALUES " +
		"(NEW.id, 'update')")
	w.Rule("server", "upload", "hits", "")
	for _, p := range w.Points {
		p.Must(hitsTable)
	}
	w.Rule("client", "upload", "hits", "")
	return w
}

// writtenOnce fails unless every row was written once.
func writtenOnce(w *World, rows int) {
	w.T.Helper()
	got := w.Centre.Text("SELECT CONCAT(COUNT(*), ' writes of ', COUNT(DISTINCT id), ' rows') FROM written")
	if want := fmt.Sprintf("%d writes of %d rows", rows, rows); got != want {
		w.T.Errorf("%s, want %s: %s", got, want, w.Centre.Text(
			"SELECT GROUP_CONCAT(id, how ORDER BY id) FROM (SELECT id, MAX(how) how FROM written GROUP BY id HAVING "+
				"COUNT(*) > 1 LIMIT 10) t"))
	}
}

// Agent, server and both databases are killed with -9 in the middle of an upload that has no outbox. Triggers count
// what reaches the centre's table.
func TestStreamSurvivesKills(t *testing.T) {
	const rows, batch = 16_000, "SYNCGATE_AGENT_BATCH_ROWS=50"
	w := counted(t, Options{Own: true})
	w.Point.Enrol(pointName)
	makeHits(t, w.Point.DB, 1, rows)
	server := w.Serve()
	agent := w.Point.Run(batch)
	for kill := range 8 {
		w.Centre.AtLeast(1+kill*rows/10, "SELECT COUNT(*) FROM hits")
		switch kill % 4 {
		case 0:
			agent.Kill()
			agent = w.Point.Run(batch)
		case 1:
			server.Kill()
			server = w.Serve()
		case 2:
			w.Point.Kill()
		case 3:
			w.Centre.Kill()
		}
	}
	w.Centre.Eventually(rows, "SELECT COUNT(*) FROM hits")
	agent.Stop()
	if n := w.Point.Count("SELECT next_seq FROM sync_agent_epoch"); n != 1 {
		t.Errorf("the outbox has had %d batches", n-1)
	}
	writtenOnce(w, rows)
	same(w)
	w.Point.MustOnce(batch) // it reads on from the saved state
	writtenOnce(w, rows)
}

// A point's machine is copied while its agent rests. Both copies work under one name, and the centre gets what each of
// them has got since, once.
func TestStreamOfACopiedMachine(t *testing.T) {
	w := counted(t, Options{Points: 2})
	w.Point.Enrol(pointName)
	makeHits(t, w.Point.DB, 1, 300)
	w.Serve()
	w.Point.MustOnce()
	copied := w.Points[1]
	copied.Env = append(copied.Env, w.Point.Env[len(w.Point.Env)-4:]...) // name, key and server
	for _, table := range []string{"hits", "sync_control", "sync_agent_stream", "sync_agent_state",
		"sync_agent_epoch"} {
		copied.Must("REPLACE INTO " + table + " SELECT * FROM " + w.Point.Text("SELECT DATABASE()") + "." + table)
	}
	makeHits(t, w.Point.DB, 301, 200)
	makeHits(t, copied.DB, 501, 200)
	w.Point.MustOnce()
	copied.MustOnce()
	makeHits(t, w.Point.DB, 701, 50)
	makeHits(t, copied.DB, 751, 50)
	copied.MustOnce()
	w.Point.MustOnce()
	writtenOnce(w, 800)
}

// A point's database is restored from a backup that is older than what the centre has. What it gets from then on
// arrives, also under ids that the centre knows from before.
func TestStreamOfARestoredPoint(t *testing.T) {
	w := counted(t, Options{})
	w.Point.Enrol(pointName)
	makeHits(t, w.Point.DB, 1, 300)
	w.Serve()
	w.Point.MustOnce()
	tables := []string{"hits", "sync_agent_stream", "sync_agent_state", "sync_agent_epoch"}
	for _, table := range tables {
		w.Point.Must("CREATE TABLE backup_" + table + " AS SELECT * FROM " + table)
	}
	makeHits(t, w.Point.DB, 301, 200)
	w.Point.MustOnce()
	for _, table := range tables {
		w.Point.Must("DELETE FROM " + table)
		w.Point.Must("INSERT INTO " + table + " SELECT * FROM backup_" + table)
	}
	w.Point.Must("INSERT INTO hits (id, url, title) SELECT seq, 'after the restore', 'new' FROM seq_301_to_320")
	_, errs, code := w.Point.Once()
	if code != 0 {
		t.Fatal(errs)
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM hits WHERE url = 'after the restore'"); n != 20 {
		t.Errorf("%d rows came after the restore, want 20\n%s", n, errs)
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM written WHERE id <= 300"); n != 300 {
		t.Errorf("%d writes of the first 300 rows", n)
	}
}
