package test

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// The server's log answers what happened to a point: one grep for its name finds when it came and went and what it
// moved, and one for the database what was wrong with that, and until when. No line has a value of a row.
func TestWhatHappened(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Own: true})
	w.Enrol()
	w.Centre.Must("CREATE TABLE goods (id INT PRIMARY KEY, v VARCHAR(12), CHECK (v <> 'hushed'))")
	w.Point.Must("CREATE TABLE goods (id INT PRIMARY KEY, v VARCHAR(12))")
	w.Must("rules", "init", "goods", "--point", w.Point.Name, "--both", "--write")
	w.Point.Must("INSERT INTO goods VALUES (1, 'hushed'), (2, 'one')")
	server := w.Serve()
	agent := w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms", "SYNCGATE_AGENT_REPORT_INTERVAL=1s")
	said := func(what string, fields map[string]any) {
		t.Helper()
		server.WaitLine(what, func(line map[string]any) bool {
			for name, want := range fields {
				if line[name] != want {
					return false
				}
			}
			return strings.HasPrefix(line["message"].(string), what)
		})
	}
	said("connected", map[string]any{"point": "point-01", "wire": "modern", "level": "info"})
	said("rows moved, some into sync_quarantine",
		map[string]any{"point": "point-01", "table": "goods", "type": "upload",
			"rows": 1.0, "quarantined": 1.0, "batches": 1.0, "status": "SG0000"})

	began := time.Now()
	thaw := w.Centre.Freeze()
	said("database trouble", map[string]any{"what": "it does not answer", "level": "warn"})
	if took := time.Since(began); took > 15*time.Second { // 4 s on a quiet machine
		t.Errorf("the log says after %v that the database does not answer", took)
	}
	w.Point.Must("INSERT INTO goods VALUES (3, 'two')")
	said("request failed", map[string]any{"point": "point-01", "table": "goods", "status": "SG0300"})
	thaw()
	w.Centre.Eventually(2, "SELECT COUNT(*) FROM goods")
	said("database works again", map[string]any{"what": "it does not answer", "level": "info"})
	said("rows moved", map[string]any{"point": "point-01", "rule": 1.0, "rows": 1.0, "status": "SG0000"})

	// The centre hears of a point whose own database does not answer.
	thaw = w.Point.Freeze()
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM sync_point_status WHERE sync_table = 'goods' AND lag_ms > 0")
	thaw()
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM sync_point_status WHERE sync_table = 'goods' AND lag_ms = 0")
	agent.Stop()
	said("disconnected", map[string]any{"point": "point-01", "level": "info"})
	server.Stop()

	if strings.Contains(server.Log(), "hushed") {
		t.Errorf("the log has a value of a row:\n%s", server.Log())
	}
	stamp := regexp.MustCompile(`"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)"`)
	for line := range strings.Lines(server.Log()) {
		if !stamp.MatchString(line) {
			t.Errorf("a line without a time of milliseconds: %s", line)
		}
	}
}
