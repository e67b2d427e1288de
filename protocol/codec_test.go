package protocol

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"syncgate/internal/rowset"
)

// bodies has each payload with every field set, and its reader.
var bodies = []struct {
	body any
	read func(*Message) (any, error)
}{
	{&UploadRequest{Confirmed: 7, Table: "t", Rows: rowset.Rows{Columns: []string{"a", "b"},
		Values: []any{int64(1), "x", nil, []byte{0}}}, State: []rowset.StateItem{{Name: "id", Value: int64(3)}},
		Seen: 5, After: 0}, read((*Message).UploadRequest)},
	{&UploadRequest{Table: "t", Part: rowset.All, Rows: rowset.Rows{Instants: []string{"ts"}}},
		read((*Message).UploadRequest)},
	{&UploadRequest{Table: "t"}, read((*Message).UploadRequest)},
	{&UploadReply{9, map[string]uint64{"insert": 8, "update": 1}, []QuarantinedRow{{3, StatusRowRefused, "no"}}, true,
		Reached{4, []rowset.StateItem{{Name: "id", Value: int64(3)}}}, 7, []string{"site"}},
		read((*Message).UploadReply)},
	{&UploadReply{}, read((*Message).UploadReply)},
	{&DownloadRequest{"t", []rowset.StateItem{{Name: "update_time", Value: "2026-01-02 03:04:05"},
		{Name: "id", Value: int64(-4)}}, 1000, []string{"id"},
		Held{[]byte("12345678901234567890123456789012"), 70_000}, ""}, read((*Message).DownloadRequest)},
	{&DownloadReply{1, []string{"a"}, []string{"INT"}, []any{int64(1), nil},
		[]rowset.StateItem{{Name: "id", Value: uint64(math.MaxUint64)}}, true, 2}, read((*Message).DownloadReply)},
	{&DownloadReply{}, read((*Message).DownloadReply)},
	{&HeldRequest{[]byte("12345678901234567890123456789012")}, read((*Message).HeldRequest)},
	{&HeldReply{70_000}, read((*Message).HeldReply)},
	{&RulesReply{42, []RuleRow{{{Name: "id", Value: int64(1)}, {Name: "note", Value: nil}},
		{{Name: "id", Value: int64(2)}}}}, read((*Message).RulesReply)},
	{&CompareRequest{"t", "upload", 3, []string{"a", "b"}, []any{int64(1)}, []any{int64(9), int64(17)}, true, true,
		[]any{int64(2), uint64(math.MaxUint64), int64(3), nil}, true}, read((*Message).CompareRequest)},
	{&CompareReply{[]string{"a", "b"}, []any{int64(8), uint64(math.MaxUint64), int64(0), int64(0)}, []uint32{0},
		[]uint32{1, 2}, []any{int64(5)}, true, true, true}, read((*Message).CompareReply)},
	{&ResyncRequest{3, "done", 200_000, 1, 2, 3, "first keys different: 17"}, read((*Message).ResyncRequest)},
	{&ResyncReply{3, "t", "download", "n > 0", true}, read((*Message).ResyncReply)},
	{&ReportRequest{rowset.Report{Software: "syncgate-agent 1.0", Database: "10.11.6-MariaDB", ClockMs: 1767323045000,
		UpMs: 60000, DiskFree: 1 << 34, Memory: 1 << 24, Rules: []rowset.RuleReport{
			{Table: "t", Direction: "upload", RuleID: 7, State: rowset.RuleStale, Code: "SG0412", Column: "sync_sql",
				Line: 3, Text: "no column b", SucceededMs: 900, FailingMs: 1, LagMs: 1500, BacklogRows: 12,
				BacklogBytes: 3400, Quarantined: 2, Moved: 100, Failures: 4},
			{Table: "u", Direction: "download", State: rowset.RuleOK}}}}, read((*Message).ReportRequest)},
	{&ReportReply{60000}, read((*Message).ReportReply)},
	{&ReportReply{}, read((*Message).ReportReply)},
	{&PingReply{42, 1767323045000}, read((*Message).PingReply)},
	{&SubscribeRequest{[]string{"t", "u"}, true}, read((*Message).SubscribeRequest)},
	{&SubscribeReply{PingReply{42, 1767323045000}, []string{"t", "u"}, []string{"u"}}, read((*Message).SubscribeReply)},
	{&RunRequest{"t", "upload"}, read((*Message).RunRequest)},
	{&RunReply{"3 rows acknowledged", 3, 1, 2}, read((*Message).RunReply)},
	{&ErrorReply{"later", 1500, Reached{4, []rowset.StateItem{{Name: "id", Value: nil}}}}, read((*Message).ErrorReply)},
	{&GoAway{"drain", 10000}, read((*Message).GoAway)},
}

func read[T any](f func(*Message) (*T, error)) func(*Message) (any, error) {
	return func(m *Message) (any, error) { return f(m) }
}

func TestPayloads(t *testing.T) {
	for _, c := range bodies {
		b, err := AppendPayload(nil, c.body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.read(&Message{Payload: b})
		if err != nil {
			t.Errorf("%T: %v", c.body, err)
			continue
		}
		if u, ok := got.(*UploadRequest); ok {
			u.encoded = nil
		}
		if !reflect.DeepEqual(got, c.body) {
			t.Errorf("%+v\nwant %+v", got, c.body)
		}
		if same, err := c.read(&Message{Body: c.body}); err != nil || same != c.body {
			t.Errorf("%T as a body: %v, %v", c.body, same, err)
		}
		for n := range b {
			if _, err := c.read(&Message{Payload: b[:n]}); n > 0 && err == nil {
				t.Errorf("%T: took its first %d bytes of %d", c.body, n, len(b))
			}
		}
		if _, err := c.read(&Message{Body: 1}); !errors.Is(err, errBody) {
			t.Errorf("%T: a strange body: %v", c.body, err)
		}
	}
}

func TestDigest(t *testing.T) {
	u := UploadRequest{Table: "t", Rows: rowset.Rows{Columns: []string{"a"}, Values: []any{int64(1)}}}
	stored, err := AppendPayload(nil, &u)
	if err != nil {
		t.Fatal(err)
	}
	want, err := u.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, confirmed := range []uint64{0, 1, 23, 24, math.MaxUint64} {
		payload, err := WithConfirmed(stored, confirmed)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&Message{Payload: payload}).UploadRequest()
		if err != nil || got.Confirmed != confirmed {
			t.Fatalf("%+v, %v", got, err)
		}
		if again, err := AppendPayload(nil, got); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("written again %x, %v", again, err)
		}
		if d, err := got.Digest(); d != want || err != nil {
			t.Errorf("confirmed %d changes the digest: %v", confirmed, err)
		}
	}
	u.Rows.Values[0] = int64(2)
	if d, _ := u.Digest(); d == want {
		t.Error("another row, the same digest")
	}
	twice, _ := WithConfirmed(stored, 5)
	if _, err := WithConfirmed(twice, 6); !errors.Is(err, ErrPayload) {
		t.Errorf("confirmed put in twice: %v", err)
	}
}

// An upload of the v2 wire may not have an epoch of the v1 wire. An upload of the v1 wire has a Body.
func TestUploadEpochs(t *testing.T) {
	body := &UploadRequest{Table: "t"}
	payload, err := AppendPayload(nil, body)
	if err != nil {
		t.Fatal(err)
	}
	for epoch, want := range map[uint64]Status{1: StatusOK, LegacyEpoch - 1: StatusOK,
		LegacyEpoch: StatusRequestIDReused, math.MaxUint64: StatusRequestIDReused} {
		m := Message{Op: OpUpload, RequestID: MakeRequestID(epoch, 1), Payload: payload}
		if _, err := m.UploadRequest(); StatusOf(err) != want {
			t.Errorf("epoch %x: %v", epoch, err)
		}
		m.Body = body
		if _, err := m.UploadRequest(); err != nil {
			t.Errorf("epoch %x on the v1 wire: %v", epoch, err)
		}
	}
}

func TestTable(t *testing.T) {
	for _, c := range []struct {
		op   Op
		body any
		want string
	}{
		{OpUpload, &UploadRequest{Table: "up"}, "up"},
		{OpUpload, &UploadRequest{Table: "up", Confirmed: math.MaxUint64}, "up"},
		{OpUpload, &UploadRequest{Table: strings.Repeat("u", maxName), Confirmed: math.MaxUint64},
			strings.Repeat("u", maxName)},
		{OpDownload, &DownloadRequest{Table: "down"}, "down"},
		{OpPing, &PingReply{}, ""},
	} {
		b, err := AppendPayload(nil, c.body)
		if err != nil {
			t.Fatal(err)
		}
		if got := (&Message{Op: c.op, Payload: b}).Table(); got != c.want {
			t.Errorf("%s: %q", c.op, got)
		}
		if got := (&Message{Op: c.op, Body: c.body}).Table(); got != c.want {
			t.Errorf("%s as a body: %q", c.op, got)
		}
		for n := range min(len(b), 5) {
			if got := (&Message{Op: c.op, Payload: b[:n]}).Table(); got != "" {
				t.Errorf("%s of %d bytes: %q", c.op, n, got)
			}
		}
	}
}

func TestNoPayload(t *testing.T) {
	for _, c := range bodies {
		_, err := c.read(&Message{})
		switch c.body.(type) {
		case *UploadRequest, *DownloadRequest, *CompareRequest, *RunRequest:
			if !errors.Is(err, ErrPayload) {
				t.Errorf("%T without a table: %v", c.body, err)
			}
		default:
			if err != nil {
				t.Errorf("%T: %v", c.body, err)
			}
		}
	}
}

func TestRowsMustBeWhole(t *testing.T) {
	for _, r := range []rowset.Rows{{Columns: []string{"a", "b"}, Values: []any{int64(1)}},
		{Columns: nil, Values: []any{int64(1)}}} {
		b, err := AppendPayload(nil, &UploadRequest{Table: "t", Rows: r})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&Message{Payload: b}).UploadRequest(); !errors.Is(err, ErrPayload) {
			t.Errorf("%v: %v", r, err)
		}
		b, err = AppendPayload(nil, &DownloadReply{Columns: r.Columns, Types: r.Columns, Values: r.Values})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&Message{Payload: b}).DownloadReply(); !errors.Is(err, ErrPayload) {
			t.Errorf("%v: %v", r, err)
		}
	}
}

func TestClip(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("x", 2000), strings.Repeat("中", 400), "\xff\xfe",
		strings.Repeat("\xff", 2000)} {
		got := clip(s)
		if len(got) > maxText || !utf8.ValidString(got) || utf8.ValidString(s) && len(got) < min(len(s), maxText)-3 {
			t.Errorf("%d bytes became %d", len(s), len(got))
		}
	}
}

// TestDecodingIsBounded reads the payload that costs the most for each byte.
func TestDecodingIsBounded(t *testing.T) {
	nulls := appendHead([]byte{0xa3, 2, 0x61, 't', 3, 0x81, 0x61, 'a', 4}, majorArray, 1<<20)
	nulls = append(nulls, strings.Repeat("\xf6", 1<<20)...)
	rows := appendHead([]byte{0xa1, 2}, majorArray, 1<<20)
	rows = append(rows, strings.Repeat("\x80", 1<<20)...)
	for name, f := range map[string]func() error{
		"nulls": func() error { _, err := (&Message{Payload: nulls}).UploadRequest(); return err },
		"rules": func() error { _, err := (&Message{Payload: rows}).RulesReply(); return err },
		"announced": func() error {
			_, err := (&Message{Payload: append(nulls[:8:8], 4, 0x9a, 0, 0x1f, 0xff, 0xff)}).UploadRequest()
			if err == nil {
				t.Error("announced: taken")
			}
			return nil
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := f(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 40<<20 {
			t.Errorf("%s: %d MiB for 1 MiB", name, grown>>20)
		}
	}
}

func FuzzPayload(f *testing.F) {
	for _, c := range bodies {
		b, err := AppendPayload(nil, c.body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, c := range badPayloads {
		f.Add(badPayload(f, c.hex))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, c := range bodies {
			got, err := c.read(&Message{Payload: payload})
			if err != nil {
				if s := StatusOf(err); s != StatusMalformed && s != StatusTooLarge {
					t.Fatalf("%T: %v has status %s", c.body, err, s)
				}
				continue
			}
			again, err := AppendPayload(nil, got)
			if err != nil {
				t.Fatalf("%T: cannot be written again: %v", c.body, err)
			}
			back, err := c.read(&Message{Payload: again})
			if err != nil {
				t.Fatalf("%T: what was written is refused: %v", c.body, err)
			}
			for _, x := range []any{got, back} {
				if u, ok := x.(*UploadRequest); ok {
					u.encoded = nil
				}
			}
			if !reflect.DeepEqual(got, back) {
				t.Fatalf("%+v\nread again %+v", got, back)
			}
		}
	})
}
