package protocol

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"syncgate/internal/rowset"
)

var testColumns = []rowset.Column{{Name: "url", Type: "VARCHAR", Binary: false},
	{Name: "ip", Type: "VARBINARY", Binary: true}, {Name: "hits", Type: "BIGINT", Binary: false}}

func begun(t testing.TB) *RowEncoder {
	t.Helper()
	e := new(RowEncoder)
	if err := e.Begin(2, testColumns); err != nil {
		t.Fatal(err)
	}
	return e
}

// The encoder writes the same bytes as AppendPayload for the last part, and the same rows in the other parts.
func TestRowEncoderWritesTheSamePayload(t *testing.T) {
	for _, rows := range []int{0, 1, 7, 8, 86, 100, 30000} {
		e := begun(t)
		want := DownloadReply{Statement: 2, Columns: []string{"url", "ip", "hits"},
			Types: []string{"VARCHAR", "VARBINARY", "BIGINT"},
			State: []rowset.StateItem{{Name: "id", Value: int64(rows)}}, More: true, Total: uint64(rows)}
		for i := range rows {
			if err := e.Append([]any{[]byte("http://x"), []byte{1, 2, 3, 4}, int64(i)}); err != nil {
				t.Fatal(err)
			}
			want.Values = append(want.Values, "http://x", []byte{1, 2, 3, 4}, int64(i))
		}
		if e.Rows() != rows || e.total != uint64(rows) {
			t.Fatalf("%d rows, total %d", e.Rows(), e.total)
		}
		estimate := e.Len()
		m, err := e.Last(MakeRequestID(1, 2), want.State, true)
		if err != nil {
			t.Fatal(err)
		}
		wantBytes, err := AppendPayload(nil, &want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Payload, wantBytes) || m.More() || m.Op != OpDownload {
			t.Fatalf("%d rows: other bytes than AppendPayload's", rows)
		}
		if short := len(m.Payload) - estimate; short > 20 || short < -maxHeads {
			t.Errorf("%d rows: Len said %d, payload has %d", rows, estimate, len(m.Payload))
		}
	}
}

func TestRowEncoderParts(t *testing.T) {
	e := begun(t)
	id := MakeRequestID(1, 2)
	var got []any
	for i := range 5 {
		if err := e.Append([]any{"u", nil, int64(i)}); err != nil {
			t.Fatal(err)
		}
		m, err := e.Part(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := (&Message{Payload: bytes.Clone(m.Payload)}).DownloadReply()
		if err != nil || !m.More() || r.Statement != 2 || r.Total != 0 {
			t.Fatal(r, err)
		}
		got = append(got, r.Values...)
	}
	if len(got) != 15 || got[14] != int64(4) {
		t.Fatal(got)
	}
	if err := e.Begin(3, testColumns[:1]); err != nil {
		t.Fatal(err)
	}
	if err := e.Append([]any{"x"}); err != nil {
		t.Fatal(err)
	}
	if err := e.Begin(4, testColumns); !errors.Is(err, errState) {
		t.Errorf("began over rows that nobody took: %v", err)
	}
	m, err := e.Last(id, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := m.DownloadReply(); err != nil || r.Total != 6 || r.Statement != 3 ||
		!reflect.DeepEqual(r.Values, []any{"x"}) {
		t.Fatal(r, err)
	}
	empty, err := e.Last(id, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := empty.DownloadReply(); err != nil || r.Total != 0 || r.Columns != nil {
		t.Fatal(r, err)
	}
}

func TestRowEncoderRefuses(t *testing.T) {
	if _, err := new(RowEncoder).Part(RequestID{}, nil); !errors.Is(err, errState) {
		t.Errorf("a part before Begin: %v", err)
	}
	e := begun(t)
	for _, row := range [][]any{nil, {"u"}, {"u", nil, true}, {"u", nil, math.NaN()}} {
		if err := e.Append(row); !errors.Is(err, ErrValue) {
			t.Errorf("%v: %v", row, err)
		}
	}
	if e.Rows() != 0 {
		t.Error("a refused row left something")
	}
	if err := e.Append([]any{"u", nil, int64(1)}); err != nil {
		t.Fatal(err)
	}
	m, err := e.Part(RequestID{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := m.DownloadReply(); err != nil || r.Rows().Len() != 1 {
		t.Fatal(r, err)
	}
}

func TestRowEncoderAllocatesNothingARow(t *testing.T) {
	e := begun(t)
	row := []any{"http://example.org/", []byte{1, 2, 3, 4}, int64(123456)}
	grow := func() {
		for range 1000 {
			if err := e.Append(row); err != nil {
				t.Fatal(err)
			}
		}
	}
	part := func() {
		grow()
		if _, err := e.Part(RequestID{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	part()
	if n := testing.AllocsPerRun(20, part); n > 1 { // the Message
		t.Errorf("%v allocations for 1000 rows and a part", n)
	}
}
