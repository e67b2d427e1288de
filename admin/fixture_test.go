package admin

import (
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

	"syncgate/internal/rowset"
	"syncgate/migrations"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

func TestMain(m *testing.M) { localdbtest.Main(m) }

const waitLimit = 30 * time.Second

// hostile is what a point may call itself.
const hostile = `<img src=x onerror=alert(1)>`

func openStore(t *testing.T) *store.Store {
	t.Helper()
	return openStoreAt(t, localdbtest.New(t))
}

func openStoreAt(t *testing.T, dsn string) *store.Store {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{DSN: dsn, AcceptUnsafe: true, Set: migrations.Server})
	if err == nil {
		err = db.Migrate(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

type fixture struct {
	*Server
	t      *testing.T
	logged *Log
	client http.Client
	stop   func() // ends Run and waits for it
	asked  []string
}

func (f *fixture) gateway() Gateway {
	return Gateway{
		Load: func() Load {
			return Load{RowsUp: 7, Figures: []Figure{{Name: "connections", Value: 95, Limit: 100}}}
		},
		Activity: func() (map[string]Activity, []Failure) {
			at := time.Now().Add(-time.Hour)
			return map[string]Activity{
				"point-01": {Connections: 1, Remote: "10.0.0.7:4711", RowsUp: 5, RowsDown: 6},
				hostile:    {Failure: &Failure{At: at, Code: "SG0303", Message: "&"}},
			}, []Failure{{At: at, Code: "SG0303", Point: hostile, Message: "&"}}
		},
		Reports: func() []store.PointReport {
			return []store.PointReport{{Point: "point-03", ReportedAt: time.Now()},
				{Point: "point-01", ReportedAt: time.Now(), ClockAheadMs: -90_000, Report: rowset.Report{
					Software: "agent 1", DiskFree: 5 << 20, Rules: []rowset.RuleReport{
						{Table: "t", Direction: "upload", State: "failing", LagMs: 400_000, BacklogRows: 7},
						{State: "ok", LagMs: 1000, Quarantined: 2}}}}}
		},
		Level: func() string { return "info" },
		SetLevel: func(level string) error {
			f.asked = append(f.asked, level)
			if level == "loud" {
				return errors.New("no such level")
			}
			return nil
		},
		Drain:  func() { f.asked = append(f.asked, "drain") },
		Reload: func() (any, error) { return nil, errors.New("line 3") },
		FollowLog: func(ctx context.Context, filter store.LogFilter, send func([]store.LogLine) error) error {
			if err := send([]store.LogLine{{ID: filter.After + 1, Point: filter.Point}}); err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		},
		Replay: func(_ context.Context, q *store.QuarantinedRow, _ bool) (store.Replayed, error) {
			return store.Replayed{}, fmt.Errorf("not %d", q.ID)
		},
	}
}

func serve(t *testing.T, db *store.Store, change func(*Options)) *fixture {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "syncgate_answer"},
		func() float64 { return 42 }))
	f := &fixture{t: t, logged: NewLog(100)}
	o := Options{Address: "127.0.0.1:0", Store: db, Gatherer: reg, Gateway: f.gateway(), Log: f.logged,
		ErrorLog: io.Discard, Live: func() error { return nil }, Ready: func(context.Context) error { return nil }}
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

// do sends a request. header has names and values; Host and Body are not headers.
func (f *fixture) do(method, path string, header ...string) *http.Response {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	f.t.Cleanup(cancel)
	host := "syncgate"
	if f.Addr() != nil {
		host = f.Addr().String()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, http.NoBody)
	if err != nil {
		f.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		switch header[i] {
		case "Host":
			req.Host = header[i+1]
		case "Body":
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(header[i+1])), int64(len(header[i+1]))
		default:
			req.Header.Set(header[i], header[i+1])
		}
	}
	res, err := f.client.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func (f *fixture) ask(method, path string, header ...string) (int, string) {
	f.t.Helper()
	res := f.do(method, path, header...)
	b, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// get reads an answer into v.
func (f *fixture) get(path string, v any) {
	f.t.Helper()
	code, body := f.ask("GET", path)
	if err := json.Unmarshal([]byte(body), v); err != nil || code != 200 {
		f.t.Fatalf("%s: %d %s: %v", path, code, body, err)
	}
}

func enrol(t *testing.T, db *store.Store, points ...string) {
	t.Helper()
	for _, p := range points {
		if _, err := db.AddPoint(t.Context(), p, "", func(uint32) []byte { return []byte("k") }); err != nil {
			t.Fatal(err)
		}
	}
}
