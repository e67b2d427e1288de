package test

import (
	"encoding/base64"
	"strings"
	"testing"
)

// The agent and the DBA are told of each fault, each in the right place, and no row is lost: when the fault is
// corrected, the same rows cross.
func TestRefusals(t *testing.T) {
	noKey := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, tt := range []struct {
		name  string
		wrong func(w *World)          // before the first round
		agent []string                // more of the agent's environment in the first round
		says  string                  // output of the agent's round
		right func(w *World)          // corrects the fault
		where func(w *World) []string // query and number at the centre that tell the DBA
	}{
		{name: "wrong key", agent: []string{"SYNCGATE_AGENT_KEY=" + noKey}, says: "SG0001"},
		{name: "unknown point", agent: []string{"SYNCGATE_AGENT_POINT=nobody"}, says: "SG0001"},
		{name: "unknown key id", agent: []string{"SYNCGATE_AGENT_KEY_ID=7"}, says: "SG0001"},
		{
			name:  "no rule",
			wrong: func(w *World) { w.Centre.Must("DELETE FROM sync_control") }, says: "SG0200",
			right: func(w *World) { w.Rule("server", "upload", "hits", "") },
		},
		{
			name:  "rule switched off",
			wrong: func(w *World) { w.Centre.Must("UPDATE sync_control SET enabled = 0") }, says: "SG0205",
			right: func(w *World) { w.Centre.Must("UPDATE sync_control SET enabled = 1") },
		},
		{
			name:  "unknown table",
			wrong: func(w *World) { w.Centre.Must("RENAME TABLE hits TO elsewhere") }, says: "SG0201",
			right: func(w *World) { w.Centre.Must("RENAME TABLE elsewhere TO hits") },
		},
		{
			name: "unknown column in the SQL",
			wrong: func(w *World) {
				w.Centre.Must("UPDATE sync_control SET sync_sql = '-- downside: insert\ninsert into hits (id, link) " +
					"values (:id, :url)'")
			},
			says:  "SG0202",
			right: func(w *World) { w.Centre.Must("UPDATE sync_control SET sync_sql = NULL") },
			where: func(w *World) []string {
				return []string{"SELECT COUNT(*) FROM sync_control_status WHERE state = 'broken' AND error_code = " +
					"'SG0104' AND error_column = 'sync_sql' AND error_line = 2"}
			},
		},
		{
			name: "database refuses the statement",
			wrong: func(w *World) {
				w.Centre.Must("CREATE TRIGGER no_hits BEFORE INSERT ON hits FOR EACH ROW INSERT INTO nowhere " +
					"VALUES (1)")
			},
			says:  "SG0303",
			right: func(w *World) { w.Centre.Must("DROP TRIGGER no_hits") },
			where: func(w *World) []string {
				return []string{"SELECT COUNT(*) FROM sync_control_status WHERE failures > 0 AND last_failure " +
					"LIKE '%1146%'"}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := hits(t, "upload", 50)
			if tt.wrong != nil {
				tt.wrong(w)
			}
			w.Serve()
			out, errs, code := Run(t, append(w.Point.Env, tt.agent...), "syncgate-agent", "once")
			if code != 78 || !strings.Contains(out+errs, tt.says) || strings.Contains(out, " ok") {
				t.Fatalf("exit %d, want 78 and %s in\n%s%s", code, tt.says, out, errs)
			}
			if tt.where != nil {
				for _, query := range tt.where(w) {
					w.Centre.Eventually(1, query)
				}
			}
			if tt.right != nil {
				tt.right(w)
				// An edit takes effect within a second. The agent asks again until then.
				for code != 0 {
					if out, errs, code = w.Point.Once(); code != 0 && !strings.Contains(out+errs, "SG") {
						t.Fatalf("exit %d\n%s%s", code, out, errs)
					}
					if t.Context().Err() != nil {
						t.Fatal("the test was ended")
					}
				}
			} else if out, errs, code = w.Point.Once(); code != 0 {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			same(w)
		})
	}
}
