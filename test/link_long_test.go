package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// A row of 50 MB travels in both directions beside a small table. The figures are in docs/performance.md.
func TestRowOf50MB(t *testing.T) {
	if os.Getenv("SYNCGATE_TEST_LINKS") == "" {
		t.Skip("make test-links runs it")
	}
	w, _ := badWorld(t, "large_up", "large_down", "small_up")
	for table, db := range map[string]*DB{"large_up": w.Point.DB, "large_down": w.Centre} {
		db.Must("INSERT INTO " + table + " (id, v, update_time) SELECT 1, REPEAT(MD5(RAND()), 1600000), NOW(6) - " +
			"INTERVAL 1 MINUTE")
	}
	began := time.Now()
	agent := w.Point.Run()
	fill(w.Point.DB, "small_up", 1, 1, 10)
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM small_up")
	small := time.Since(began)
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM large_up")
	w.Point.Eventually(1, "SELECT COUNT(*) FROM large_down")
	t.Logf("after %v, small row after %v; agent: %s", time.Since(began), small, peak(t, agent))
}

// peak is the most memory that a process has held.
func peak(t *testing.T, p *Process) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(line)
}

// A link by satellite: 64 kbit/s and 600 ms for a round trip. Nine tenths of what it could carry are rows.
func TestFarLink(t *testing.T) {
	if os.Getenv("SYNCGATE_TEST_LINKS") == "" {
		t.Skip("make test-links runs it")
	}
	const rate, last, settled = 8_000, 90 * time.Second, 15 * time.Second
	w, line := badWorld(t, "large_up", "large_down")
	rows := int(last.Seconds()) * rate / 200 * 2
	fill(w.Point.DB, "large_up", 1, rows, 200)
	fill(w.Centre, "large_down", 1, rows, 200)
	w.Point.Must("UPDATE large_up SET update_time = NOW(6) - INTERVAL 1 MINUTE")
	w.Centre.Must("UPDATE large_down SET update_time = NOW(6) - INTERVAL 1 MINUTE")
	line.Worsen(Bad{Rate: rate, Delay: 300 * time.Millisecond})
	agent := w.Point.Run()
	got := func() (int, int) {
		size := "SELECT CAST(COALESCE(SUM(LENGTH(v) + 8 + 26), 0) AS SIGNED) FROM "
		return w.Centre.Count(size + "large_up"), w.Point.Count(size + "large_down")
	}
	time.Sleep(settled)
	upBefore, downBefore := got()
	began := time.Now()
	time.Sleep(last)
	up, down := got()
	could := int(time.Since(began).Seconds() * rate)
	t.Logf("up %d %%, down %d %% of what the line could carry were rows; the agent held %s at most",
		100*(up-upBefore)/could, 100*(down-downBefore)/could, peak(t, agent))
	if 100*(up-upBefore) < 85*could || 100*(down-downBefore) < 85*could {
		t.Error("too little")
	}
}

// After an outage rows are at the other end a few seconds after the line is back, however long it was away.
func TestBackAfterAnOutage(t *testing.T) {
	if os.Getenv("SYNCGATE_TEST_LINKS") == "" {
		t.Skip("make test-links runs it")
	}
	w, line := badWorld(t, "small_up")
	w.Point.Run()
	fill(w.Point.DB, "small_up", 1, 1, 10)
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM small_up")
	line.Down()
	fill(w.Point.DB, "small_up", 2, 2, 10)
	time.Sleep(40 * time.Second)
	line.Up()
	back := time.Now()
	w.Centre.Eventually(2, "SELECT COUNT(*) FROM small_up")
	if took := time.Since(back); took > 3*time.Second {
		t.Errorf("the row came %v after the line", took)
	} else {
		t.Logf("the row came %v after the line", took)
	}
}
