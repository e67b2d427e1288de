package admin

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

func TestRoutes(t *testing.T) {
	f := serve(t, openStore(t), nil)
	for _, tc := range []struct {
		method, path string
		status       int
		contains     string
	}{
		{"GET", "/", 200, "<title>syncgate"},
		{"GET", "/metrics", 200, "syncgate_answer 42"},
		{"GET", "/livez", 200, "ok"},
		{"GET", "/healthz", 200, "ok"},
		{"GET", "/readyz", 200, "ok"},
		{"GET", "/api/status", 200, `"state":"serving"`},
		{"GET", "/api/history", 200, "[]"},
		{"GET", "/api/points", 200, `"total":0`},
		{"GET", "/api/points?sort=colour", 400, "cannot be sorted"},
		{"GET", "/api/points?limit=many", 400, "not a number"},
		{"GET", "/api/points/nobody", 404, "nobody"},
		{"GET", "/api/rules", 200, `"total":0`},
		{"GET", "/api/quarantine", 200, "[]"},
		{"GET", "/api/quarantine/counts", 200, "[]"},
		{"GET", "/api/connections", 200, `"point":"point-01"`},
		{"GET", "/api/loglevel", 200, `"level":"info"`},
		{"GET", "/api/log?follow=0", 200, ""},
		{"GET", "/api/synclog?follow=0", 200, ""},
		{"GET", "/api/nothing", 404, "no such path"},
		{"GET", "/nothing", 404, ""},
		{"POST", "/", 405, ""},
		{"DELETE", "/api/status", 405, ""},
		{"POST", "/api/drain", 403, "allow_actions"},
		{"HEAD", "/api/log", 200, ""},
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
		csp := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "require-trusted-types-for") ||
			res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s lacks the protecting headers: %v", tc.method, tc.path, res.Header)
		}
	}
	if len(f.asked) > 0 {
		t.Errorf("a refused action was done: %v", f.asked)
	}
}

func TestChecks(t *testing.T) {
	f := serve(t, openStore(t), func(o *Options) {
		o.Live = func() error { return errors.New("event loop 2 makes no progress") }
		o.Ready = func(ctx context.Context) error {
			if _, ok := ctx.Deadline(); !ok {
				return errors.New("no deadline")
			}
			return nil
		}
	})
	for _, path := range []string{"/livez", "/healthz"} {
		if code, body := f.ask("GET", path); code != 503 || !strings.Contains(body, "event loop 2 makes no progress") {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if code, body := f.ask("GET", "/readyz"); code != 200 {
		t.Errorf("/readyz: %d %q", code, body)
	}
}

// What stands in the way of all points comes first: a drain, keys that do not open, a full disk, slow requests.
func TestServerProblems(t *testing.T) {
	f := serve(t, openStore(t), func(o *Options) {
		o.Ready = func(context.Context) error { return errors.New("draining") }
		o.Gateway.Load = func() Load { return Load{BadKeys: []string{hostile}, DiskFree: 100 << 20} }
	})
	for range 6 {
		f.history.add(Sample{P99: 3})
	}
	var st Status
	f.get("/api/status", &st)
	var titles []string
	for _, p := range st.Problems {
		titles = append(titles, p.Title)
		if p.Remedy == "" {
			t.Errorf("no remedy: %+v", p)
		}
	}
	want := []string{"The server is draining", "1 key of points cannot be opened", "The server's disk has 100MiB left",
		"Requests are slow: one of 100 takes more than 3s"}
	if st.State != "draining" || st.Healthy ||
		strings.Join(titles[:min(4, len(titles))], "|") != strings.Join(want, "|") {
		t.Errorf("%s, %v: %q", st.State, st.Healthy, titles)
	}
}

// Without the database the page does not claim that there are no points and no rules, and what was read before stays.
func TestDatabaseAway(t *testing.T) {
	db := openStore(t)
	enrol(t, db, "point-01", hostile)
	f := serve(t, db, nil)
	var before, after List[Point]
	f.get("/api/points", &before)
	if before.Total != 2 || before.Unknown != "" {
		t.Fatalf("%+v", before)
	}
	_ = db.Close()
	f.cache.forget()
	f.get("/api/points", &after)
	if after.Total != 2 || !strings.Contains(after.Unknown, "As of ") {
		t.Errorf("%+v", after)
	}
	var st Status
	f.get("/api/status", &st)
	if len(st.Problems) == 0 || st.Problems[0].Kind != "database" || !st.Problems[0].Severe || st.Unknown == "" {
		t.Errorf("%+v", st)
	}
	second := serve(t, db, nil) // has never read it
	second.get("/api/points", &after)
	if after.Total != 2 || !strings.Contains(after.Unknown, "cannot be read: ") {
		t.Errorf("points that have connected are known: %+v", after)
	}
}

// A web page that has its own name resolve to 127.0.0.1 is not answered, nor one that sends a request from elsewhere.
func TestOtherSites(t *testing.T) {
	f := serve(t, openStore(t), func(o *Options) { o.AllowActions = true })
	for host, want := range map[string]int{
		"localhost": 200, "localhost:8080": 200, "127.0.0.1:1": 200, "[::1]:80": 200, "::1": 200, "192.0.2.1": 200,
		"evil.example": 421, "evil.example:80": 421, "localhost.evil.example": 421,
	} {
		if code, _ := f.ask("GET", "/api/status", "Host", host); code != want {
			t.Errorf("Host %s: %d, want %d", host, code, want)
		}
	}
	own := "http://" + f.Addr().String()
	for _, tc := range []struct {
		want   int
		header []string
	}{
		{200, []string{"Origin", own}},
		{200, []string{"Sec-Fetch-Site", "same-origin"}},
		{200, nil}, // not a browser
		{403, []string{"Origin", "http://evil.example"}},
		{403, []string{"Origin", "http://127.0.0.1:1"}},
		{403, []string{"Origin", "null"}},
		{403, []string{"Sec-Fetch-Site", "cross-site"}},
		{403, []string{"Sec-Fetch-Site", "same-site"}},
	} {
		if code, body := f.ask("POST", "/api/drain", tc.header...); code != tc.want {
			t.Errorf("%v: %d %s, want %d", tc.header, code, body, tc.want)
		}
	}
	if code, _ := f.ask("GET", "/api/status", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode",
		"no-cors"); code != 403 {
		t.Errorf("a read from another site: %d", code)
	}
	if len(f.asked) != 3 {
		t.Errorf("%d drains were done, 3 were allowed", len(f.asked))
	}
}

// An address that other hosts reach needs a token, and then asks for it.
func TestToken(t *testing.T) {
	db := openStore(t)
	if _, err := New(Options{Address: "0.0.0.0:0", Store: db, Gatherer: prometheus.NewRegistry(), Log: NewLog(1),
		ErrorLog: io.Discard,
		Live: func() error {
			return nil
		}, Ready: func(context.Context) error { return nil }}); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("without a token: %v", err)
	}
	f := serve(t, db, func(o *Options) { o.Address, o.Token = "0.0.0.0:0", "geheim" })
	basic := func(password string) string {
		r, _ := http.NewRequest("GET", "/", http.NoBody)
		r.SetBasicAuth("ops", password)
		return r.Header.Get("Authorization")
	}
	for _, tc := range []struct {
		path, header string
		want         int
	}{
		{"/", "", 401}, {"/app.js", "", 401}, {"/api/status", "", 401}, {"/metrics", "", 401}, {"/livez", "", 200},
		{"/readyz", "", 200},
		{"/api/status", "Bearer geheim", 200}, {"/api/status", basic("geheim"), 200},
		{"/api/status", "Bearer falsch", 401}, {"/api/status", basic("falsch"), 401}, {"/api/status", "geheim", 401},
	} {
		if code, body := f.ask("GET", tc.path, "Authorization", tc.header); code != tc.want {
			t.Errorf("%s with %q: %d %s, want %d", tc.path, tc.header, code, body, tc.want)
		}
	}
}

func TestPoints(t *testing.T) {
	db := openStore(t)
	enrol(t, db, "point-01", "point-02", "point-03", hostile)
	now := time.Now()
	for point, at := range map[string]time.Time{"point-01": now.Add(-time.Hour), "point-02": now.Add(-time.Hour),
		"point-03": now.Add(-time.Minute)} {
		if err := db.TouchPoints(t.Context(),
			store.PointUse{Point: point, KeyID: 1, Wire: store.Modern, At: at}); err != nil {
			t.Fatal(err)
		}
	}
	f := serve(t, db, nil)
	names := func(query string) string {
		var l List[Point]
		f.get("/api/points?"+query, &l)
		var all []string
		for _, p := range l.Rows {
			all = append(all, p.Point.Point+" "+p.State)
		}
		return fmt.Sprintf("%d/%d %s", l.Matched, l.Total, strings.Join(all, ", "))
	}
	for query, want := range map[string]string{
		"":                     "4/4 " + hostile + " new, point-01 trouble, point-02 silent, point-03 away",
		"sort=state&limit=1":   "4/4 point-02 silent",
		"sort=seen&limit=2":    "4/4 point-01 trouble, point-03 away",
		"sort=lag&limit=1":     "4/4 point-01 trouble",
		"sort=backlog&limit=1": "4/4 point-01 trouble",
		"sort=rows_up&limit=1": "4/4 point-01 trouble",
		"offset=2&limit=1":     "4/4 point-02 silent",
		"offset=99":            "4/4 ",
		"q=POINT&desc=1":       "3/4 point-03 away, point-02 silent, point-01 trouble",
		"state=silent":         "1/4 point-02 silent",
		"q=10.0.0.7":           "1/4 point-01 trouble",
		"q=%3Cimg":             "1/4 " + hostile + " new",
	} {
		if got := names(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	var one OnePoint
	f.get("/api/points/%3Cimg%20src=x%20onerror=alert(1)%3E", &one)
	if one.Point.Point.Point != hostile || one.Failure == nil {
		t.Errorf("%+v", one)
	}
	var st Status
	f.get("/api/status", &st)
	kinds := map[string]Problem{}
	for _, p := range st.Problems {
		kinds[p.Kind] = p
	}
	if p := kinds["silent"]; p.Title != "1 point silent for more than 10 min" || p.Items[0].Name != "point-02" ||
		p.Remedy == "" {
		t.Errorf("%+v", p)
	}
	for kind, want := range map[string]string{
		"failing": "1 point with rules that fail there", "lag": "1 point behind by more than 5 min",
		"point disk":       "1 point with less than 1 GiB of disk left",
		"clock":            "1 point whose clocks are wrong by more than 1 min",
		"point quarantine": "1 point with rows in their own quarantine",
	} {
		if p := kinds[kind]; p.Title != want || len(p.Items) != 1 || p.Items[0].Name != "point-01" || p.Remedy == "" {
			t.Errorf("%s: %+v", kind, p)
		}
	}
	if p := kinds["limit"]; p.Title != "connections: 95 of 100" {
		t.Errorf("%+v", p)
	}
}

func TestStreams(t *testing.T) {
	f := serve(t, openStore(t), nil)
	for _, line := range []string{`{"level":"info","point":"a","message":"one"}`,
		`{"level":"warn","point":"b","message":"two"}`, "plain\rwords"} {
		fmt.Fprintln(f.logged, line)
	}
	for query, want := range map[string]string{
		"":                               "one|two|plain\rwords",
		"&point=b":                       "two",
		"&level=warn":                    "two",
		"&q=ONE":                         "one",
		"&after=" + f.logged.boot + "-2": "plain\rwords",
		"&after=another-2":               "one|two|plain\rwords",
	} {
		_, body := f.ask("GET", "/api/log?follow=0"+query)
		var got []string
		for line := range strings.Lines(body) {
			var l struct{ Message string }
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			got = append(got, l.Message)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	res := f.do("GET", "/api/log?level=warn", "Accept", "text/event-stream", "Last-Event-ID", f.logged.boot+"-1")
	if got := res.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	in := bufio.NewReader(res.Body)
	mustRead(t, in,
		"retry: 1000\n\nid: "+f.logged.boot+"-2\ndata: {\"level\":\"warn\",\"point\":\"b\",\"message\":\"two\"}\n\n")
	fmt.Fprintln(f.logged, `{"level":"error"}`)
	mustRead(t, in, "id: "+f.logged.boot+"-4\ndata: {\"level\":\"error\"}\n\n")
	synced := bufio.NewReader(f.do("GET", "/api/synclog?point=p", "Accept", "text/event-stream",
		"Last-Event-ID", "41").Body)
	mustRead(t, synced, "retry: 1000\n\nid: 42\ndata: {\"id\":42,")
	f.stop() // with readers still there
	if _, err := in.ReadByte(); err == nil {
		t.Error("the stream goes on after the stop")
	}
}

func mustRead(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	for { // an empty write begins the stream
		if b, err := r.Peek(1); err != nil || b[0] != '\n' {
			break
		}
		_, _ = r.ReadByte()
	}
	if _, err := io.ReadFull(r, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got, err, want)
	}
}

func TestReadersAreLimited(t *testing.T) {
	f := serve(t, openStore(t), nil)
	fmt.Fprintln(f.logged, `{"x":1}`)
	for range maxTails {
		mustRead(t, bufio.NewReader(f.do("GET", "/api/log").Body), `{"x":1}`)
	}
	if code, _ := f.ask("GET", "/api/log"); code != 503 {
		t.Errorf("one reader too many got %d", code)
	}
}

// Over the control socket everything is allowed to its owner, and it takes the place of one that was left behind.
func TestControlSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if _, err := listenSocket(path, ""); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("beside a running server: %v", err)
	}
	_ = left.Close()
	f := serve(t, openStore(t), func(o *Options) { o.Address, o.Socket = "", path })
	f.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, tc := range []struct {
		path, body string
		want       int
		says       string
	}{
		{"loglevel", `{"level":"debug"}`, 200, "{}"},
		{"loglevel", `{"level":"loud"}`, 400, "no such level"},
		{"loglevel", `{"volume":"loud"}`, 400, "volume"},
		{"reload", "", 400, "line 3"},
		{"quarantine/replay", `{}`, 400, "choose rows"},
		{"quarantine/replay", `{"all":true}`, 404, ""},
		{"quarantine/drop", `{"id":7}`, 404, ""},
		{"quarantine/drop", `{"table":"t"}`, 200, `{"dropped":0}`},
		{"quarantine/edit", `{"id":7,"set":{"a":1}}`, 404, ""},
		{"drain", "", 200, "{}"},
	} {
		if code, body := f.ask("POST", "/api/"+tc.path, "Body", tc.body); code != tc.want ||
			!strings.Contains(body, tc.says) {
			t.Errorf("%s %s: %d %s, want %d %s", tc.path, tc.body, code, body, tc.want, tc.says)
		}
	}
	if got := strings.Join(f.asked, " "); got != "debug loud drain" {
		t.Errorf("done: %s", got)
	}
	f.stop()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A replay reads the quarantine in pages and tries each row once.
func TestReplayOfManyRows(t *testing.T) {
	dsn := localdbtest.New(t)
	f := serve(t, openStoreAt(t, dsn), func(o *Options) { o.AllowActions = true })
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const rows = 2*replayedAtOnce + 1
	if _, err := db.Exec("INSERT INTO sync_quarantine (point_no, rule_id, sync_table, epoch, seq, row_no, row_values, "+
		"error_code, error_text) SELECT 'p', 1, 't', 1, seq, 0, '{}', 1406, '' FROM seq_1_to_1000 WHERE seq <= ?",
		rows); err != nil {
		t.Fatal(err)
	}
	code, body := f.ask("POST", "/api/quarantine/replay", "Body", `{"table":"t"}`)
	if n := strings.Count(body, `"error":"not `); code != 200 || n != rows {
		t.Errorf("%d, %d of %d rows were tried", code, n, rows)
	}
}

func TestQuantile(t *testing.T) {
	bounds := []float64{1, 2, 4}
	for _, tc := range []struct {
		q      float64
		counts []uint64
		want   float64
	}{
		{0.5, []uint64{0, 0, 0}, 0}, {0.5, []uint64{10, 10, 10}, 0.5}, {0.5, []uint64{0, 10, 10}, 1.5},
		{0.99, []uint64{99, 99, 100}, 1}, {1, []uint64{1, 1, 2}, 4},
	} {
		if got := quantile(tc.q, bounds, tc.counts); got != tc.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", tc.q, tc.counts, got, tc.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Hour: "0 s", 59 * time.Second: "59 s",
		10 * time.Minute: "10 min", 25 * time.Hour: "1 d 1 h"} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}
