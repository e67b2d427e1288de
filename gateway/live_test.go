package gateway

import (
	"strings"
	"testing"

	"syncgate/internal/harness/harnesstest"
	"syncgate/protocol"
	"syncgate/store"
)

func TestEditsAreLive(t *testing.T) {
	w := newWorld(t)
	c := func() *harnesstest.Client { k := w.enrol(pointName); w.serve(); return w.connect(k) }()
	try := func(row int) string {
		return c.Status(c.Ask(protocol.OpUpload, id(uint64(row)), upload("hits", int64(row), "a")))
	}
	state := func(id int64) string {
		return w.one(`SELECT CONCAT_WS(' ', state, error_code, error_column, error_section) FROM sync_control_status `+
			`WHERE id = ?`, id)
	}
	becomes := func(want string, id int64) {
		t.Helper()
		w.eventually("rule is "+want, func() bool { return state(id) == want })
	}
	if got := try(1); !strings.HasPrefix(got, "NO_RULE") {
		t.Fatal(got)
	}
	all := w.rule("hits", "upload", "*", upsert)
	neighbour := w.rule("hits", "download", "*", "")
	becomes("ok", all)
	becomes("ok", neighbour)
	if got := try(1); got != "OK" {
		t.Fatal(got)
	}

	// A broken edit keeps the last good version, and says so.
	w.exec(`UPDATE sync_control SET sync_sql = '-- downside: insert\ninsert into hits (id, plate) values (:id, `+
		`:url)' WHERE id = ?`, all)
	becomes("stale SG0104 sync_sql downside", all)
	if got := try(2); got != "OK" {
		t.Fatal(got)
	}
	if state(neighbour) != "ok" {
		t.Error("a neighbour was touched")
	}
	if w.rules.Count(store.RuleStale) != 1 || w.metric("syncgate_rules") != 2 {
		t.Error("the stale rule is not counted")
	}
	if got := strings.Count(w.log.String(), `"code":"SG0104"`); got != 1 {
		t.Errorf("the log tells of it %d times", got)
	}

	// So does one that only the database can refuse.
	w.exec(`UPDATE sync_control SET sync_sql = '-- downside: insert\ninsert into hits (id, url) values (:id, `+
		`no_such_function(:url))' WHERE id = ?`, all)
	becomes("stale SG0141 sync_sql downside", all)
	if got := try(3); got != "OK" {
		t.Fatal(got)
	}

	// A good edit is in force; the row of a point's own comes before that of all.
	w.exec(`UPDATE sync_control SET sync_sql = '-- downside: insert\ninsert into hits (id, url) values (:id, `+
		`concat(:url, ''!''))' WHERE id = ?`, all)
	becomes("ok", all)
	own := w.rule("hits", "upload", pointName,
		"-- downside: insert\ninsert into hits (id, url) values (:id, concat(:url, '?'))")
	becomes("ok", own)
	if got := try(4); got != "OK" {
		t.Fatal(got)
	}
	w.exec(`DELETE FROM sync_control WHERE id = ?`, own)
	w.eventually("the row of all is in force", func() bool {
		e, err := w.rules.Find("hits", "upload", pointName)
		return err == nil && e.Row.ID == uint64(all)
	})
	if got := try(5); got != "OK" {
		t.Fatal(got)
	}
	if got := w.one(`SELECT GROUP_CONCAT(url ORDER BY id) FROM hits`); got != "a,a,a,a?,a!" {
		t.Errorf("the rows say that these rules ran: %s", got)
	}

	row := 6
	refused := func(want string) func() bool {
		return func() bool {
			got := try(row)
			if got == "OK" { // before the edit is in force
				row++
			}
			return strings.HasPrefix(got, want)
		}
	}
	w.exec(`UPDATE sync_control SET enabled = 0 WHERE id = ?`, all)
	w.eventually("the rule is off", refused("RULE_DISABLED"))
	w.exec(`DELETE FROM sync_control WHERE id = ?`, all)
	w.eventually("the rule is gone", refused("NO_RULE"))
}

// An upload that was applied, and whose answer was lost, is answered from the ledger whatever has become of its rule.
func TestTheLedgerIsAskedBeforeTheRule(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	r := w.rule("hits", "upload", "*", upsert)
	w.serve(func(o *Options) { o.Handler.MaxUploadRows = 2 })
	c := w.connect(k)
	sent := upload("hits", int64(1), "a", int64(2), "b")
	ask := func(seq uint64, u *protocol.UploadRequest) string {
		t.Helper()
		return c.Status(c.Ask(protocol.OpUpload, id(seq), u))
	}
	if got := ask(1, sent); got != "OK" {
		t.Fatal(got)
	}
	seq := uint64(100)
	for _, edit := range []struct{ statement, refusal string }{
		{"UPDATE sync_control SET sync_field = '[\"id\", \"url\", \"more\"]', sync_sql = '-- downside: " +
			"insert\ninsert into hits (id, url) values (:id, concat(:url, :more))' WHERE id = ?", "REQUEST_MISMATCH"},
		{"UPDATE sync_control SET sync_sql = 'nonsense', enabled = 0 WHERE id = ?", "RULE_DISABLED"},
		{"UPDATE sync_control SET enabled = 1 WHERE id = ?", "RULE_BROKEN"},
		{"DELETE FROM sync_control WHERE id = ?", "NO_RULE"},
	} {
		w.exec(edit.statement, r)
		w.eventually(edit.refusal, func() bool {
			got := ask(seq, upload("hits", int64(3), "c"))
			if got == "OK" { // before the edit is in force
				seq++
			}
			return strings.HasPrefix(got, edit.refusal)
		})
		m := c.Ask(protocol.OpUpload, id(1), sent)
		if reply, err := m.UploadReply(); m.Status != protocol.StatusOK || err != nil || !reply.Duplicate ||
			reply.Applied != 2 {
			t.Errorf("%s: the upload that came again is answered %s %+v %v", edit.refusal, c.Status(m), reply, err)
		}
		if got := ask(1, upload("hits", int64(9), "z")); !strings.HasPrefix(got, "REQUEST_ID_REUSED") {
			t.Errorf("%s: another upload of the same id is answered %s", edit.refusal, got)
		}
	}
	if got := ask(seq, upload("hits", int64(3), "c", int64(4), "d", int64(5), "e")); !strings.HasPrefix(got,
		"NO_RULE") {
		t.Error(got)
	}
}

func TestRuleFollowsItsTable(t *testing.T) {
	w := newWorld(t)
	r := w.rule("late", "upload", "*", "")
	w.exec(`UPDATE sync_control SET sync_field = NULL`)
	w.serve()
	if got := w.rules.Count(store.RuleBroken); got != 1 {
		t.Fatalf("%d rules are broken", got)
	}
	w.exec(`CREATE TABLE late (id BIGINT PRIMARY KEY)`)
	w.eventually("the rule is good", func() bool {
		return w.one(`SELECT state FROM sync_control_status WHERE id = ?`, r) == "ok"
	})
	w.exec(`ALTER TABLE late ADD COLUMN name VARCHAR(10)`)
	w.eventually("the rule has the new column", func() bool {
		e, err := w.rules.Find("late", "upload", pointName)
		return err == nil && len(e.Plan.Fields) == 2
	})
}

func TestSubscribersHearOfEdits(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.serve()
	c := w.connect(k)
	m := c.Ask(protocol.OpSubscribe, id(1), nil)
	first, err := m.PingReply()
	if err != nil || !m.More() {
		t.Fatal(m, err)
	}
	w.rule("hits", "upload", "*", upsert)
	news := c.Read()
	next, err := news.PingReply()
	if err != nil || news.RequestID != id(1) || next.RulesVersion == first.RulesVersion ||
		next.RulesVersion != w.rules.Version() {
		t.Fatal(news, err)
	}
	c.Ask(protocol.OpPing, id(2), nil) // a subscription holds no place in flight
}
