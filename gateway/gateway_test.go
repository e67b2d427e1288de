package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

func TestEveryRequestHasItsReply(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "upload", "*", upsert)
	w.rule("hits", "download", "*", "")
	w.exec(`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no) VALUES ('hits', 'upload', ` +
		`'client', '*')`)
	w.serve()
	c := w.connect(k)

	m := c.Ask(protocol.OpPing, id(1), nil)
	ping, err := m.PingReply()
	if err != nil || ping.RulesVersion != w.rules.Version() {
		t.Fatal(ping, err)
	}
	m = c.Ask(protocol.OpUpload, id(2), upload("hits", int64(1), "a", int64(2), "b"))
	up, err := m.UploadReply()
	if err != nil || up.Applied != 2 || up.ByOp["insert"] != 2 || up.Duplicate {
		t.Fatal(c.Status(m), up, err)
	}
	m = c.Ask(protocol.OpUpload, id(2), upload("hits", int64(1), "a", int64(2), "b"))
	if up, err = m.UploadReply(); err != nil || up.Applied != 2 || !up.Duplicate {
		t.Fatal(c.Status(m), up, err)
	}
	m = c.Ask(protocol.OpUpload, id(2), upload("hits", int64(1), "other"))
	if m.Status != protocol.StatusRequestIDReused {
		t.Fatal(c.Status(m))
	}
	w.exec(`UPDATE hits SET update_time = '2020-01-02 03:04:05.000006'`)
	d := c.Download(id(3), &protocol.DownloadRequest{Table: "hits"})
	if d.Text != "OK" || d.Rows.Len() != 2 || d.Last.Total != 2 || d.Last.More || len(d.Last.State) == 0 {
		t.Fatal(d)
	}
	if got := d.Rows.Row(1); got[0] != int64(2) || got[1] != "b" || got[2] != "2020-01-02 03:04:05.000006" {
		t.Fatalf("%#v", got)
	}
	m = c.Ask(protocol.OpRules, id(4), nil)
	rules, err := m.RulesReply()
	if err != nil || len(rules.Rules) != 1 || rules.Rules[0][1].Value != "hits" || rules.Version != w.rules.Version() {
		t.Fatal(rules, err)
	}
	if m = c.Ask(protocol.OpFile, id(5), nil); m.Status != protocol.StatusOpUnsupported {
		t.Fatal(c.Status(m))
	}
	if m = c.Ask(77, id(6), nil); m.Status != protocol.StatusOpUnsupported {
		t.Fatal(c.Status(m))
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

func TestStrangersAreRejected(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.serve()
	wrong, unknown, absent := k, k, k
	wrong.Secret[0]++
	unknown.Point = "nobody"
	absent.ID = 9
	for name, k := range map[string]crypto.Key{"wrong key": wrong, "unknown point": unknown, "unknown key id": absent} {
		begun := time.Now()
		_, err := w.dial(k)
		var reject *protocol.RejectError
		if !errors.As(err, &reject) || reject.Status != protocol.StatusRejected {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took < 200*time.Millisecond {
			t.Errorf("%s: rejected after %v", name, took)
		}
	}
	if got := w.metric("syncgate_rejected_total"); got != 3 {
		t.Errorf("%v rejections are counted", got)
	}
}

func TestBrokenProtocolHasItsNumber(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.serve()
	c := w.connect(k)
	c.Ask(protocol.OpPing, id(1), nil)
	frame, err := c.Wire.Seal(nil, &protocol.Message{Op: protocol.OpPing, RequestID: id(2)})
	if err != nil {
		t.Fatal(err)
	}
	frame[20] ^= 1
	if _, err := c.Conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Next(); err == nil {
		t.Fatalf("a damaged frame is answered: %v", m)
	}
	w.eventually("the log has it", func() bool {
		return strings.Contains(w.log.String(), `"status":"SG0004","point":"point-01"`)
	})
}

func TestRevokedKeyEndsItsSessions(t *testing.T) {
	w := newWorld(t)
	first := w.enrol(pointName)
	w.serve()
	old := w.connect(first)
	old.Ask(protocol.OpPing, id(1), nil)

	second := first
	_, _ = rand.Read(second.Secret[:])
	var err error
	second.ID, err = w.store.RotatePoint(t.Context(), pointName, func(id uint32) []byte {
		second.ID = id
		return w.master.Wrap(second)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the new key is good", func() bool { _, ok := w.points.key(pointName, second.ID); return ok })
	fresh := w.connect(second)
	fresh.Ask(protocol.OpPing, id(2), nil)
	old.Ask(protocol.OpPing, id(3), nil) // both keys live at once

	if err := w.store.RevokePoint(t.Context(), pointName, first.ID); err != nil {
		t.Fatal(err)
	}
	if m, err := old.Next(); err == nil {
		t.Fatalf("a session of a revoked key goes on: %v", m)
	}
	fresh.Ask(protocol.OpPing, id(4), nil)
	if _, err := w.dial(first); err == nil {
		t.Error("a revoked key opens a session")
	}
}

func TestRefusalsNameTheirReason(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.exec(`CREATE TABLE later (id BIGINT PRIMARY KEY, url VARCHAR(20))`)
	w.rule("hits", "upload", "*", upsert)
	w.rule("absent", "upload", "*", "")
	broken := w.rule("later", "download", "*",
		"-- upside\nselect id, plate from later where id > :state.id order by id limit :limit")
	off := w.rule("later", "upload", pointName, strings.ReplaceAll(upsert, "hits", "later"))
	w.exec(`UPDATE sync_control SET enabled = 0 WHERE id = ?`, off)
	w.rule("later", "upload", "*", strings.ReplaceAll(upsert, "hits", "later"))
	w.serve(func(o *Options) { o.Handler.MaxUploadRows = 3 })
	c := w.connect(k)
	for i, tc := range []struct {
		name string
		op   protocol.Op
		body any
		want string
	}{
		{"no rule", protocol.OpUpload, upload("elsewhere", int64(1), "a"),
			"NO_RULE: No rule of sync_control covers this table, direction and point."},
		{"no rule that way", protocol.OpDownload, &protocol.DownloadRequest{Table: "hits"},
			"NO_RULE: No rule of sync_control covers this table, direction and point."},
		{"unknown table", protocol.OpUpload, upload("absent", int64(1), "a"), "UNKNOWN_TABLE: "},
		{"broken", protocol.OpDownload, &protocol.DownloadRequest{Table: "later"},
			fmt.Sprintf("RULE_BROKEN: rule %d is broken: SG0104 in sync_sql[upside]", broken)},
		{"switched off, though * has one", protocol.OpUpload, upload("later", int64(1), "a"),
			"RULE_DISABLED: The rule is switched off."},
		{"field twice", protocol.OpUpload, &protocol.UploadRequest{Table: "hits", Rows: rowset.Rows{
			Columns: []string{"id", "url", "URL"}, Values: []any{int64(1), "a", "b"}}},
			`REQUEST_MISMATCH: the request does not fit the rule: column "URL" comes twice`},
		{"field too few", protocol.OpUpload,
			&protocol.UploadRequest{Table: "hits", Rows: rowset.Rows{Columns: []string{"url"}, Values: []any{"a"}}},
			`REQUEST_MISMATCH: the request does not fit the rule: column "id" is a field of the rule and not in ` +
				`the request`},
		{"rows too many", protocol.OpUpload, upload("hits", int64(1), "a", int64(2), "a", int64(3), "a", int64(4), "a"),
			"TOO_LARGE: "},
		{"no payload", protocol.OpUpload, nil, "MALFORMED: "},
		{"fields in another order", protocol.OpUpload, &protocol.UploadRequest{Table: "hits", Rows: rowset.Rows{
			Columns: []string{"URL", "id"}, Values: []any{"turned", int64(7)}}}, "OK"},
		{"without names", protocol.OpUpload, &protocol.UploadRequest{Table: "hits", Rows: rowset.Rows{
			Columns: []string{"", ""}, Values: []any{int64(8), "nameless"}}},
			"REQUEST_MISMATCH: the request does not fit the rule: an upload names its columns"},
	} {
		got := c.Status(c.Ask(tc.op, id(uint64(i+1)), tc.body))
		if !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	if got := w.one(`SELECT GROUP_CONCAT(id, ' ', url ORDER BY id) FROM hits`); got != "7 turned" {
		t.Errorf("the table holds %s", got)
	}
}

// The gateway counts every failure that the store tells of, and writes one line a minute about each kind.
func TestStoreFailuresAreLogged(t *testing.T) {
	w := newWorld(t)
	w.serve()
	for _, m := range store.Metrics() {
		for range 3 {
			w.metrics.count(store.Event{Metric: m, Label: "x", N: 2, Err: errors.New("reason of " + m.Name)})
		}
		if got := w.metric("syncgate_" + m.Name); got != 6 {
			t.Errorf("%s is %v", m.Name, got)
		}
		if got := strings.Count(w.log.String(), "reason of "+m.Name); got != 1 {
			t.Errorf("%s has %d lines", m.Name, got)
		}
	}
}

func TestDatabaseErrorsStayAtTheCentre(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	rule := w.rule("hits", "upload", "*", upsert)
	w.serve()
	c := w.connect(k)

	// A row that no operation takes.
	m := c.Ask(protocol.OpUpload, id(1), upload("hits", int64(1), "fits", int64(2), strings.Repeat("secret", 10)))
	up, err := m.UploadReply()
	if err != nil || up.Applied != 1 || len(up.Quarantined) != 1 {
		t.Fatal(c.Status(m), up, err)
	}
	if q := up.Quarantined[0]; q.Row != 1 || q.Status != protocol.StatusRowRefused ||
		q.Reason != "a value is too long for its column (error 1406)" {
		t.Errorf("%+v", q)
	}

	for _, name := range []string{"ledger_rows_total", "rows_applied_total", "rows_quarantined_total"} {
		if got := w.metric("syncgate_" + name); got != 1 {
			t.Errorf("%s is %v", name, got)
		}
	}

	// A statement that the database refuses: the table changed behind the rule's back.
	w.exec(`ALTER TABLE hits CHANGE url address VARCHAR(20)`)
	m = c.Ask(protocol.OpUpload, id(2), upload("hits", int64(3), "secret"))
	if got := c.Status(m); got != "SQL_ERROR: the database refused the rule's statement with error 1054" {
		t.Error(got)
	}
	w.eventually("the failure stands in the view", func() bool {
		return strings.Contains(w.one(`SELECT last_failure FROM sync_control_status WHERE id = ?`, rule),
			"Unknown column")
	})
	w.exec(`ALTER TABLE hits CHANGE address url VARCHAR(20)`)
	if m = c.Ask(protocol.OpUpload, id(2), upload("hits", int64(3), "secret")); m.Status != protocol.StatusOK {
		t.Fatal(c.Status(m)) // the ledger has not kept what failed
	}
	if got := strings.Count(w.log.String(), `"request":"`+id(2).String()+`"`); got != 1 {
		t.Errorf("%d lines in the log about the refused request", got)
	}
}
