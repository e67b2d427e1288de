package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"syncgate/rule"
)

// What a point has confirmed is forgotten, and never runs again.
func TestFloor(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	row := func(seq uint64) *Upload { return upload(p, "p1", seq, []any{fmt.Sprint(seq), "ip", int64(1)}) }
	for seq := uint64(1); seq <= 5; seq++ {
		applied(t, s, row(seq))
	}
	last := row(6)
	last.Confirmed = 4
	applied(t, s, last)
	if err := s.purgeConfirmed(testContext(t)); err != nil {
		t.Fatal(err)
	}
	equal(t, "ledger", one(t, s, "SELECT GROUP_CONCAT(seq ORDER BY seq) FROM sync_request"), "5,6")
	equal(t, "floor", one(t, s, "SELECT confirmed FROM sync_request_floor WHERE point_no = 'p1' AND epoch = 1"), "4")

	exec(t, s, "DELETE FROM phishing_log WHERE url = '3'") // were it run again, it would be there
	for _, together := range []bool{false, true} {
		us := []*Upload{row(3)}
		if together {
			us = append(us, upload(p, "p2", 1, []any{"p2", "ip", int64(1)}))
		}
		outcomes := s.Apply(testContext(t), us)
		if err := outcomes[0].Err; !errors.Is(err, ErrReused) {
			t.Errorf("a request below the floor: %v", err)
		}
		if together && (outcomes[1].Err != nil || outcomes[1].Applied != 1) {
			t.Errorf("its neighbour: %+v", outcomes[1])
		}
	}
	equal(t, "run again", one(t, s, "SELECT COUNT(*) FROM phishing_log WHERE url = '3'"), "0")
	equal(t, "above the floor", applied(t, s, row(5)).Duplicate, true)

	other := row(3)
	other.Epoch = 2
	equal(t, "another epoch", applied(t, s, other).Applied, 1)

	lower := row(7)
	lower.Confirmed = 2 // an old message: the floor does not sink
	applied(t, s, lower)
	if err := s.purgeConfirmed(testContext(t)); err != nil {
		t.Fatal(err)
	}
	equal(t, "floor", one(t, s, "SELECT confirmed FROM sync_request_floor WHERE point_no = 'p1' AND epoch = 1"), "4")
}

// Requests that come again while the ledger is purged are duplicates or refused, and never run twice.
func TestPurgeUnderLoad(t *testing.T) {
	s := open(t)
	s.purgeEvery = time.Millisecond
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	ctx, stop := context.WithCancel(testContext(t))
	janitor := make(chan error, 1)
	go func() { janitor <- s.Run(ctx) }()
	var wait sync.WaitGroup
	for range 3 { // three connections that bring the same requests
		wait.Go(func() {
			for seq := uint64(1); seq <= 100; seq++ {
				u := upload(p, "p1", seq, []any{fmt.Sprint(seq), "ip", int64(1)})
				u.Confirmed = seq - 1
				o := s.Apply(testContext(t), []*Upload{u})[0]
				if o.Err != nil && !errors.Is(o.Err, ErrReused) || len(o.Quarantined) > 0 {
					t.Errorf("%d: %+v", seq, o) // a second run would be a duplicate url, and put aside
				}
			}
		})
	}
	wait.Wait()
	stop()
	if err := <-janitor; err != nil {
		t.Error(err)
	}
	equal(t, "rows", one(t, s, "SELECT COUNT(*) FROM phishing_log"), "100")
}

func TestForgetUnconfirmed(t *testing.T) {
	s := open(t)
	exec(t, s, `INSERT INTO sync_request (point_no, epoch, seq, hash, reply, created_at) VALUES
		('old', 9223372036854775808, 1, '', '', CURRENT_TIMESTAMP(6) - INTERVAL 25 HOUR),
		('new', 9223372036854775808, 1, '', '', CURRENT_TIMESTAMP(6) - INTERVAL 23 HOUR),
		('modern', 9223372036854775807, 1, '', '', CURRENT_TIMESTAMP(6) - INTERVAL 25 HOUR)`)
	if err := s.purgeUnconfirmed(testContext(t)); err != nil {
		t.Fatal(err)
	}
	equal(t, "left", one(t, s, "SELECT GROUP_CONCAT(point_no ORDER BY point_no) FROM sync_request"), "modern,new")
}

// A client that confirms nothing, or begins an outbox for each upload, cannot make the ledger grow for ever.
func TestLedgerIsBounded(t *testing.T) {
	s := open(t)
	s.o.LedgerRows = 5
	exec(t, s, `INSERT INTO sync_request (point_no, epoch, seq, hash, reply)
		SELECT 'silent', 7, seq, '', '' FROM seq_1_to_20`)
	exec(t, s, `INSERT INTO sync_request (point_no, epoch, seq, hash, reply, created_at)
		SELECT 'odd', seq, 1, '', '', CURRENT_TIMESTAMP(6) - INTERVAL seq MINUTE FROM seq_1_to_1010`)
	if err := s.purgeUnconfirmed(testContext(t)); err != nil {
		t.Fatal(err)
	}
	equal(t, "left", one(t, s, "SELECT CONCAT(MIN(seq), '-', MAX(seq)) FROM sync_request WHERE point_no = 'silent'"),
		"16-20")
	equal(t, "floor", one(t, s, "SELECT confirmed FROM sync_request_floor WHERE point_no = 'silent'"), "15")
	equal(t, "outboxes", one(t, s, "SELECT CONCAT(COUNT(*), ' ', MAX(epoch)) FROM sync_request WHERE point_no = 'odd'"),
		"1000 1000")
	exec(t, s, phishing)
	u := upload(phishingPlan(t, s, insertSQL), "silent", 15, []any{"url", "ip", int64(1)})
	u.Epoch = 7
	if o := s.Apply(testContext(t), []*Upload{u})[0]; !errors.Is(o.Err, ErrReused) {
		t.Errorf("a request below the floor: %+v", o)
	}
}

// A point with as many rows in the quarantine as it may have keeps what would add more; other points go on.
func TestQuarantineIsBounded(t *testing.T) {
	s := open(t)
	s.o.QuarantineRows = 2
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	bad := strings.Repeat("x", 3000)
	seq := uint64(0)
	send := func(point, url string) error {
		seq++
		return s.Apply(testContext(t), []*Upload{upload(p, point, seq, []any{url, "ip", int64(1)})})[0].Err
	}
	for _, url := range []string{bad + "1", bad + "2"} {
		if err := send("p1", url); err != nil {
			t.Fatal(err)
		}
	}
	if err := send("p1", bad+"3"); !errors.Is(err, ErrQuarantineFull) {
		t.Errorf("a third row: %v", err)
	}
	if err := errors.Join(send("p1", "good"), send("p2", bad+"1"), send("p1", bad+"2")); err != nil {
		t.Errorf("a good row, another point's, and a newer version of one that is there: %v", err)
	}
	exec(t, s, "DELETE FROM sync_quarantine WHERE point_no = 'p1'")
	if err := s.lookForQuarantined(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if err := send("p1", bad+"3"); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

func TestQuarantine(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE odd (id INT PRIMARY KEY, f DOUBLE, b VARBINARY(20), u BIGINT UNSIGNED, tx VARCHAR(20)) "+
		"ENGINE = InnoDB DEFAULT CHARSET = utf8mb4")
	p := planOf(t, s, uploadRule("odd", "", "", "-- downside: insert\nINSERT INTO odd VALUES (:id, :f, :b, :u, :tx)\n"))
	row := []any{int64(1), 2.0, []byte{0, 0xff}, uint64(1<<64 - 1), "way too long for this column"}
	applied(t, s, upload(p, "p1", 9, []any{int64(0), nil, nil, nil, nil}, row,
		[]any{int64(1 << 40), nil, nil, nil, "\xff"}))

	all, err := s.ListQuarantine(testContext(t), QuarantineFilter{Limit: 10})
	if err != nil || len(all) != 2 {
		t.Fatalf("%v %v", all, err)
	}
	q := all[0]
	equal(t, "where from", fmt.Sprint(q.Point, q.RuleID, q.Table, q.Epoch, q.Seq, q.Row, q.Code), "p17odd1 9 1 1406")
	equal(t, "values", fmt.Sprintf("%#v", q.Values), fmt.Sprintf("%#v", row))
	equal(t, "fields", fmt.Sprint(q.Fields), "[id f b u tx]")
	equal(t, "text that is no text", all[1].Values[4].(string), "\xff")
	if q.CreatedAt.IsZero() || !q.EditedAt.IsZero() || q.Reason == "" {
		t.Errorf("%+v", q)
	}

	var refused *RowError
	if _, err := s.ReplayQuarantine(testContext(t), q.ID, p, rule.Env{}, false); !errors.As(err, &refused) ||
		refused.Code != 1406 {
		t.Errorf("replay as it is: %v", err)
	}
	q.Values[4] = "short"
	if err := s.EditQuarantine(testContext(t), q.ID, q.Fields, q.Values); err != nil {
		t.Fatal(err)
	}
	if edited, err := s.QuarantineRow(testContext(t), q.ID); err != nil || edited.EditedAt.IsZero() ||
		edited.Values[4] != "short" {
		t.Errorf("%+v %v", edited, err)
	}
	o, err := s.ReplayQuarantine(testContext(t), q.ID, p, rule.Env{}, false)
	if err != nil || o.Op != "insert" {
		t.Errorf("%+v %v", o, err)
	}
	equal(t, "the row", one(t, s, "SELECT CONCAT(f, HEX(b), u, tx) FROM odd WHERE id = 1"),
		"200FF18446744073709551615short")
	if _, err := s.ReplayQuarantine(testContext(t), q.ID, p, rule.Env{}, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("replayed twice: %v", err)
	}
	counts, err := s.CountQuarantine(testContext(t), QuarantineFilter{})
	if err != nil || len(counts) != 1 || counts[0].Rows != 1 || counts[0].Table != "odd" || counts[0].Oldest.IsZero() {
		t.Errorf("counts %+v, %v", counts, err)
	}
	// A row that is gone does not have another one dropped in its place.
	for _, tt := range []struct {
		id   uint64
		want error
	}{{all[0].ID, ErrNotFound}, {all[1].ID, nil}, {all[1].ID, ErrNotFound}} {
		n, err := s.DropQuarantine(testContext(t), QuarantineFilter{ID: tt.id})
		if !errors.Is(err, tt.want) || n != map[bool]int64{true: 1}[tt.want == nil] {
			t.Errorf("drop: %d %v", n, err)
		}
	}
	equal(t, "left", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "0")

	exec(t, s, "INSERT INTO sync_quarantine (point_no, rule_id, sync_table, epoch, seq, row_no, row_values, "+
		"error_code, error_text) VALUES ('p', 1, 'odd', 1, 1, 0, '{\"id\": [1]}', 1, '')")
	if _, err := s.ListQuarantine(testContext(t), QuarantineFilter{Limit: 10}); err == nil {
		t.Error("a list is no SQL value")
	}
}

func TestDecodeRow(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "[] []",
		`{"a": null, "b": -1, "c": 18446744073709551615, "d": 1.0, "e": 1e3, "f": "x", "g": true}`: `[a b c d e f g] [<nil> -1 18446744073709551615 1 1000 x 1]`,
		`{"a": {"base64": "AP8="}, "b": {"text64": "/w=="}}`:                                       "[a b] [[0 255] \xff]",
		`[]`: "", `{"a"}`: "", `{"a": 1`: "", `{"a": {}}`: "", `{"a": {"base64": "?"}}`: "", `{"a": {"base64": "", "b": 1}}`: "",
		`{"a": {"other": "AP8="}}`: "", `{"a": 99999999999999999999}`: "", `{"a": [1]}`: "", ``: "",
	} {
		fields, values, err := DecodeRow(text)
		if want == "" && err == nil || want != "" && (err != nil || fmt.Sprint(fields, values) != want) {
			t.Errorf("%s: %v %v %v", text, fields, values, err)
		}
	}
}

func FuzzDecodeRow(f *testing.F) {
	for _, seed := range []string{`{}`, `[`,
		`{"a": null, "b": -1, "c": 1.5, "d": {"base64": "AP8="}, "e": {"text64": "/w=="}}`, `{"a": {"base64": 1}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		fields, values, err := DecodeRow(text)
		if err != nil {
			return
		}
		again, err := EncodeRow(fields, values)
		if err != nil {
			t.Fatal(err)
		}
		f2, v2, err := DecodeRow(again)
		if err != nil || fmt.Sprintf("%q %#v", f2, v2) != fmt.Sprintf("%q %#v", fields, values) {
			t.Errorf("%q became %q: %v", text, again, err)
		}
	})
}
