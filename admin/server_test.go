package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"syncgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitLimit = 30 * time.Second

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func full() Status {
	return Status{
		Program: "syncgate 1.2.3", State: "serving", Healthy: true, Started: noon.Add(-50 * time.Hour), Now: noon,
		Figures: []Figure{{Name: "connections", Value: 9500, Limit: 10000}, {Name: "rows up", Value: 1234567}},
		Points: []Point{
			{Point: store.Point{Point: "point-01", Wire: store.Modern, SeenAt: noon.Add(-90 * time.Second)}, Connections: 1, Remote: "10.0.0.7:4711", RowsUp: 5, RowsDown: 6},
			{Point: store.Point{Point: "<script>alert(1)</script>"}, Failure: "SG0303 & more"},
		},
		Rules: []store.RuleLine{
			{ID: 12, Table: "phishing_log", Type: "upload", PointNo: "*", State: "ok", LastRun: noon, RowsMoved: 42},
			{ID: 13, Table: "black_list", Type: "download", PointNo: "point-01", State: "broken", Error: "sync_sql[upside] 3:17 unknown column plat", LastFailure: "earlier"},
		},
		Failures: []Failure{{At: noon.Add(-time.Hour), Code: "SG0302", Point: "point-01", Table: "t", Message: "deadlock"}},
	}
}

type fixture struct {
	*Server
	t      *testing.T
	logged *Log
	client http.Client
	stop   func() // ends Run and waits for it
}

func serve(t *testing.T, change func(*Options)) *fixture {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "syncgate_answer"}, func() float64 { return 42 }))
	f := &fixture{t: t, logged: NewLog(100)}
	o := Options{Address: "127.0.0.1:0", Gatherer: reg, Status: full, Log: f.logged, ErrorLog: io.Discard,
		Live: func() error { return nil }, Ready: func(context.Context) error { return nil }}
	if change != nil {
		change(&o)
	}
	var err error
	if f.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	ended := false
	f.stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-result:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(waitLimit):
			t.Error("Run does not return")
		}
	}
	f.client.Transport = &http.Transport{}
	t.Cleanup(func() {
		f.stop()
		f.client.CloseIdleConnections()
	})
	return f
}

func (f *fixture) do(method, path string, header ...string) *http.Response {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	f.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, "http://"+f.Addr().String()+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	res, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func (f *fixture) get(path string, header ...string) (int, string) {
	f.t.Helper()
	res := f.do(http.MethodGet, path, header...)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestRoutes(t *testing.T) {
	f := serve(t, nil)
	for _, tc := range []struct {
		method, path string
		status       int
		contains     string
	}{
		{"GET", "/", 200, "phishing_log"},
		{"GET", "/metrics", 200, "syncgate_answer 42"},
		{"GET", "/livez", 200, "ok"},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/readyz", 200, "ok"},
		{"GET", "/status.json", 200, `"state": "serving"`},
		{"GET", "/nothing", 404, ""},
		{"POST", "/", 405, ""},
		{"DELETE", "/status.json", 405, ""},
		{"PUT", "/log", 405, ""},
		{"HEAD", "/log", 200, ""},
		{"HEAD", "/", 200, ""},
	} {
		res := f.do(tc.method, tc.path)
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != tc.status || !strings.Contains(string(b), tc.contains) {
			t.Errorf("%s %s: %d %q", tc.method, tc.path, res.StatusCode, b)
		}
		if res.Header.Get("Content-Security-Policy") == "" || res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s lacks the protecting headers: %v", tc.method, tc.path, res.Header)
		}
	}
}

func TestChecks(t *testing.T) {
	f := serve(t, func(o *Options) {
		o.Live = func() error { return errors.New("event loop 2 makes no progress") }
		o.Ready = func(ctx context.Context) error {
			if _, ok := ctx.Deadline(); !ok {
				return errors.New("no deadline")
			}
			return nil
		}
	})
	for _, path := range []string{"/livez", "/healthz"} {
		if code, body := f.get(path); code != 503 || !strings.Contains(body, "event loop 2 makes no progress") {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if code, body := f.get("/readyz"); code != 200 {
		t.Errorf("/readyz: %d %q", code, body)
	}
}

func TestPage(t *testing.T) {
	f := serve(t, nil)
	fmt.Fprintln(f.logged, `{"level":"error","time":"2030-01-02T11:59:59Z","point":"p<1>","code":303,"message":"upload failed"}`)
	fmt.Fprintln(f.logged, "plain words")
	code, body := f.get("/")
	if code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	for _, want := range []string{
		"syncgate 1.2.3", "for 2 d 2 h", "9,500", "of 10,000", "95 %", "1,234,567", "1 min 30 s ago", "never",
		`class="state broken">broken`, "unknown column plat", "SG0302", "1 h 0 min ago",
		"&lt;script&gt;alert(1)&lt;/script&gt;", "SG0303 &amp; more", // what a point calls itself is text
		`<td class="error">error`, "upload failed", "code=303 point=p&lt;1&gt;", "plain words",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "<script") {
		t.Error("the page has a script")
	}
	if strings.Index(body, "plain words") > strings.Index(body, "upload failed") {
		t.Error("the newest log line is not on top")
	}
	var s Status
	if _, body := f.get("/status.json"); json.Unmarshal([]byte(body), &s) != nil || len(s.Rules) != 2 || s.Rules[1].State != "broken" {
		t.Errorf("status.json: %s", body)
	}
}

func TestEmptyPage(t *testing.T) {
	f := serve(t, func(o *Options) { o.Status = func() Status { return Status{State: "starting", Program: "syncgate"} } })
	if code, body := f.get("/"); code != 200 || !strings.Contains(body, "No point is enrolled") || !strings.Contains(body, "sync_control has no rows") {
		t.Errorf("%d %s", code, body)
	}
}

// Without the database the page does not claim that there are no points and no rules.
func TestUnknownPage(t *testing.T) {
	f := serve(t, func(o *Options) { o.Status = func() Status { return Status{Unknown: "database away"} } })
	if code, body := f.get("/"); code != 200 || strings.Count(body, "Not known: database away.") != 2 || strings.Contains(body, "enrolled") {
		t.Errorf("%d %s", code, body)
	}
}

// A web page that has its own name resolve to 127.0.0.1 must not be answered.
func TestHost(t *testing.T) {
	f := serve(t, nil)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1:1": 200, "[::1]:80": 200, "::1": 200, "192.0.2.1": 200,
		"evil.example": 421, "evil.example:80": 421, "localhost.evil.example": 421,
	} {
		if code, _ := f.get("/status.json", "Host", host); code != want {
			t.Errorf("Host %s: %d, want %d", host, code, want)
		}
	}
}

func TestLogStream(t *testing.T) {
	for _, tc := range []struct{ accept, contentType, first, second string }{
		{"text/event-stream", "text/event-stream", "data: before\n\n", "data: two\ndata: lines\n\n"},
		{"*/*", "text/plain; charset=utf-8", "before\n", "two\rlines\n"},
	} {
		t.Run(tc.accept, func(t *testing.T) {
			f := serve(t, nil)
			fmt.Fprintln(f.logged, "before")
			res := f.do("GET", "/log", "Accept", tc.accept)
			if got := res.Header.Get("Content-Type"); got != tc.contentType {
				t.Errorf("Content-Type %q", got)
			}
			in := bufio.NewReader(res.Body)
			mustRead(t, in, tc.first)
			fmt.Fprint(f.logged, "two\rlines\n")
			mustRead(t, in, tc.second)
			f.stop() // with a reader still there
			if _, err := in.ReadByte(); err == nil {
				t.Error("the stream goes on after the stop")
			}
		})
	}
}

func mustRead(t *testing.T, r io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func TestLogReadersAreLimited(t *testing.T) {
	f := serve(t, nil)
	fmt.Fprintln(f.logged, "x")
	for range maxTails {
		mustRead(t, f.do("GET", "/log").Body, "x\n")
	}
	if code, _ := f.get("/log"); code != 503 {
		t.Errorf("one reader too many got %d", code)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Options{Address: "127.0.0.1:0", Gatherer: prometheus.NewRegistry(), Status: full, Log: NewLog(1), ErrorLog: io.Discard,
		Live: func() error { return nil }, Ready: func(context.Context) error { return nil }}
	for name, change := range map[string]func(*Options){
		"no gatherer": func(o *Options) { o.Gatherer = nil },
		"no status":   func(o *Options) { o.Status = nil },
		"no log":      func(o *Options) { o.Log = nil },
		"no check":    func(o *Options) { o.Ready = nil },
		"bad address": func(o *Options) { o.Address = "127.0.0.1:port" },
	} {
		o := good
		change(&o)
		if s, err := New(o); err == nil {
			_ = s.listener.Close()
			t.Errorf("%s: taken", name)
		}
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Hour: "0 s", 59 * time.Second: "59 s", time.Minute: "1 min 0 s", 25 * time.Hour: "1 d 1 h"} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
	if got := percent(1<<63, 1<<63); got != 100 {
		t.Errorf("percent = %d", got)
	}
}
