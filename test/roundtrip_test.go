package test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seeded is a source of random numbers. It prints its seed, which SYNCGATE_TEST_SEED may set.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SYNCGATE_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SYNCGATE_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// wideColumn is a column of the table that has every type. Each of its edge values is in some row. The other rows hold
// random values.
type wideColumn struct {
	kind  string
	edges []any
	draw  func(r *rand.Rand) any
}

func wideColumns(texts []string) []wideColumn {
	all := append(wideNumbers(), wideTimes()...)
	return append(all, wideTexts(texts)...)
}

func wideNumbers() []wideColumn {
	var all []wideColumn
	for i, kind := range []string{"TINYINT", "SMALLINT", "MEDIUMINT", "INT", "BIGINT"} {
		bits := []int{8, 16, 24, 32, 64}[i]
		least, most := int64(-1)<<(bits-1), int64(1)<<(bits-1)-1
		all = append(all, wideColumn{kind, []any{least, most, int64(0), int64(-1)},
			func(r *rand.Rand) any { return int64(r.Uint64()) >> (64 - bits) }},
			wideColumn{kind + " UNSIGNED", []any{uint64(most), uint64(math.MaxUint64) >> (64 - bits), uint64(0)},
				func(r *rand.Rand) any { return r.Uint64() >> (64 - bits) }})
	}
	digits := func(r *rand.Rand, n int) string {
		text := make([]byte, n)
		for i := range text {
			text[i] = byte('0' + r.IntN(10))
		}
		return string(text)
	}
	return append(all,
		wideColumn{"DECIMAL(65,30)",
			[]any{"0", "-0.000000000000000000000000000001", strings.Repeat("9", 35) + "." + strings.Repeat("9", 30)},
			func(r *rand.Rand) any { return "-" + digits(r, 1+r.IntN(35)) + "." + digits(r, 30) }},
		wideColumn{"DECIMAL(20,0)", []any{"99999999999999999999", "-1"},
			func(r *rand.Rand) any { return digits(r, 20) }},
		wideColumn{"FLOAT", []any{float32(0), float32(math.MaxFloat32), -float32(math.MaxFloat32),
			float32(math.SmallestNonzeroFloat32), float32(0.1), float32(16777217)},
			func(r *rand.Rand) any { return float32(r.NormFloat64() * math.Pow(10, float64(r.IntN(60)-30))) }},
		wideColumn{"DOUBLE", []any{0.0, math.Copysign(0, -1), math.MaxFloat64, -math.MaxFloat64,
			math.SmallestNonzeroFloat64, 0.1 + 0.2, 9007199254740993.0},
			func(r *rand.Rand) any { return r.NormFloat64() * math.Pow(10, float64(r.IntN(600)-300)) }},
		wideColumn{"BIT(1)", []any{[]byte{0}, []byte{1}}, func(r *rand.Rand) any { return []byte{byte(r.IntN(2))} }},
		wideColumn{"BIT(13)", []any{[]byte{0x1f, 0xff}, []byte{0, 0}},
			func(r *rand.Rand) any { return []byte{byte(r.IntN(32)), byte(r.IntN(256))} }},
		wideColumn{"BIT(64)", []any{make([]byte, 8)}, func(r *rand.Rand) any { return randomBytes(r, 8) }},
		wideColumn{"BOOLEAN", []any{true, false}, func(r *rand.Rand) any { return r.IntN(2) == 1 }},
	)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func wideTimes() []wideColumn {
	date := func(r *rand.Rand) string {
		return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(9999), 1+r.IntN(12), 1+r.IntN(28))
	}
	clock := func(r *rand.Rand) string { return fmt.Sprintf("%02d:%02d:%02d", r.IntN(24), r.IntN(60), r.IntN(60)) }
	return []wideColumn{
		{"DATE", []any{"0000-00-00", "2026-00-00", "1000-01-01", "9999-12-31", "2024-02-29"},
			func(r *rand.Rand) any { return date(r) }},
		{"DATETIME", []any{"0000-00-00 00:00:00", "9999-12-31 23:59:59", "1969-12-31 23:59:59"},
			func(r *rand.Rand) any { return date(r) + " " + clock(r) }},
		{"DATETIME(3)", []any{"2026-01-02 03:04:05.600"},
			func(r *rand.Rand) any { return fmt.Sprintf("%s %s.%03d", date(r), clock(r), r.IntN(1000)) }},
		{"DATETIME(6)", []any{"9999-12-31 23:59:59.999999", "2026-01-02 00:00:00.000001"},
			func(r *rand.Rand) any { return fmt.Sprintf("%s %s.%06d", date(r), clock(r), r.IntN(1e6)) }},
		{"TIMESTAMP(6)", []any{"0000-00-00 00:00:00", "1970-01-02 00:00:00.000001", "2038-01-18 00:00:00.999999"},
			func(r *rand.Rand) any { return fmt.Sprintf("%04d-%s", 1971+r.IntN(66), "06-15 12:00:00.5") }},
		{"TIME", []any{"-838:59:59", "838:59:59", "00:00:00"}, func(r *rand.Rand) any { return clock(r) }},
		{"TIME(6)", []any{"-838:59:59.999999", "-00:00:00.000001", "838:59:59.999999"}, func(r *rand.Rand) any {
			return fmt.Sprintf("-%d:%02d:%02d.%06d", r.IntN(838), r.IntN(60), r.IntN(60), 1+r.IntN(1e6-1))
		}},
		{"YEAR", []any{0, 1901, 2155}, func(r *rand.Rand) any { return 1901 + r.IntN(255) }},
	}
}

func wideTexts(texts []string) []wideColumn {
	text := func(most int) func(r *rand.Rand) any {
		return func(r *rand.Rand) any {
			picked := []rune(valid(texts[r.IntN(len(texts))]))
			return string(picked[:min(len(picked), most)])
		}
	}
	of := func(alphabet string, most int) func(r *rand.Rand) any {
		runes := []rune(alphabet)
		return func(r *rand.Rand) any {
			picked := make([]rune, r.IntN(most))
			for i := range picked {
				picked[i] = runes[r.IntN(len(runes))]
			}
			return string(picked)
		}
	}
	bytes := func(least, most int) func(r *rand.Rand) any {
		return func(r *rand.Rand) any { return randomBytes(r, least+r.IntN(most-least+1)) }
	}
	wkb := func(r *rand.Rand) any { // SRID 0, little-endian, POINT
		b := append(make([]byte, 4), 1, 1, 0, 0, 0)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.NormFloat64()))
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(r.NormFloat64()))
	}
	return []wideColumn{
		{"CHAR(30)", []any{"", "a"}, func(r *rand.Rand) any { return strings.TrimRight(text(30)(r).(string), " ") }},
		{"VARCHAR(300)", []any{"", " ", "a ", "\x00", "\\", "'"}, text(300)},
		{"VARCHAR(50) COLLATE utf8mb4_bin", []any{"A", "a"}, text(50)},
		{"TINYTEXT", []any{"", strings.Repeat("x", 255)}, text(60)},
		{"TEXT", []any{strings.Repeat("€", 5000)}, text(1000)},
		{"LONGTEXT", []any{strings.Repeat("0123456789", 7_000)}, text(1000)},
		{"VARCHAR(100) CHARACTER SET latin1", []any{"ÿ€", "naïve"}, of("aZ '\\äßé€", 100)},
		{"VARCHAR(100) CHARACTER SET gbk", []any{"縗", "中\\'文"}, of("a'\\中文誠縗運", 100)},
		{"VARCHAR(100) CHARACTER SET utf8mb3", []any{"中文"}, of("a中é'", 100)},
		{"TEXT CHARACTER SET utf16", []any{"😀"}, of("a中😀'\\", 100)},
		{"BINARY(8)", []any{make([]byte, 8), []byte("a       ")}, bytes(8, 8)},
		{"VARBINARY(100)", []any{[]byte{}, []byte{0}, []byte(" ")}, bytes(0, 100)},
		{"TINYBLOB", []any{[]byte{}, make([]byte, 255)}, bytes(0, 255)},
		{"LONGBLOB", []any{make([]byte, 70_000)}, bytes(0, 300)},
		{"ENUM('', 'a', 'B', '2', 'with, comma', '中')", []any{"", "2", "with, comma"},
			func(r *rand.Rand) any { return []any{"a", "B", "中"}[r.IntN(3)] }},
		{"SET('x', 'y', '中')", []any{"", "x,y,中"}, func(r *rand.Rand) any { return []any{"x", "y", "x,中"}[r.IntN(3)] }},
		{"JSON", []any{"null", `{"a": [1.50, "\u4e2d\n", {}], "b":1}`, `"x"`},
			func(r *rand.Rand) any { return fmt.Sprintf(`{"k": %v, "t": "%d"}`, r.Float64(), r.IntN(9)) }},
		{"POINT", nil, wkb},
		{"GEOMETRY", nil, wkb},
		{"UUID", []any{"00000000-0000-0000-0000-000000000000"},
			func(r *rand.Rand) any { return fmt.Sprintf("%08x-0000-4000-8000-%012x", r.Uint32(), r.Uint64()>>16) }},
		{"INET6", []any{"::", "::ffff:10.0.0.1"}, func(r *rand.Rand) any {
			return fmt.Sprintf("2001:db8::%x", r.Uint32()>>16)
		}},
		{"INET4", []any{"0.0.0.0", "255.255.255.255"}, func(r *rand.Rand) any {
			return fmt.Sprintf("10.%d.%d.1", r.IntN(256), r.IntN(256))
		}},
	}
}

// TestAnyValueComesBack sends rows of every type from one point to the centre and from there to another point, with
// generated statements. Then some of the rows change. All three databases hold the same, byte for byte.
func TestAnyValueComesBack(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Points: 2})
	w.Enrol()
	r := seeded(t)
	columns := wideColumns(naughty(t))
	other := w.Points[1].DB
	definition := "CREATE TABLE wide (id INT NOT NULL PRIMARY KEY, update_time DATETIME(6) NOT NULL, KEY (update_time)"
	for i, c := range columns {
		definition += fmt.Sprintf(", c%d %s NULL", i, c.kind)
	}
	for _, db := range w.Databases() {
		db.Must(definition + ", computed INT GENERATED ALWAYS AS (id * 2) STORED) CHARACTER SET utf8mb4")
	}
	throughCentre(w, "wide")
	keyed := keyTables(w, r, columns)
	w.Env = append(w.Env, "SYNCGATE_DOWNLOAD_ROWS=9")
	w.Serve()
	const rows = 240
	for round, changed := range []int{rows, rows / 4} { // with pages that end in the middle of one update_time
		for id := range changed {
			wideRow(w.Point, r, columns, id, round)
		}
		for _, p := range w.Points {
			p.MustOnce("SYNCGATE_AGENT_BATCH_ROWS=9")
		}
		sameWide(t, columns, rows, w.Point.DB, w.Centre, other)
	}
	for table, kind := range keyed {
		query := "SELECT * FROM " + table
		if point := w.Point.Sum(query); point != w.Centre.Sum(query) || point != other.Sum(query) {
			t.Errorf("with a key of %s the point has %s, the centre %s, the other point %s", kind, point,
				w.Centre.Sum(query), other.Sum(query))
		}
	}
}

// throughCentre writes the rules that send a table from the point to the centre and from there to the other one.
func throughCentre(w *World, table string) {
	w.T.Helper()
	for _, rule := range []struct {
		db         *DB
		kind, user string
	}{{w.Centre, "upload", "server"}, {w.Centre, "download", "server"}, {w.Point.DB, "upload", "client"},
		{w.Points[1].DB, "download", "client"}} {
		rule.db.Must("INSERT INTO sync_control (sync_table, sync_type, sync_user) VALUES (?, ?, ?)", table,
			rule.kind, rule.user)
	}
}

// keyTables makes a table for each type that a key can have, with a few pages of rows at the point, and returns the
// type of each key. Every page begins at the key with which the previous one ended.
func keyTables(w *World, r *rand.Rand, columns []wideColumn) map[string]string {
	w.T.Helper()
	tables := map[string]string{}
	for i, c := range columns {
		if strings.Contains(c.kind, "TEXT") || strings.Contains(c.kind, "BLOB") || strings.HasPrefix(c.kind, "BIT") ||
			slices.Contains([]string{"BOOLEAN", "JSON", "POINT", "GEOMETRY"}, c.kind) {
			continue
		}
		table := fmt.Sprint("keyed", i)
		for _, db := range w.Databases() {
			db.Must("CREATE TABLE " + table + " (k " + c.kind + " NOT NULL, n INT NOT NULL, PRIMARY KEY (k)) " +
				"CHARACTER SET utf8mb4")
		}
		keys := slices.Clone(c.edges)
		for range 30 {
			keys = append(keys, c.draw(r))
		}
		for n, key := range keys {
			w.Point.Must("INSERT INTO "+table+" VALUES (?, ?) ON DUPLICATE KEY UPDATE n = n + 1000", key, n)
		}
		throughCentre(w, table)
		tables[table] = c.kind
	}
	return tables
}

// wideRow writes a row at the point: edge values, NULLs, or random values.
func wideRow(p *Point, r *rand.Rand, columns []wideColumn, id, round int) {
	names := "id, update_time"
	values := []any{id, fmt.Sprintf("2026-01-0%d 00:00:%02d", 1+round, id/50)}
	for i, c := range columns {
		names += fmt.Sprintf(", c%d", i)
		switch {
		case round == 0 && id < len(c.edges):
			values = append(values, c.edges[id])
		case id == 20 || r.IntN(10) == 0:
			values = append(values, nil)
		default:
			values = append(values, c.draw(r))
		}
	}
	p.Must("REPLACE INTO wide ("+names+") VALUES (?"+strings.Repeat(", ?", len(values)-1)+")", values...)
}

// sameWide fails unless all databases hold the same rows, and names the columns that differ.
func sameWide(t *testing.T, columns []wideColumn, rows int, all ...*DB) {
	t.Helper()
	var sums []string
	for _, db := range all {
		sums = append(sums, db.Checksum("wide")+", "+db.Sum("SELECT * FROM wide"))
	}
	for _, other := range sums[1:] {
		if other == sums[0] && strings.Contains(other, fmt.Sprint(" ", rows, " rows")) {
			continue
		}
		t.Errorf("of %d rows the point has %s; another has %s", rows, sums[0], other)
		for i, c := range columns {
			query := fmt.Sprintf("SELECT id, c%d FROM wide", i)
			if first := all[0].Sum(query); first != all[1].Sum(query) || first != all[len(all)-1].Sum(query) {
				t.Errorf("%s is not the same everywhere", c.kind)
			}
		}
	}
}
