package store

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// collect keeps what a sink is given.
type collect struct {
	cols  []rowset.Column
	rows  [][]any
	begun []int
	row   func(n int) error // called after the nth row, from 1
}

func (c *collect) Begin(statement int, cols []rowset.Column) error {
	c.begun = append(c.begun, statement)
	c.cols = cols
	return nil
}

func (c *collect) Row(values []any) error {
	row := make([]any, len(values))
	for i, v := range values {
		if b, ok := v.([]byte); ok {
			v = append([]byte{}, b...)
		}
		row[i] = v
	}
	c.rows = append(c.rows, row)
	if c.row != nil {
		return c.row(len(c.rows))
	}
	return nil
}

// values are the rows one after the other, as an upload has them.
func (c *collect) values() []any {
	var all []any
	for _, row := range c.rows {
		all = append(all, row...)
	}
	return all
}

// columnTypes are every kind of column and values for it, as a point may have them.
func columnTypes() []struct {
	name, sql string
	value     *rapid.Generator[any]
} {
	integer := func(low, high int64) *rapid.Generator[any] {
		return rapid.Int64Range(low, high).AsAny()
	}
	text := func(most int) *rapid.Generator[any] { return rapid.StringN(0, most, -1).AsAny() }
	latin := rapid.StringOfN(rapid.RuneFrom(nil, latinRunes()), 0, 100, -1).AsAny()
	format := func(layout string, parts ...*rapid.Generator[int]) *rapid.Generator[any] {
		return rapid.Custom(func(t *rapid.T) any {
			args := make([]any, len(parts))
			for i, p := range parts {
				args[i] = p.Draw(t, "part")
			}
			return fmt.Sprintf(layout, args...)
		})
	}
	r := rapid.IntRange
	float32s := rapid.Custom(func(t *rapid.T) any {
		return float64(rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32).Draw(t, "f"))
	})
	bytes := func(least, most int) *rapid.Generator[any] { return rapid.SliceOfN(rapid.Byte(), least, most).AsAny() }
	digits := rapid.Custom(func(t *rapid.T) any {
		return rapid.SampledFrom([]string{"", "-"}).Draw(t, "sign") +
			rapid.StringMatching(`[1-9][0-9]{0,34}\.[0-9]{30}`).Draw(t, "digits")
	})
	zeroOr := func(zero string, g *rapid.Generator[any]) *rapid.Generator[any] {
		return rapid.OneOf(rapid.Just[any](zero), g)
	}
	return []struct {
		name, sql string
		value     *rapid.Generator[any]
	}{
		{"i8", "TINYINT", integer(math.MinInt8, math.MaxInt8)},
		{"u8", "TINYINT UNSIGNED", integer(0, math.MaxUint8)},
		{"i16", "SMALLINT", integer(math.MinInt16, math.MaxInt16)},
		{"u16", "SMALLINT UNSIGNED", integer(0, math.MaxUint16)},
		{"i24", "MEDIUMINT", integer(-1<<23, 1<<23-1)},
		{"u24", "MEDIUMINT UNSIGNED", integer(0, 1<<24-1)},
		{"i32", "INT", integer(math.MinInt32, math.MaxInt32)},
		{"u32", "INT UNSIGNED", integer(0, math.MaxUint32)},
		{"i64", "BIGINT", integer(math.MinInt64, math.MaxInt64)},
		{"u64", "BIGINT UNSIGNED", rapid.Uint64().AsAny()},
		{"big", "DECIMAL(65,30)", digits},
		{"money", "DECIMAL(10,2)", rapid.StringMatching(`-?[0-9]{1,8}\.[0-9]{2}`).AsAny()},
		{"f", "FLOAT", float32s},
		{"d", "DOUBLE", rapid.Float64Range(-math.MaxFloat64, math.MaxFloat64).AsAny()},
		{"b1", "BIT(1)", rapid.SampledFrom([]any{[]byte{0}, []byte{1}})},
		{"b64", "BIT(64)", bytes(8, 8)},
		{"ch", "CHAR(20)", text(20)},
		{"vc", "VARCHAR(100)", text(100)},
		{"vl", "VARCHAR(100) CHARACTER SET latin1", latin},
		{"tl", "TEXT CHARACTER SET latin1", latin},
		{"tt", "TINYTEXT", text(60)},
		{"lt", "LONGTEXT", text(500)},
		{"bi", "BINARY(8)", bytes(8, 8)},
		{"vb", "VARBINARY(100)", bytes(0, 100)},
		{"bl", "LONGBLOB", bytes(0, 500)},
		{"da", "DATE", zeroOr("0000-00-00", format("%04d-%02d-%02d", r(1000, 9999), r(0, 12), r(0, 28)))},
		{"dt", "DATETIME", zeroOr("0000-00-00 00:00:00",
			format("%04d-%02d-%02d %02d:%02d:%02d", r(1000, 9999), r(1, 12), r(1, 28), r(0, 23), r(0, 59), r(0, 59)))},
		{"dt6", "DATETIME(6)", format("%04d-%02d-%02d %02d:%02d:%02d.%06d", r(1000, 9999), r(1, 12), r(1, 28), r(0, 23),
			r(0, 59), r(0, 59), r(0, 999999))},
		{"ts", "TIMESTAMP(6) NULL", zeroOr("0000-00-00 00:00:00",
			format("%04d-%02d-%02d %02d:%02d:%02d.%06d", r(1971, 2037), r(1, 12), r(1, 28), r(0, 23), r(0, 59),
				r(0, 59), r(0, 999999)))},
		{"ti", "TIME(6)", rapid.OneOf(format("%02d:%02d:%02d.%06d", r(0, 837), r(0, 59), r(0, 59), r(0, 999999)),
			format("-%02d:%02d:%02d.%06d", r(0, 837), r(0, 59), r(0, 59), r(1, 999999)))},
		{"ye", "YEAR", rapid.OneOf(rapid.Just[any](int64(0)), integer(1901, 2155))},
		{"en", "ENUM('a', 'B', 'ü', 'with space', '2')", rapid.SampledFrom([]any{"a", "B", "ü", "with space", "2"})},
		{"se", "SET('x', 'y', 'z')", rapid.SampledFrom([]any{"", "x", "x,z", "x,y,z"})},
		{"js", "JSON", rapid.SampledFrom([]any{"{}", `{"a": [1, null, "ü\n"]}`, `"text"`, "1.50", "null"})},
		{"ge", "POINT", rapid.Custom(func(t *rapid.T) any {
			wkb := append(make([]byte, 4), 1, 1, 0, 0, 0) // SRID 0, little-endian, POINT
			return append(wkb, rapid.SliceOfN(rapid.ByteRange(0, 0x3f), 16, 16).Draw(t, "xy")...)
		})},
	}
}

// What a point has comes to the centre and to another point, and is the same, byte for byte.
func TestEveryValueComesBackAsItWasSent(t *testing.T) {
	point, centre, other := open(t), open(t), open(t)
	types := columnTypes()
	var names, defs []string
	generators := make([]*rapid.Generator[any], len(types))
	for i, c := range types {
		null := " NULL"
		if strings.HasSuffix(c.sql, " NULL") {
			null = ""
		}
		names = append(names, c.name)
		defs = append(defs, c.name+" "+c.sql+null)
		generators[i] = rapid.OneOf(c.value, c.value, c.value, rapid.Just[any](nil))
	}
	for _, s := range []*Store{point, centre, other} {
		exec(t, s, "CREATE TABLE every (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, "+strings.Join(defs, ", ")+
			") ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 CHECKSUM = 1")
	}
	columns := strings.Join(names, ", ")
	down := planOf(t, centre, uploadRule("every", "", "", "-- downside: insert\nINSERT INTO every (id, "+columns+
		") VALUES (:id, :"+strings.Join(names, ", :")+")\n"))
	up := planOf(t, centre, rule.Row{ID: 8, Table: "every", Type: rule.Download, User: rule.Server,
		SQL: "SELECT * FROM every"})
	seq := uint64(0)
	ctx := testContext(t)
	rapid.Check(t, func(r *rapid.T) {
		seq++
		var values []any
		for id := range int64(rapid.IntRange(1, 20).Draw(r, "rows")) {
			values = append(values, id) // with 0, which AUTO_INCREMENT must leave alone
			for i, g := range generators {
				values = append(values, g.Draw(r, names[i]))
			}
		}
		for _, s := range []*Store{point, centre, other} {
			exec(t, s, "DELETE FROM every")
		}
		var sums []string
		var read [][]any
		for _, s := range []*Store{point, centre, other} {
			o := s.Apply(ctx, []*Upload{{Point: "p", Epoch: 1, Seq: seq, Plan: down,
				Rows: rowset.Rows{Values: values}}})[0]
			if o.Err != nil || len(o.Quarantined) > 0 {
				r.Fatalf("%+v", o)
			}
			var sink collect
			if _, err := s.Read(ctx, up, rule.Env{}, &sink); err != nil {
				r.Fatal(err)
			}
			values = sink.values() // and on to the next
			read = append(read, values)
			var table, sum string
			if err := s.db.QueryRowContext(ctx, "CHECKSUM TABLE every EXTENDED").Scan(&table, &sum); err != nil {
				r.Fatal(err)
			}
			sums = append(sums, sum)
		}
		if sums[0] != sums[1] || sums[1] != sums[2] {
			r.Fatalf("checksums %v", sums)
		}
		if !reflect.DeepEqual(read[0], read[1]) || !reflect.DeepEqual(read[1], read[2]) {
			r.Fatalf("read\n%v\n%v\n%v", read[0], read[1], read[2])
		}
	})
}

// The Go type a value has is decided by the column.
func TestTypesOfValues(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE kinds (id INT PRIMARY KEY, u BIGINT UNSIGNED, f FLOAT, dc DECIMAL(5,2), tx TEXT, "+
		"bl BLOB, bt BIT(4), "+
		"dt DATETIME(3), en ENUM('a'), js JSON, vb VARBINARY(9)) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4")
	exec(t, s, "INSERT INTO kinds VALUES (1, 18446744073709551615, 0.1, 1.5, 'ü', 'ü', 5, '2026-01-02 03:04:05.6', "+
		"'a', '[]', 'v')")
	p := planOf(t, s, rule.Row{ID: 8, Table: "kinds", Type: rule.Download, User: rule.Server,
		SQL: "SELECT * FROM kinds"})
	var sink collect
	if _, err := s.Read(testContext(t), p, rule.Env{}, &sink); err != nil {
		t.Fatal(err)
	}
	want := []any{int64(1), uint64(math.MaxUint64), float64(float32(0.1)), "1.50", "ü", []byte("ü"), []byte{5},
		"2026-01-02 03:04:05.600", "a", "[]", []byte("v")}
	if !reflect.DeepEqual(sink.rows[0], want) {
		t.Errorf("got  %#v\nwant %#v", sink.rows[0], want)
	}
	for i, v := range want {
		_, bytes := v.([]byte)
		equal(t, sink.cols[i].Name+" is bytes", sink.cols[i].Binary, bytes)
	}
	equal(t, "type", sink.cols[1].Type, "UNSIGNED BIGINT")
}

// naughty are strings that have broken things elsewhere, and some more.
func naughty(t *testing.T) []string {
	t.Helper()
	all := []string{"", "'", `\`, `\'; DROP TABLE phishing_log; --`, "%s", "%", "?", ":url", "`", "\x00", "\x1a",
		"NULL", "🙂", "\u202e", "a\r\nb"}
	f, err := os.Open(filepath.Join("..", "..", "shared", "data", "naughty-strings.base64.txt"))
	if errors.Is(err, os.ErrNotExist) {
		return all
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			text = []byte(line) // one line of the list is a string as it stands
		}
		all = append(all, string(text))
	}
	return all
}

// Naughty strings in every field, as point, as table and as state: data, never SQL.
func TestNaughtyStrings(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE phrase (id INT PRIMARY KEY, vc VARCHAR(2000), tx TEXT, bl BLOB)
		ENGINE = InnoDB DEFAULT CHARSET = utf8mb4`)
	p := planOf(t, s, uploadRule("phrase", "", "",
		"-- downside: update\nUPDATE phrase SET vc = :vc, tx = :tx, bl = :bl WHERE id = :id AND vc = :vc\n"+
			"-- downside: insert\nINSERT INTO phrase (id, vc, tx, bl) VALUES (:id, :vc, :tx, :bl)\n"))
	all := naughty(t)
	u := upload(p, "p1", 1)
	invalid := 0
	for i, text := range all {
		u.Rows.Values = append(u.Rows.Values, int64(i), text, text, []byte(text))
		if !utf8.ValidString(text) {
			invalid++
		}
	}
	o := applied(t, s, u)
	equal(t, "inserted", o.ByOp["insert"], uint64(len(all)-invalid))
	equal(t, "aside", len(o.Quarantined), invalid)
	u.Seq++
	equal(t, "found again", applied(t, s, u).ByOp["update"], uint64(len(all)-invalid))
	aside, err := s.ListQuarantine(testContext(t), QuarantineFilter{Limit: len(all)})
	if err != nil || len(aside) != invalid {
		t.Fatal(len(aside), err)
	}
	for _, row := range aside { // exact there too
		text := all[row.Values[0].(int64)]
		if utf8.ValidString(text) || !reflect.DeepEqual(row.Values[1:], []any{text, text, []byte(text)}) {
			t.Errorf("%q is aside as %v: %s", text, row.Values, row.Reason)
		}
	}

	find := planOf(t, s, rule.Row{ID: 8, Table: "phrase", Type: rule.Download, User: rule.Server, CarryState: true,
		UseCarriedState: true,
		SQL:             "SELECT id, vc, tx, bl FROM phrase WHERE bl = :state.vc ORDER BY id"})
	for i, text := range all {
		var sink collect
		state := []rowset.StateItem{{Name: "vc", Value: text}}
		if _, err := s.Read(testContext(t), find, rule.Env{State: state}, &sink); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		found := false
		for _, row := range sink.rows {
			found = found || reflect.DeepEqual(row, []any{int64(i), text, text, []byte(text)})
		}
		if found != utf8.ValidString(text) {
			t.Errorf("%q came back as %v", text, sink.rows)
		}
		if _, err := s.Table(testContext(t), text); !errors.Is(err, ErrNoTable) {
			t.Errorf("table %q: %v", text, err)
		}
		// A name may be refused as one, but then as a value and with nothing kept.
		o := s.Apply(testContext(t), []*Upload{{Point: text, Epoch: uint64(i), Seq: 1, Plan: p,
			Rows: rowset.Rows{Values: []any{int64(1000 + i), text, nil, nil}}}})[0]
		var refused *SQLError
		if o.Err != nil && (!errors.As(o.Err, &refused) || refused.Code != 1406 && refused.Code != 1366) {
			t.Errorf("point %q: %v", text, o.Err)
		}
	}
	equal(t, "tables", one(t, s, "SELECT COUNT(*) > 5 FROM information_schema.tables WHERE table_schema = DATABASE()"),
		"1")
}

// latinRunes are those that MySQL's latin1 has besides control characters.
func latinRunes() *unicode.RangeTable {
	return &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x20, Hi: 0x7e, Stride: 1}, {Lo: 0xa0, Hi: 0xff, Stride: 1}},
		LatinOffset: 2}
}
