package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOperationsDocument runs the blocks of docs/operations.md, in their order, beside a running server and agent. The
// accounts that it makes are enough for the work that it gives them.
func TestOperationsDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(Root(t), "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	w := New(t)
	w.Enrol()
	server := w.Serve()
	agent := w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms")
	agent.WaitLog("connected")
	name := func(db *DB) string { return "`" + db.Text("SELECT DATABASE()") + "`" }
	names := strings.NewReplacer("centre.", name(w.Centre)+".", "detection.", name(w.Point.DB)+".")
	path := "PATH=" + filepath.Dir(Program(t, "syncgate")) + ":" + os.Getenv("PATH")
	blocks := regexp.MustCompile("(?ms)^```(sh|sql centre|sql point)\n(.*?)^```$").
		FindAllStringSubmatch(string(text), -1)
	if len(blocks) < 10 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, block := range blocks {
		switch body := names.Replace(block[2]); block[1] {
		case "sh":
			for line := range strings.Lines(block[2]) {
				cmd := exec.Command("sh", "-ec", line)
				cmd.Env = slices.Concat(os.Environ(), w.Env, []string{path})
				// which warns with 1
				if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(line, "rules check") {
					t.Errorf("%s%v\n%s", line, err, out)
				}
			}
		default:
			db := w.Centre
			if block[1] == "sql point" {
				db = w.Point.DB
			}
			for _, statement := range strings.SplitAfter(body, ";\n") {
				statement = strings.TrimSuffix(strings.TrimSpace(statement), ";")
				if strings.HasPrefix(statement, "select") {
					rows, err := db.Query(statement)
					if err != nil {
						t.Errorf("%s: %v", statement, err)
						continue
					}
					_ = rows.Close()
				} else if statement != "" {
					db.Must(statement)
				}
			}
		}
	}
	w.Centre.Eventually(1500, "SELECT COALESCE(SUM(stock), 0) FROM goods")

	// Each account does its work.
	agent.Stop()
	server.Stop()
	as := func(db *DB, account string) string { return account + db.DSN[strings.Index(db.DSN, "@"):] }
	w.Env = append(w.Env, "SYNCGATE_DSN="+as(w.Centre, "syncgate:secret-1"))
	if out, _, _ := Run(t, w.Env, "syncgate", "doctor"); !regexp.MustCompile(`ok +grants`).MatchString(out) {
		t.Errorf("doctor of the server's account:\n%s", out)
	}
	w.Serve()
	w.Point.Must("INSERT INTO goods (id, name, price, stock) VALUES (3, 'nut', 0.2, 20)")
	w.Point.Run("SYNCGATE_AGENT_DSN="+as(w.Point.DB, "agent:secret-2"), "SYNCGATE_AGENT_INTERVAL=200ms")
	w.Centre.Eventually(1520, "SELECT COALESCE(SUM(stock), 0) FROM goods")
	dba := Open(t, as(w.Centre, "dba:secret-3"))
	dba.Must("UPDATE sync_control SET note = 'seen' WHERE sync_table = 'goods'")
	if dba.Count("SELECT COUNT(*) FROM sync_control_status WHERE sync_table = 'goods'") != 2 {
		t.Error("the DBA does not see the rules")
	}
	if _, err := dba.Query("SELECT * FROM sync_point_key"); err == nil {
		t.Error("the DBA sees keys")
	}
}
