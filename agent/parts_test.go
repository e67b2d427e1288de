package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

// testRowBytes is the largest row in these tests.
const testRowBytes = 16 << 20

func TestPacker(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name      string
		rows      []string
		maxRows   int
		want      []int // rows of each batch
		oversized int
	}{
		{"none", nil, 2, nil, 0},
		{"by rows", []string{"a", "b", "c", "d", "e"}, 2, []int{2, 2, 1}, 0},
		{"by bytes", []string{text(batchBytes / 2), text(batchBytes / 2), "c"}, 9, []int{1, 2}, 0},
		{"a large row goes alone", []string{"a", text(batchBytes), "c"}, 9, []int{1, 1, 1}, 0},
		{"a row for no frame", []string{"a", text(testRowBytes), "c"}, 9, []int{2}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := &packer{table: "things", maxRows: test.maxRows, maxBytes: 1 << 40, most: batchBytes,
				maxRow: testRowBytes}
			if err := p.Begin(0, []rowset.Column{{Name: "id"}, {Name: "name"}}); err != nil {
				t.Fatal(err)
			}
			for i, name := range test.rows {
				if err := p.Row([]any{int64(i), name}); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.flush(); err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, b := range p.batches {
				got = append(got, b.rows)
				m := protocol.Message{Op: protocol.OpUpload, Payload: b.payload}
				if u, err := m.UploadRequest(); err != nil || u.Rows.Len() != b.rows || u.Table != "things" {
					t.Errorf("batch of %d rows decodes to %v, %v", b.rows, u, err)
				}
				if b.rows > 1 && len(b.payload) > batchBytes+1024 {
					t.Errorf("batch of %d rows has %d bytes", b.rows, len(b.payload))
				}
				if len(b.payload) > testRowBytes {
					t.Errorf("no frame carries a payload of %d bytes", len(b.payload))
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) || len(p.oversized) != test.oversized {
				t.Errorf("batches of %v rows and %d oversized, want %v and %d", got, len(p.oversized), test.want,
					test.oversized)
			}
		})
	}
}

func TestPackerHasEnough(t *testing.T) {
	for name, p := range map[string]*packer{
		"rows": {maxRows: 10, pageRows: 3, maxBytes: 1 << 40, most: batchBytes, maxRow: testRowBytes,
			enough: store.ErrEnough},
		"bytes": {maxRows: 10, most: batchBytes, maxRow: testRowBytes, maxBytes: int64(3 * rowset.Size([]any{"x"})),
			enough: store.ErrEnough},
	} {
		if err := p.Begin(0, []rowset.Column{{Name: "name"}}); err != nil {
			t.Fatal(err)
		}
		n := 1
		for p.Row([]any{"x"}) == nil {
			n++
		}
		if n != 3 {
			t.Errorf("%s: enough after %d rows, want 3", name, n)
		}
	}
}

func TestPackerCopiesBytes(t *testing.T) {
	p := &packer{table: "t", maxRows: 10, maxBytes: 1 << 40, maxRow: testRowBytes}
	if err := p.Begin(0, []rowset.Column{{Name: "b"}}); err != nil {
		t.Fatal(err)
	}
	b := []byte("one")
	if err := p.Row([]any{b}); err != nil {
		t.Fatal(err)
	}
	copy(b, "two")
	if got := string(p.values[0].([]byte)); got != "one" {
		t.Errorf("the batch has %q, want one", got)
	}
}

func TestUpdateStateNeedsItsFields(t *testing.T) {
	p := &packer{fields: []string{"ID", "name"}, maxRows: 1, maxRow: testRowBytes}
	if err := p.Begin(0, []rowset.Column{{Name: "name"}, {Name: "id"}}); err != nil {
		t.Errorf("all are there: %v", err)
	}
	if err := p.Begin(0, []rowset.Column{{Name: "name"}}); err == nil ||
		!strings.Contains(err.Error(), "no column ID") {
		t.Errorf("one lacks: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{first: 100 * time.Millisecond, limit: time.Second}
	for i, most := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
		most *= time.Millisecond
		if d := b.next(); d < most/2 || d > most {
			t.Errorf("pause %d is %v, want %v to %v", i, d, most/2, most)
		}
	}
	b.tries = 1000
	if d := b.next(); d < b.limit/2 || d > b.limit {
		t.Errorf("a late pause is %v", d)
	}
	b.tries = 0
	if d := b.next(); d > b.first {
		t.Errorf("after a reset: %v", d)
	}
}

func TestTransient(t *testing.T) {
	tests := []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("x: %w", ErrLost), true},
		{&Refusal{Code: protocol.StatusBusy}, true},
		{&Refusal{Code: protocol.StatusDBUnavailable}, true},
		{&Refusal{Code: protocol.StatusDeadlock}, true},
		{&Refusal{Code: protocol.StatusNoRule}, false},
		{&Refusal{Code: protocol.StatusRuleBroken}, false},
		{&Refusal{Code: protocol.StatusRuleDisabled}, false},
		{fmt.Errorf("x: %w", store.ErrRetry), true},
		{store.ErrReadOnly, false},
		{errors.New("x"), false},
	}
	for _, test := range tests {
		if got := transient(test.err); got != test.want {
			t.Errorf("transient(%v) is %v", test.err, got)
		}
	}
}

func TestOptions(t *testing.T) {
	good := Options{Store: &store.Store{}, Server: "h:1", Point: "p"}
	tests := map[string]func(*Options){
		"Store":       func(o *Options) { o.Store = nil },
		"Server":      func(o *Options) { o.Server = "" },
		"Point":       func(o *Options) { o.Point = strings.Repeat("p", 65) },
		"OutboxBytes": func(o *Options) { o.OutboxBytes = -1 },
	}
	for want, spoil := range tests {
		o := good
		spoil(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
	o := good
	o.Software = strings.Repeat("ä", 40)
	a, err := New(o)
	if err != nil || len(a.opts.Software) > maxSoftware || a.opts.FullInterval != 60*a.opts.Interval {
		t.Errorf("%+v, %v", a.opts, err)
	}
}
