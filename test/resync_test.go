package test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"syncgate/internal/harness/harnesstest"
	"syncgate/store"
)

// resync asks for a comparison, which the point's next round makes, and returns its result.
func resync(w *harnesstest.World, p *harnesstest.Point, args ...string) (r store.Resync) {
	w.T.Helper()
	var all []store.Resync
	out := w.Must(append([]string{"rules", "resync", "goods", "--point", p.Name, "--no-wait", "--format", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		w.T.Fatalf("%v: %s", err, out)
	}
	report := p.MustOnce()
	row := w.Centre.Text("SELECT CONCAT_WS('|', state, compared, missing_there, missing_here, different, COALESCE(note, '')) "+
		"FROM sync_resync WHERE id = ?", all[0].ID)
	if _, err := fmt.Sscanf(row, "done|%d|%d|%d|%d|", &r.Compared, &r.MissingThere, &r.MissingHere, &r.Different); err != nil {
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
			w := harnesstest.New(t)
			w.Enrol()
			for _, db := range w.Databases() {
				db.Must("CREATE TABLE goods (a INT, b VARCHAR(10) COLLATE utf8mb4_general_ci, n DECIMAL(12,3), x VARBINARY(8), at DATETIME(3), " +
					"PRIMARY KEY (a, b))")
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
func sent(db *harnesstest.DB) (n int) {
	_, _ = fmt.Sscan(db.Text("SELECT next_seq - 1 FROM sync_sequence WHERE sync_table = 'goods'"), &n)
	return n
}
