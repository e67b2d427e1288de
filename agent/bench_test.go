package agent

import (
	"testing"
	"time"
)

// BenchmarkUpload measures the agent's share of an upload: from the local table through the outbox to a server that
// only counts. One operation is one row of four columns.
func BenchmarkUpload(b *testing.B) {
	c := newCentre(b)
	f := newField(b, c)
	f.exec("CREATE TABLE things (id INT PRIMARY KEY, name VARCHAR(64), title TEXT, at DATETIME(6) NOT NULL)")
	f.exec("INSERT INTO things SELECT seq, CONCAT('row ', seq), REPEAT('text ', 40), NOW(6) FROM seq_1_to_1000000 "+
		"LIMIT ?", b.N)
	f.rule("upload", "things", "")
	c.count = true
	a := f.agent(func(o *Options) { o.BatchRows = 1000 })
	b.ResetTimer()
	began := time.Now()
	f.once(a)
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "rows/s")
}
