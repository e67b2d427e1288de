package demo

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// awkwardColumns has a column of every kind that has ever come back changed.
var awkwardColumns = []column{
	{"id", "BIGINT UNSIGNED NOT NULL PRIMARY KEY"},
	{"label", "VARCHAR(190) CHARACTER SET utf8mb4 NOT NULL"},
	{"remark", "TEXT CHARACTER SET utf8mb4"},
	{"price", "DECIMAL(30,10)"},
	{"ratio", "DOUBLE"},
	{"small_ratio", "FLOAT"},
	{"seen_at", "DATETIME(6)"},
	{"day", "DATE"},
	{"span", "TIME(6)"},
	{"body", "BLOB"},
	{"most", "BIGINT UNSIGNED"},
	{"least", "BIGINT"},
	{"bits", "BIT(64)"},
	{"tags", "SET('a','b','c')"},
}

var awkwardTexts = []string{
	"", " ", "NULL", "null", "None", "'", `"`, "''", `\`, `\\`, `\'`, `\0`, "%", "%s", "'%s'", "%%", "%d%n",
	"a\nb", "a\r\nb", "\t", "\x00", "\x1a", "a\x00b", "; drop table sync_control; --", "' or '1'='1", "/*", "-- x", "#",
	":name", "?", "@var", "`", "{'a': ('b',)}", "😀", "👩‍👩‍👧‍👦", "é", "é", "中文", "שלום", "\u202e", "ﷺ", "ß", "İ", "\ufeff",
	"1e309", "0x1F", "00", "-0", "NaN", "<script>alert(1)</script>", "$(reboot)", "trailing ", "\u2028",
}

// awkward makes rows of every awkward thing, the same ones for the same seed. texts are
// used beside its own.
func awkward(rows int, seed uint64, texts []string) source {
	pool := append(append([]string(nil), awkwardTexts...), texts...)
	return source{columns: awkwardColumns, rows: rows, each: func(yield func([]any) error) error {
		r := rand.New(rand.NewPCG(seed, seed))
		row := make([]any, len(awkwardColumns))
		for i := range rows {
			fillAwkward(row, i, r, pool)
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	}}
}

func fillAwkward(row []any, i int, r *rand.Rand, pool []string) {
	pick := func(v any) any {
		if r.IntN(8) == 0 {
			return nil
		}
		return v
	}
	oneOf := func(list ...any) any { return list[r.IntN(len(list))] }
	// Every text of the pool is met before any comes again.
	text := pool[i%len(pool)]
	at := time.Date(1000+r.IntN(9000), time.Month(1+r.IntN(12)), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1e6)*1000, time.UTC)
	blob := make([]byte, r.IntN(200))
	for j := range blob {
		blob[j] = byte(r.Uint32())
	}
	row[0] = int64(i + 1)
	row[1] = clip(text, 190)
	row[2] = pick(strings.Repeat(text, 1+r.IntN(3)) + pool[r.IntN(len(pool))])
	row[3] = pick(fmt.Sprintf("%s%d.%010d", oneOf("", "-"), r.Int64N(1e18), r.Int64N(1e10)))
	row[4] = pick(oneOf(0.1, -1.0/3, math.MaxFloat64, math.SmallestNonzeroFloat64*1e20, 1e-300, r.NormFloat64()))
	row[5] = pick(oneOf(float64(float32(0.1)), float64(math.MaxFloat32), -16777217.0, float64(float32(r.NormFloat64()))))
	row[6] = pick(at.Format("2006-01-02 15:04:05.000000"))
	row[7] = pick(at.Format("2006-01-02"))
	row[8] = pick(fmt.Sprintf("%s%02d:%02d:%02d.%06d", oneOf("", "-"), r.IntN(838), r.IntN(60), r.IntN(60), r.IntN(1e6)))
	row[9] = pick(blob)
	row[10] = pick(oneOf(uint64(math.MaxUint64), uint64(math.MaxInt64)+1, uint64(0), r.Uint64()))
	row[11] = pick(oneOf(int64(math.MinInt64), int64(math.MaxInt64), int64(-1), int64(r.Uint64())))
	bits, _ := hex.DecodeString(fmt.Sprintf("%016x", r.Uint64()))
	row[12] = pick(oneOf(bits, make([]byte, 8), []byte("\xff\xff\xff\xff\xff\xff\xff\xff")))
	row[13] = pick(oneOf("", "a", "a,c", "a,b,c"))
}

// clip cuts s to at most n characters.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}
