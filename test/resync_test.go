package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"syncgate/store"
)

// resync asks for a comparison, which the point's next round makes, and returns its result.
func resync(w *World, p *Point, args ...string) (r store.Resync) {
	w.T.Helper()
	var all []store.Resync
	out := w.Must(append([]string{"rules", "resync", "goods", "--point", p.Name, "--no-wait", "--format", "json"},
		args...)...)
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		w.T.Fatalf("%v: %s", err, out)
	}
	report := p.MustOnce()
	row := w.Centre.Text("SELECT CONCAT_WS('|', state, compared, missing_there, missing_here, different, "+
		"COALESCE(note, '')) FROM sync_resync WHERE id = ?", all[0].ID)
	if _, err := fmt.Sscanf(row, "done|%d|%d|%d|%d|", &r.Compared, &r.MissingThere, &r.MissingHere,
		&r.Different); err != nil {
		w.T.Fatalf("%v: %s\n%s", err, row, report)
	}
	return r
}

func found(compared, missingThere, missingHere, different uint64) store.Resync {
	return store.Resync{Compared: compared, MissingThere: missingThere, MissingHere: missingHere, Different: different}
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// In a table of 20,000 rows 8 differ, and 8 are sent, whichever side is right.
func TestResyncSendsWhatDiffers(t *testing.T) {
	for _, direction := range []string{"upload", "download"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			w := New(t)
			w.Enrol()
			for _, db := range w.Databases() {
				db.Must("CREATE TABLE goods (a INT, b VARCHAR(10) COLLATE utf8mb4_general_ci, n DECIMAL(12,3), x " +
					"VARBINARY(8), at DATETIME(3), PRIMARY KEY (a, b))")
			}
			source, target := w.Point.DB, w.Centre
			if direction == "download" {
				source, target = target, source
			}
			source.Must("INSERT INTO goods SELECT seq DIV 200, CONCAT('k', seq % 200), seq / 7, UNHEX(HEX(seq)), " +
				"'2026-01-02 03:04:05.678' FROM seq_0_to_19999")
			w.Must("rules", "init", "goods", "--type", direction, "--both", "--changes", "--write")
			w.Serve()
			w.Point.MustOnce()
			expect(t, "rows", target.Count("SELECT COUNT(*) FROM goods"), 20000)
			expect(t, "nothing differs", resync(w, w.Point), found(20000, 0, 0, 0))

			target.Must("UPDATE goods SET n = n + 1 WHERE a = 50 AND b IN ('k1', 'k20', 'k199')")
			target.Must("UPDATE goods SET x = NULL WHERE a = 51 AND b = 'k3'")
			target.Must("UPDATE goods SET b = 'K5' WHERE a = 52 AND b = 'k5'")
			target.Must("DELETE FROM goods WHERE a = 53 AND b IN ('k6', 'k7', 'k8')")
			w.Point.MustOnce()
			began := time.Now()
			want := found(20000, 3, 0, 5)
			if direction == "download" {
				want = found(19997, 0, 3, 5)
			}
			expect(t, "a dry run", resync(w, w.Point, "--dry-run"), want)
			before := sent(source)
			expect(t, "the comparison", resync(w, w.Point), want)
			t.Logf("two comparisons took %v", time.Since(began).Round(time.Millisecond))
			expect(t, "rows sent", sent(source)-before, 8)
			w.Point.MustOnce()
			expect(t, "checksum", target.Checksum("goods"), source.Checksum("goods"))
			expect(t, "afterwards", resync(w, w.Point).Different, uint64(0))
		})
	}
}

// sent is the number of changes of a table that have a number.
func sent(db *DB) (n int) {
	_, _ = fmt.Sscan(db.Text("SELECT next_seq - 1 FROM sync_sequence WHERE sync_table = 'goods'"), &n)
	return n
}

// TRUNCATE fires no trigger. A comparison finds the rows that only the centre has, and no row of another point.
func TestResyncAfterTruncate(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Points: 2})
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, who VARCHAR(20) NOT NULL)")
	}
	w.Must("rules", "init", "goods", "--both", "--changes", "--write")
	w.Serve()
	one, two := w.Points[0], w.Points[1]
	one.DB.Must("INSERT INTO goods SELECT 2 * seq, 'one' FROM seq_1_to_1500")
	two.DB.Must("INSERT INTO goods SELECT 2 * seq + 1, 'two' FROM seq_1_to_1500")
	rounds(w)
	one.DB.Must("TRUNCATE TABLE goods")
	one.DB.Must("INSERT INTO goods VALUES (2, 'one'), (3000, 'new')")
	one.MustOnce()

	expect(t, "without a condition", resync(w, one), found(2, 0, 0, 0))
	if note := w.Centre.Text("SELECT note FROM sync_resync"); !strings.Contains(note, "--where") {
		t.Errorf("the note is %q", note)
	}
	expect(t, "a dry run", resync(w, one, "--where", "who = 'one'", "--dry-run"), found(1, 0, 1498, 0))
	expect(t, "rows at the centre", w.Centre.Count("SELECT COUNT(*) FROM goods"), 3000)
	expect(t, "with the condition", resync(w, one, "--where", "who <> 'two'"), found(2, 0, 1498, 0))
	expect(t, "rows of the point", w.Centre.Text("SELECT GROUP_CONCAT(id, who) FROM goods WHERE who <> 'two'"),
		"2one,3000new")
	expect(t, "rows of the other", w.Centre.Count("SELECT COUNT(*) FROM goods WHERE who = 'two'"), 1500)

	for _, bad := range []string{"1) or (1", "sleep(1)", ":state.id > 1", "who = "} {
		if _, errs, code := Run(t, w.Env, "syncgate", "rules", "resync", "goods", "--where", bad, "--dry-run",
			"--no-wait"); code == 0 {
			t.Errorf("the condition %q is taken: %s", bad, errs)
		}
	}
}

// Where both sides record changes, the centre knows which rows came from a point. A change that waits is not touched.
func TestResyncBothWays(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Points: 2})
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE parents (id INT PRIMARY KEY)") // each side has its own
		db.Must("INSERT INTO parents VALUES (1), (2), (3)")
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, parent INT, who VARCHAR(20) NOT NULL, " +
			"FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE)")
	}
	w.Must("rules", "init", "goods", "--type", "upload,download", "--both", "--changes", "--write")
	w.Serve()
	one, two := w.Points[0], w.Points[1]
	w.Centre.Must("INSERT INTO goods SELECT seq, 1, 'centre' FROM seq_1_to_100")
	rounds(w)
	one.DB.Must("INSERT INTO goods SELECT seq, 2, 'one' FROM seq_101_to_200")
	two.DB.Must("INSERT INTO goods SELECT seq, 2, 'two' FROM seq_201_to_300")
	rounds(w)

	one.DB.Must("DELETE FROM parents WHERE id = 2") // and with it 200 rows of goods there, which no trigger sees
	one.DB.Must("INSERT INTO parents VALUES (2)")
	_, errs, code := Run(t, w.Env, "syncgate", "rules", "resync", "goods", "--point", one.Name)
	if code == 0 || !strings.Contains(errs, "--type") {
		t.Errorf("without a direction: exit %d, %s", code, errs)
	}
	one.DB.Must("INSERT INTO goods VALUES (400, 3, 'waits')")
	got := resync(w, one, "--type", "download", "--where", "id < 150 or id = 400")
	expect(t, "the centre is right", got, found(101, 0, 49, 0))
	rounds(w)
	expect(t, "the new row", w.Centre.Text("SELECT who FROM goods WHERE id = 400"), "waits")
	expect(t, "rows that are back", one.Count("SELECT COUNT(*) FROM goods WHERE id BETWEEN 101 AND 149"), 49)
	// 51 rows of the point are still gone there, and the centre knows that they came from it.
	expect(t, "the point is right", resync(w, one, "--type", "upload"), found(150, 0, 51, 0))
	rounds(w)
	for i, want := range []int{250, 150, 250} { // the first point still lacks the rows of the second
		expect(t, fmt.Sprint("rows of side ", i), w.Databases()[i].Count("SELECT COUNT(*) FROM goods"), want)
	}
	expect(t, "everything", resync(w, one, "--type", "download"), found(150, 0, 100, 0))
	rounds(w)
	for _, p := range w.Points {
		expect(t, "checksum", p.Checksum("goods"), w.Centre.Checksum("goods"))
	}
}

// A centre whose table is an old copy gets what it lacks from the point.
func TestResyncAfterRestore(t *testing.T) {
	t.Parallel()
	w := New(t)
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, n INT NOT NULL)")
	}
	w.Must("rules", "init", "goods", "--both", "--changes", "--write")
	w.Serve()
	w.Point.Must("INSERT INTO goods SELECT seq, 0 FROM seq_1_to_300")
	rounds(w)
	w.Centre.Must("CREATE TABLE copy AS SELECT * FROM goods")
	w.Point.Must("UPDATE goods SET n = 1 WHERE id <= 20")
	w.Point.Must("INSERT INTO goods SELECT seq, 0 FROM seq_301_to_310")
	w.Point.Must("DELETE FROM goods WHERE id = 300")
	rounds(w)
	w.Centre.Must("DELETE FROM goods")
	w.Centre.Must("INSERT INTO goods SELECT * FROM copy")

	agent := w.Point.Run()
	out := w.Must("rules", "resync", "goods", "--where", "true")
	if want := "done"; !strings.Contains(out, want) {
		t.Errorf("the command says\n%s", out)
	}
	w.Centre.Eventually(309, "SELECT COUNT(*) FROM goods")
	w.Centre.Eventually(20, "SELECT SUM(n) FROM goods")
	expect(t, "checksum", w.Centre.Checksum("goods"), w.Point.Checksum("goods"))
	out, errs, code := Run(t, w.Point.Env, "syncgate-agent", "resync", "goods", "--dry-run")
	if want := "309 rows compared: 0 missing at the centre, 0 missing at this point, 0 different\n"; code != 0 ||
		!strings.HasPrefix(out, want) {
		t.Errorf("the agent's command: exit %d\n%s%s", code, out, errs)
	}
	agent.Stop()
}

// A reader that has missed deletes loads the table anew, and then deletes what is gone. The first load deletes nothing.
func TestReloadDeletes(t *testing.T) {
	t.Parallel()
	w := New(t)
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, n INT NOT NULL)")
	}
	w.Must("rules", "init", "goods", "--type", "download,upload", "--both", "--changes", "--write")
	w.Serve()
	w.Centre.Must("INSERT INTO goods SELECT seq, 0 FROM seq_1_to_1500")
	w.Point.Must("INSERT INTO goods SELECT seq, 0 FROM seq_2001_to_3200")
	rounds(w)
	expect(t, "rows after the first load", w.Centre.Count("SELECT COUNT(*) FROM goods"), 2700)
	for _, step := range []struct {
		db   *DB
		gone string
	}{{w.Centre, "10, 2010"}, {w.Point.DB, "2011, 2012"}} {
		step.db.Must("DELETE FROM goods WHERE id IN (" + step.gone + ")")
		step.db.Must("DELETE FROM sync_change_goods WHERE id IN (" + step.gone + ")") // forgets that they were deleted
		step.db.Must("UPDATE sync_sequence SET next_seq = next_seq + 1, complete_from = next_seq - 1")
		w.Point.Must("UPDATE goods SET n = n + 1 WHERE id BETWEEN 2020 AND 2029")
		rounds(w)
		for i, db := range w.Databases() {
			expect(t, fmt.Sprintf("%s at side %d", step.gone, i),
				db.Count("SELECT COUNT(*) FROM goods WHERE id IN ("+step.gone+")"), 0)
		}
		expect(t, "checksum", w.Centre.Checksum("goods"), w.Point.Checksum("goods"))
	}
	expect(t, "rows", w.Centre.Count("SELECT COUNT(*) FROM goods"), 2696)
}
