package gateway

import (
	"testing"

	"syncgate/protocol"
)

func TestEveryRequestHasItsReply(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "upload", "*", upsert)
	w.rule("hits", "download", "*", "")
	w.exec(`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no) VALUES ('hits', 'upload', 'client', '*')`)
	w.serve()
	c := w.connect(k)

	m := c.ask(protocol.OpPing, id(1), nil)
	ping, err := m.PingReply()
	if err != nil || ping.RulesVersion != w.registry.Version() {
		t.Fatal(ping, err)
	}
	m = c.ask(protocol.OpUpload, id(2), upload("hits", int64(1), "a", int64(2), "b"))
	up, err := m.UploadReply()
	if err != nil || up.Applied != 2 || up.ByOp["insert"] != 2 || up.Duplicate {
		t.Fatal(c.status(m), up, err)
	}
	m = c.ask(protocol.OpUpload, id(2), upload("hits", int64(1), "a", int64(2), "b"))
	if up, err = m.UploadReply(); err != nil || up.Applied != 2 || !up.Duplicate {
		t.Fatal(c.status(m), up, err)
	}
	m = c.ask(protocol.OpUpload, id(2), upload("hits", int64(1), "other"))
	if m.Status != protocol.StatusRequestIDReused {
		t.Fatal(c.status(m))
	}
	w.exec(`UPDATE hits SET update_time = '2020-01-02 03:04:05.000006'`)
	rows, last, _, status := c.download(id(3), &protocol.DownloadRequest{Table: "hits"})
	if status != "OK" || rows.Len() != 2 || last.Total != 2 || last.More || len(last.State) == 0 {
		t.Fatal(status, rows, last)
	}
	if got := rows.Row(1); got[0] != int64(2) || got[1] != "b" || got[2] != "2020-01-02 03:04:05.000006" {
		t.Fatalf("%#v", got)
	}
	m = c.ask(protocol.OpRules, id(4), nil)
	rules, err := m.RulesReply()
	if err != nil || len(rules.Rules) != 1 || rules.Rules[0][1].Value != "hits" || rules.Version != w.registry.Version() {
		t.Fatal(rules, err)
	}
	if m = c.ask(protocol.OpFile, id(5), nil); m.Status != protocol.StatusOpUnsupported {
		t.Fatal(c.status(m))
	}
	if m = c.ask(77, id(6), nil); m.Status != protocol.StatusOpUnsupported {
		t.Fatal(c.status(m))
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if got := w.one(`SELECT runs FROM sync_rule_status WHERE rule_id = 1`); got != "2" {
		t.Errorf("the rule ran %s times", got)
	}
	if w.one(`SELECT modern_seen_at FROM sync_point`) == "" || w.one(`SELECT last_used_at FROM sync_point_key`) == "" {
		t.Error("it is not written down who connected")
	}
}
