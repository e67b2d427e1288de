package protocol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"syncgate/internal/rowset"
)

// badPayloads has one for each way to be malformed. All are read as a DownloadRequest, and are also in testdata.
var badPayloads = []struct {
	name, about, hex string
	err              error
}{
	{"truncated", "the map says three entries and has one", "a3016174", ErrPayload},
	{"trailing", "bytes follow the map", "a101617400", ErrPayload},
	{"not-a-map", "an array where the map should be", "820161740203", ErrPayload},
	{"indefinite-map", "a map of indefinite length", "bf016174ff", ErrPayload},
	{"indefinite-text", "a text of indefinite length", "a1017f6174ff", ErrPayload},
	{"indefinite-array", "an array of indefinite length", "a20161740 29fff", ErrPayload},
	{"long-head", "the length of a text in two bytes where one does", "a1017801" + "74", ErrPayload},
	{"long-uint", "the integer 5 in three bytes", "a2016174031900" + "05", ErrPayload},
	{"duplicate-key", "key 1 twice", "a20161740161" + "74", ErrPayload},
	{"descending-keys", "key 3 before key 1", "a20305016174", ErrPayload},
	{"text-key", "a text as key", "a1616b6174", ErrPayload},
	{"negative-key", "a negative key", "a120" + "6174", ErrPayload},
	{"tag", "a tagged value", "a20161740282" + "6161c100", ErrPayload},
	{"half-float", "a float in 16 bits", "a20161740282" + "6161f93c00", ErrPayload},
	{"single-float", "a float in 32 bits", "a20161740282" + "6161fa3f800000", ErrPayload},
	{"nan", "a float that is not a number", "a20161740282" + "6161fb7ff8000000000000", ErrPayload},
	{"infinity", "an infinite float", "a20161740282" + "6161fb7ff0000000000000", ErrPayload},
	{"undefined", "the simple value undefined", "a20161740282" + "6161f7", ErrPayload},
	{"boolean-value", "true, which is no SQL value", "a20161740282" + "6161f5", ErrPayload},
	{"negative-overflow", "-2^64, which is under every integer of SQL", "a20161740282" + "61613bffffffffffffffff",
		ErrPayload},
	{"array-value", "an array as a SQL value", "a20161740282" + "616180", ErrPayload},
	{"bad-utf8", "a text that is not UTF-8", "a1016" + "1ff", ErrPayload},
	{"surrogate-utf8", "a text with a lone surrogate", "a10163eda080", ErrPayload},
	{"odd-state", "a state item without its value", "a20161740281" + "6161", ErrPayload},
	{"empty", "no bytes: an empty map, which has no table", "", ErrPayload},
	{"no-table", "no table", "a10305", ErrPayload},
	{"empty-table", "an empty table name", "a10160", ErrPayload},
	{"long-table", "a table name of 257 bytes", "a101790101" + hex.EncodeToString(bytes.Repeat([]byte("t"), 257)),
		ErrPayload},
	{"max-rows-overflow", "2^32 as max_rows, which has 32 bits", "a2016174031b0000000100000000", ErrPayload},
	{"array-too-long", "an array of 2^32-1 elements announced in a payload of a few bytes", "a2016174029affffffff",
		ErrLimit},
	{"array-past-end", "an array of 100 elements with nothing behind it", "a201617402" + "9864", ErrPayload},
	{"text-past-end", "a text of 2^63 bytes announced", "a1017b8000000000000000", ErrPayload},
	{"too-deep", "an unknown key nested five deep", "a2016174188" + "18181818180", ErrLimit},
	{"tag-in-unknown", "a tag under an unknown key", "a20161741863c100", ErrPayload},
	{"reserved-info", "a head with the reserved additional information 28", "a1011c", ErrPayload},
}

func badPayload(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte(" "), nil)))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return b
}

func TestUnknownKeysAreSkipped(t *testing.T) {
	// 1: "t", 99: {1: [null, true, "x", h'00', -1, 1.5]}
	m := Message{Payload: badPayload(t, "a2016174"+"1863"+"a10186f6f56178410020fb3ff8000000000000")}
	r, err := m.DownloadRequest()
	if err != nil || r.Table != "t" {
		t.Fatal(r, err)
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		in   any
		text bool // in is text of a column
		hex  string
		out  any
	}{
		{nil, false, "f6", nil},
		{[]byte(nil), false, "f6", nil},
		{int64(0), false, "00", int64(0)},
		{int64(23), false, "17", int64(23)},
		{int64(24), false, "1818", int64(24)},
		{int64(255), false, "18ff", int64(255)},
		{int64(256), false, "190100", int64(256)},
		{int64(65536), false, "1a00010000", int64(65536)},
		{int64(1) << 32, false, "1b0000000100000000", int64(1) << 32},
		{int64(math.MaxInt64), false, "1b7fffffffffffffff", int64(math.MaxInt64)},
		{uint64(7), false, "07", int64(7)},
		{uint64(math.MaxUint64), false, "1bffffffffffffffff", uint64(math.MaxUint64)},
		{int64(-1), false, "20", int64(-1)},
		{int64(-25), false, "3818", int64(-25)},
		{int64(math.MinInt64), false, "3b7fffffffffffffff", int64(math.MinInt64)},
		{1.5, false, "fb3ff8000000000000", 1.5},
		{float32(1.5), false, "fb3ff8000000000000", 1.5},
		{"", false, "60", ""},
		{"中", false, "63e4b8ad", "中"},
		{"\xff", false, "41ff", []byte{0xff}},
		{[]byte("中"), true, "63e4b8ad", "中"},
		{[]byte{0xff}, true, "41ff", []byte{0xff}},
		{[]byte("中"), false, "43e4b8ad", []byte("中")},
		{[]byte{}, false, "40", []byte{}},
	} {
		got, err := appendValue(nil, c.in, c.text)
		if err != nil || hex.EncodeToString(got) != c.hex {
			t.Errorf("%#v: %x, %v; want %s", c.in, got, err, c.hex)
		}
		d := decoder{buf: got}
		if out := d.value(); d.err != nil || !reflect.DeepEqual(out, c.out) {
			t.Errorf("%s: %#v, %v; want %#v", c.hex, out, d.err, c.out)
		}
	}
	for _, bad := range []any{true, int(1), math.NaN(), math.Inf(-1), struct{}{}} {
		if _, err := appendValue(nil, bad, false); !errors.Is(err, ErrValue) {
			t.Errorf("%#v: %v", bad, err)
		}
	}
}

func anyValue() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Just[any](nil),
		rapid.Int64().AsAny(),
		rapid.Uint64Range(math.MaxInt64+1, math.MaxUint64).AsAny(),
		rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).AsAny(),
		rapid.String().AsAny(),
		rapid.SliceOf(rapid.Byte()).Filter(func(b []byte) bool { return b != nil }).AsAny(),
	)
}

// An independent implementation in its strictest mode reads our bytes as the same value.
func TestAgainstAnotherCBOR(t *testing.T) {
	other, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, UTF8: cbor.UTF8RejectInvalid,
		TagsMd: cbor.TagsForbidden, IntDec: cbor.IntDecConvertNone,
	}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(anyValue(), 1, 40).Draw(t, "values")
		want := UploadRequest{
			Confirmed: rapid.Uint64().Draw(t, "confirmed"), Table: rapid.StringN(1, 20, maxName).Draw(t, "table"),
			Rows: rowset.Rows{Columns: []string{"c"}, Values: values},
		}
		b, err := AppendPayload(nil, &want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&Message{Payload: b}).UploadRequest()
		if err != nil {
			t.Fatal(err)
		}
		if got.Table != want.Table || got.Confirmed != want.Confirmed || !sameValues(got.Rows.Values, values) {
			t.Fatalf("%#v\nwant %#v", got, want)
		}
		var theirs map[uint64]any
		if err := other.Unmarshal(b, &theirs); err != nil {
			t.Fatal(err)
		}
		for i, v := range theirs[4].([]any) {
			if u, ok := v.(uint64); ok && u <= math.MaxInt64 {
				v = int64(u)
			}
			if !reflect.DeepEqual(v, values[i]) {
				t.Fatalf("value %d: %#v, want %#v", i, v, values[i])
			}
		}
	})
}

func sameValues(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !reflect.DeepEqual(a[i], b[i]) {
			return false
		}
	}
	return true
}
