package protocol

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// legacyUploadOf is the packet of an upload of n rows of five columns.
func legacyUploadOf(b *legacyBench, n int) []byte {
	var rows strings.Builder
	for i := range n {
		fmt.Fprintf(&rows, `(u'http://example.com/path/%d', '10.0.%d.%d', u'\u4e2d\u6587 title %d', %dL, `+
			`datetime.datetime(2020, 1, 2, 3, 4, %d)), `, i, i/256%256, i%256, i, i, i%60)
	}
	return b.packet(legacyAsk("point-01", "UPLOAD_DB", "phishing_log", "["+rows.String()+"]", b.now))
}

func BenchmarkLegacyReceive(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(n, "rows"), func(b *testing.B) {
			bench := newLegacyBench(b, nil)
			packet := legacyUploadOf(bench, n)
			b.SetBytes(int64(len(packet)))
			b.ReportAllocs()
			for b.Loop() {
				clear(bench.memory.tokens) // it is another upload each time
				if e, err := bench.session().Receive(packet); err != nil || e.Message == nil {
					b.Fatalf("%v", err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkLegacySend(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprint(n, "rows"), func(b *testing.B) {
			bench := newLegacyBench(b, nil)
			bench.memory.max = 1 << 30
			part := &DownloadReply{Columns: []string{"url", "ip", "title", "hits", "update_time"},
				Types: []string{"VARCHAR", "VARCHAR", "VARCHAR", "INT", "DATETIME"}}
			for i := range n {
				part.Values = append(part.Values, fmt.Sprint("http://example.com/path/", i), "10.0.0.1", "中文 title",
					int64(i), "2020-01-02 03:04:05")
			}
			s := bench.session()
			var length int
			b.ReportAllocs()
			at := bench.now
			for b.Loop() {
				b.StopTimer()
				at = at.Add(time.Microsecond)
				m := bench.receive(s, legacyAsk("point-01", "DOLOAD_DB", "t", "None", at))
				b.StartTimer()
				if err := s.Send(m.Reply(StatusOK, part),
					func(p []byte) error { length = len(p); return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(length))
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
