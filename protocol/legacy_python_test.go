package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"syncgate/internal/harness/pythontest"
	"syncgate/internal/pyliteral"
)

// TestLegacyRealPython makes replies of random rows of every type and has a real interpreter of each dialect check
// their tokens as the agents do: it evaluates the text and prints Content again.
func TestLegacyRealPython(t *testing.T) {
	for _, tt := range []struct {
		version string
		d       pyliteral.Dialect
		neutral bool
	}{
		{"2.7", pyliteral.Python2, false}, {"2.7", pyliteral.Python2, true}, {"3.6", pyliteral.Python36, false},
		{"3.11", pyliteral.Python311, false},
		{"3.11", pyliteral.Python311, true}, {"3.12", pyliteral.Python312, false},
	} {
		t.Run(fmt.Sprint(tt.version, "/neutral=", tt.neutral), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 1))
			b := newLegacyBench(t, func(o *LegacyOptions) {
				o.Dialect, o.FixedDialect = tt.d, !tt.neutral
			})
			s := b.session()
			var stdin bytes.Buffer
			var want []string
			for i := range 300 {
				m := b.receive(s, legacyAsk("point-01", "DOLOAD_DB", "t", "None",
					b.now.Add(time.Duration(i)*time.Microsecond)))
				err := s.Send(m.Reply(StatusOK, randomRows(r)), func(packet []byte) error {
					text, err := openLegacy(packet, b.cbc)
					if err != nil {
						return err
					}
					line, err := json.Marshal([]string{hex.EncodeToString(text), testLegacyToken})
					stdin.Write(append(line, '\n'))
					root, _ := parseLegacy(text, tt.d)
					content := root.Get("Business").Get("Content")
					want = append(want, "ok "+hex.EncodeToString(text[content.Start:content.End]))
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			got := pythontest.Run(t, tt.version, stdin.Bytes(), "testdata/legacy/check.py")
			if len(got) != len(want) {
				t.Fatalf("%d answers to %d replies", len(got), len(want))
			}
			for i := range want {
				if got[i] != want[i] {
					t.Fatalf("reply %d: %s, want %s", i, got[i], want[i])
				}
			}
		})
	}
}

func randomRows(r *rand.Rand) *DownloadReply {
	reply := &DownloadReply{}
	kinds := []string{"TINYINT", "INT", "UNSIGNED BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "DATETIME", "TIMESTAMP",
		"DATE", "TIME", "YEAR", "VARCHAR", "TEXT",
		"ENUM", "JSON", "BLOB", "BIT"}
	for i := range 1 + r.IntN(6) {
		reply.Columns = append(reply.Columns, fmt.Sprint("c", i))
		reply.Types = append(reply.Types, kinds[r.IntN(len(kinds))])
	}
	for range r.IntN(4) {
		for _, kind := range reply.Types {
			reply.Values = append(reply.Values, randomValue(r, kind))
		}
	}
	return reply
}

func randomValue(r *rand.Rand, kind string) any {
	if r.IntN(6) == 0 {
		return nil
	}
	at := time.Unix(r.Int64N(1e10), 0).UTC()
	frac := ""
	if r.IntN(2) == 0 {
		frac = fmt.Sprintf(".%06d", r.IntN(1e6))
	}
	switch kind {
	case "TINYINT", "INT":
		return int64(r.Int32())
	case "UNSIGNED BIGINT":
		return r.Uint64()
	case "FLOAT":
		return float64(float32(r.NormFloat64()))
	case "DOUBLE":
		return r.NormFloat64() * math.Pow10(r.IntN(40)-20)
	case "DECIMAL":
		return fmt.Sprintf("%d.%0*d", r.IntN(200)-100, 1+r.IntN(9), r.IntN(10))
	case "DATETIME", "TIMESTAMP":
		if r.IntN(5) == 0 {
			return "0000-00-00 00:00:00"
		}
		return at.Format("2006-01-02 15:04:05") + frac
	case "DATE":
		return at.Format("2006-01-02")
	case "TIME":
		return fmt.Sprintf("%s%02d:%02d:%02d%s", []string{"", "-"}[r.IntN(2)], r.IntN(839), r.IntN(60), r.IntN(60),
			frac)
	case "YEAR":
		return "2020"
	case "BLOB", "BIT":
		b := make([]byte, r.IntN(8))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return b
	}
	var text []rune
	for range r.IntN(8) {
		text = append(text, []rune("aZ'\"\\\n\x00\x7f\u00a0é中\u200b🥰\U0001fae8")[r.IntN(14)])
	}
	return string(text)
}
