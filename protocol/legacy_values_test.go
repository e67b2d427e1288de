package protocol

import (
	"math/big"
	"reflect"
	"testing"

	"syncgate/internal/pyliteral"
)

func TestLegacyValue(t *testing.T) {
	text := func(s string) pyliteral.Value { return pyliteral.Unicode(s) }
	for _, tt := range []struct {
		mysql string
		in    any
		want  pyliteral.Value
	}{
		{"INT", nil, nil}, {"INT", int64(1), pyliteral.Long(1)}, {"UNSIGNED BIGINT", uint64(1), pyliteral.Long(1)},
		{"BIGINT UNSIGNED", uint64(1<<64 - 1), new(big.Int).SetUint64(1<<64 - 1)}, {"TINYINT", int64(1), int64(1)},
		{"tinyint(1)", int64(1), int64(1)},
		{"UNSIGNED SMALLINT", int64(1), int64(1)}, {"YEAR", int64(2020), int64(2020)}, {"YEAR", "2020", int64(2020)},
		{"INT", "12", pyliteral.Long(12)},
		{"FLOAT", "1.5", 1.5}, {"DOUBLE", 2.5, 2.5}, {"DOUBLE", int64(2), 2.0},
		{"DECIMAL", "1.50", pyliteral.Decimal("1.50")}, {"DECIMAL", "odd", text("odd")},
		{"DATETIME", "2020-01-02 03:04:05.6", pyliteral.DateTime{Year: 2020, Month: 1, Day: 2, Hour: 3, Minute: 4,
			Second: 5, Microsecond: 600000}},
		{"TIMESTAMP", "2020-01-02 03:04:05", pyliteral.DateTime{Year: 2020, Month: 1, Day: 2, Hour: 3, Minute: 4,
			Second: 5}},
		{"DATETIME", "0000-00-00 00:00:00", nil}, {"DATETIME", "2020-00-01 00:00:00", nil},
		{"DATE", "2020-01-02", pyliteral.Date{Year: 2020, Month: 1, Day: 2}}, {"DATE", "0000-00-00", nil},
		{"DATE", "0000-01-01", nil},
		{"TIME", "01:02:03", pyliteral.TimeDelta{Seconds: 3723}},
		{"TIME", "-838:59:59", pyliteral.TimeDelta{Days: -35, Seconds: 3601}},
		{"TIME", "-00:00:00.500000", pyliteral.TimeDelta{Days: -1, Seconds: 86399, Microseconds: 500000}},
		{"TIME", "25:00:00.1", pyliteral.TimeDelta{Days: 1, Seconds: 3600, Microseconds: 100000}},
		{"TIME", "12:00", nil}, {"TIME", "x:00:00", nil},
		{"BLOB", []byte{0xff}, pyliteral.Bytes("\xff")}, {"BLOB", []byte(nil), nil},
		{"VARBINARY", "x", pyliteral.Bytes("x")}, {"BIT", []byte{1}, pyliteral.Bytes("\x01")},
		{"VARCHAR", "中", text("中")}, {"JSON", "{}", text("{}")}, {"SET", "a,b", text("a,b")}, {"", "x", text("x")},
		{"TEXT", "\xff", pyliteral.Bytes("\xff")},
	} {
		got, ok := legacyPrinter{dialect: pyliteral.Python2}.value(tt.in, legacyType(tt.mysql))
		if !ok || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s %#v is %#v, %v; want %#v", tt.mysql, tt.in, got, ok, tt.want)
		}
	}
	if got, ok := (legacyPrinter{}).value(struct{}{}, "TEXT"); ok {
		t.Errorf("a struct is %v", got)
	}
}
