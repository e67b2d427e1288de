package pyliteral

import (
	"math/big"
	"reflect"
	"testing"
)

func TestSQL(t *testing.T) {
	beyond, _ := new(big.Int).SetString("-18446744073709551616", 10)
	for _, tt := range []struct {
		in   Value
		want any
	}{
		{nil, nil}, {true, int64(1)}, {false, int64(0)}, {int64(-5), int64(-5)}, {Long(7), int64(7)},
		{1.5, 1.5},
		{new(big.Int).SetUint64(1 << 63), uint64(1 << 63)}, {beyond, "-18446744073709551616"},
		{Str("中"), "中"}, {Str("\xff"), []byte("\xff")}, {Unicode("x"), "x"},
		{Unicode("\xed\xa0\x80"), []byte("\xed\xa0\x80")},
		{Bytes("x"), []byte("x")}, {Decimal("1.50"), "1.50"},
		{DateTime{Year: 2020, Month: 1, Day: 2, Microsecond: 5}, "2020-01-02 00:00:00.000005"},
		{Date{Year: 1, Month: 2, Day: 3}, "0001-02-03"}, {Time{Hour: 4}, "04:00:00"},
		{TimeDelta{Days: 2, Seconds: 3}, "48:00:03"},
		{TimeDelta{Days: -1, Seconds: 86399, Microseconds: 500000}, "-00:00:00.500000"},
		{TimeDelta{Days: 999_999_999, Seconds: 1}, "23999999976:00:01"}, {TimeDelta{Days: -1}, "-24:00:00"},
	} {
		if got, ok := SQL(tt.in); !ok || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%#v is %#v, %v; want %#v", tt.in, got, ok, tt.want)
		}
	}
	for _, v := range []Value{Tuple{}, List{}, Dict{}, Date{2019, 2, 29}, Time{24, 0, 0, 0}, 1} {
		if got, ok := SQL(v); ok {
			t.Errorf("%#v is %#v", v, got)
		}
	}
}
