package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"syncgate/internal/harness/harnesstest"
)

// A row of 50 MB travels in both directions beside a small table. The figures are in docs/performance.md.
func TestRowOf50MB(t *testing.T) {
	if os.Getenv("SYNCGATE_TEST_LINKS") == "" {
		t.Skip("make test-links runs it")
	}
	w, _ := badWorld(t, "large_up", "large_down", "small_up")
	for table, db := range map[string]*harnesstest.DB{"large_up": w.Point.DB, "large_down": w.Centre} {
		db.Must("INSERT INTO " + table + " (id, v, update_time) SELECT 1, REPEAT(MD5(RAND()), 1600000), NOW(6) - INTERVAL 1 MINUTE")
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
func peak(t *testing.T, p *harnesstest.Process) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	line, _, _ := strings.Cut(after, "\n")
	return strings.TrimSpace(line)
}
