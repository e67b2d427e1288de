package protocol

import (
	"crypto/md5"
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"syncgate/crypto"
	"syncgate/internal/rowset"
)

var benchSizes = []struct {
	name string
	n    int // bytes of payload
}{{"64B", 64}, {"4KiB", 4 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}}

// cpuTime is the processor time of this thread. Other work on the machine does not change it.
func cpuTime(b testing.TB) time.Duration {
	b.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// share compares a benchmark's loop with crypto/md5 alone over the same bytes, both in processor time.
type share struct {
	n     int
	alone time.Duration
	start time.Duration
}

func startShare(b *testing.B, n int) *share {
	b.Helper()
	runtime.LockOSThread()
	data := make([]byte, n)
	loops := max(1, (4<<20)/n)
	s := &share{n: n, alone: 1 << 62}
	for range 8 {
		start := cpuTime(b)
		for range loops {
			md5.Sum(data)
		}
		s.alone = min(s.alone, (cpuTime(b)-start)/time.Duration(loops))
	}
	b.SetBytes(int64(n))
	b.ReportAllocs()
	s.start = cpuTime(b)
	return s
}

func (s *share) report(b *testing.B) {
	b.Helper()
	perOp := float64(cpuTime(b)-s.start) / float64(b.N)
	runtime.UnlockOSThread()
	b.ReportMetric(100*float64(s.alone)/perOp, "%ofMD5")
	b.ReportMetric(float64(s.n)/perOp*1e3, "cpuMB/s")
}

func benchRecords(b testing.TB) *records {
	b.Helper()
	send := crypto.NewCipher([32]byte{1}, 1<<62)
	return &records{send: send, max: 2 << 20, expires: testEpoch}
}

func BenchmarkMD5(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			data := make([]byte, s.n)
			share := startShare(b, s.n)
			for b.Loop() {
				md5.Sum(data)
			}
			share.report(b)
		})
	}
}

// BenchmarkSealFrame copies a payload into a frame and seals it, as for a reply from memory.
func BenchmarkSealFrame(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			r := benchRecords(b)
			payload := make([]byte, s.n)
			buf := make([]byte, 0, s.n+frameOverhead+RecordOverhead)
			share := startShare(b, s.n)
			for b.Loop() {
				m := Message{Op: OpDownload, Payload: payload}
				plain, err := m.plaintext(buf)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := r.seal(plain, 0, &m); err != nil {
					b.Fatal(err)
				}
			}
			share.report(b)
		})
	}
}

// BenchmarkSplitOpen finds a frame in a buffer, checks it, and opens it into a reused buffer.
func BenchmarkSplitOpen(b *testing.B) {
	for _, s := range benchSizes {
		b.Run(s.name, func(b *testing.B) {
			r := benchRecords(b)
			payload := make([]byte, s.n)
			wire := make([][]byte, min(max((32<<20)/s.n, 16), 4096))
			for i := range wire {
				m := Message{Op: OpUpload, Payload: payload}
				plain, err := m.plaintext(nil)
				if err != nil {
					b.Fatal(err)
				}
				if wire[i], err = r.seal(plain, 0, &m); err != nil {
					b.Fatal(err)
				}
			}
			dst := make([]byte, 0, s.n+64)
			i := 0
			share := startShare(b, s.n)
			for b.Loop() {
				if i%len(wire) == 0 {
					// A cipher opens a record once. A new cipher for all the frames costs almost nothing.
					r.recv = crypto.NewCipher([32]byte{1}, 1<<62)
				}
				frame := wire[i%len(wire)]
				i++
				if n, err := Split(frame, r.max); err != nil || n != len(frame) {
					b.Fatal(n, err)
				}
				if _, err := r.open(dst, frame); err != nil {
					b.Fatal(err)
				}
			}
			share.report(b)
		})
	}
}

const benchRows = 4000

// benchBatch is a typical batch: five columns, some 90 bytes a row.
func benchBatch() rowset.Rows {
	r := rowset.Rows{Columns: []string{"url", "ip", "title", "hits", "update_time"}}
	for i := range benchRows {
		r.Values = append(r.Values, fmt.Sprintf("http://example-%05d.test/path", i), fmt.Sprintf("192.0.2.%d", i%256),
			"A title of ordinary length",
			int64(i*7919), "2026-01-02 03:04:05.000006")
	}
	return r
}

// rowsReport measures a benchmark's loop in rows a second of this thread's processor time. Other threads collect
// garbage; only the wall time includes it.
type rowsReport time.Duration

func startRows(b *testing.B) rowsReport {
	b.Helper()
	runtime.LockOSThread()
	b.ReportAllocs()
	return rowsReport(cpuTime(b))
}

func (r rowsReport) report(b *testing.B, bytes int) {
	b.Helper()
	cpu := (cpuTime(b) - time.Duration(r)).Seconds()
	runtime.UnlockOSThread()
	b.SetBytes(int64(bytes))
	b.ReportMetric(benchRows*float64(b.N)/cpu, "rows/cpu-s")
	b.ReportMetric(float64(bytes)*float64(b.N)/cpu/1e6, "cpuMB/s")
	b.ReportMetric(float64(bytes)/benchRows, "B/row")
}

// Rows of a driver (text as []byte) into the parts of a download.
func BenchmarkRowsEncode(b *testing.B) {
	batch := benchBatch()
	row := make([][]any, benchRows)
	for i := range row {
		for _, v := range batch.Row(i) {
			if s, ok := v.(string); ok {
				v = []byte(s)
			}
			row[i] = append(row[i], v)
		}
	}
	var e RowEncoder
	var size int
	columns := []rowset.Column{
		{Name: "url", Type: "VARCHAR"}, {Name: "ip", Type: "VARCHAR"}, {Name: "title", Type: "VARCHAR"},
		{Name: "hits", Type: "BIGINT"}, {Name: "update_time", Type: "DATETIME"},
	}
	rows := startRows(b)
	for b.Loop() {
		if err := e.Begin(0, columns); err != nil {
			b.Fatal(err)
		}
		for _, r := range row {
			if err := e.Append(r); err != nil {
				b.Fatal(err)
			}
		}
		m, err := e.Part(RequestID{}, nil)
		if err != nil {
			b.Fatal(err)
		}
		size = len(m.Payload)
	}
	rows.report(b, size)
}

// The rows of an upload into an outbox.
func BenchmarkUploadEncode(b *testing.B) {
	u := &UploadRequest{Table: "phishing_log", Rows: benchBatch()}
	var buf []byte
	rows := startRows(b)
	for b.Loop() {
		var err error
		if buf, err = AppendPayload(buf[:0], u); err != nil {
			b.Fatal(err)
		}
	}
	rows.report(b, len(buf))
}

// An upload's payload back into values.
func BenchmarkRowsDecode(b *testing.B) {
	payload, err := AppendPayload(nil, &UploadRequest{Table: "phishing_log", Rows: benchBatch()})
	if err != nil {
		b.Fatal(err)
	}
	rows := startRows(b)
	for b.Loop() {
		if _, err := (&Message{Payload: payload}).UploadRequest(); err != nil {
			b.Fatal(err)
		}
	}
	rows.report(b, len(payload))
}

// A batch from rows at one end to rows at the other, and what each station takes of it.
func BenchmarkWholePath(b *testing.B) {
	u := &UploadRequest{Table: "phishing_log", Rows: benchBatch()}
	r := benchRecords(b)
	var err error
	r.recv = crypto.NewCipher([32]byte{1}, 1<<62)
	var buf []byte
	opened := make([]byte, 0, 1<<20)
	size := 0
	var spent [4]time.Duration
	var at time.Duration
	station := func(i int) {
		now := cpuTime(b)
		spent[i] += now - at
		at = now
	}
	rows := startRows(b)
	for b.Loop() {
		at = cpuTime(b)
		m := Message{Op: OpUpload, Body: u}
		if buf, err = m.plaintext(buf[:0]); err != nil {
			b.Fatal(err)
		}
		station(0)
		frame, err := r.seal(buf, 0, &m)
		if err != nil {
			b.Fatal(err)
		}
		station(1)
		got, err := r.open(opened, frame)
		if err != nil {
			b.Fatal(err)
		}
		size = len(got.Payload)
		station(2)
		if _, err := got.UploadRequest(); err != nil {
			b.Fatal(err)
		}
		station(3)
	}
	rows.report(b, size)
	all := spent[0] + spent[1] + spent[2] + spent[3]
	for i, name := range []string{"%encode", "%seal", "%open", "%decode"} {
		b.ReportMetric(100*float64(spent[i])/float64(all), name)
	}
}

// What a server spends on a hello that it refuses and on one that it takes.
func BenchmarkHello(b *testing.B) {
	for _, c := range []struct {
		name  string
		wrong byte
	}{{"wrong-key", 1}, {"right-key", 0}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPair(b, func(s *ServerOptions, o *ClientOptions) {
				o.Key[0] += c.wrong
			})
			p.server.limiter = newLimiter(1 << 30)
			hello, err := p.client.Hello()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.server.NewSession(p.session.remote).Receive(hello); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// In steady state a frame allocates only its payload and Message.
func TestFramesAllocateNothing(t *testing.T) {
	r := benchRecords(t)
	payload := make([]byte, 1000)
	buf := make([]byte, 0, 2000)
	m := Message{Op: OpDownload, Payload: payload}
	var frame []byte
	if n := testing.AllocsPerRun(100, func() {
		plain, _ := m.plaintext(buf)
		frame, _ = r.seal(plain, 0, &m)
	}); n != 0 || len(frame) == 0 {
		t.Errorf("sealing: %v allocations", n)
	}

	p := newPair(t, nil)
	p.greet(t)
	write := func(f []byte) error { frame = f; return nil }
	least := 1.0 // of some runs: under the race detector a sync.Pool drops a part of what is put into it
	for range 10 {
		least = min(least, testing.AllocsPerRun(100, func() {
			m := Message{Op: OpDownload, Payload: payload}
			if err := p.session.Send(&m, write); err != nil {
				t.Fatal(err)
			}
		}))
	}
	if least > 0 {
		t.Errorf("ServerSession.Send: %v allocations", least)
	}

	p = newPair(t, nil)
	p.greet(t)
	p.confirm(t)
	var wire [][]byte
	for range 102 {
		wire = append(wire, p.must(&Message{Op: OpUpload, RequestID: MakeRequestID(1, 1), Payload: payload}))
	}
	i := 0
	if n := testing.AllocsPerRun(100, func() {
		n, err := Split(wire[i], p.session.MaxFrame())
		if err != nil || n != len(wire[i]) {
			t.Fatal(n, err)
		}
		e, err := p.session.Receive(wire[i])
		if err != nil || len(e.Message.Payload) != len(payload) {
			t.Fatal(err)
		}
		i++
	}); n > 2 {
		t.Errorf("ServerSession.Receive: %v allocations, more than payload and message", n)
	}
}
