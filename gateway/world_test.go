package gateway

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"syncgate/crypto"
	"syncgate/internal/harness/harnesstest"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

func TestMain(m *testing.M) { localdbtest.Main(m) }

// waitLimit is how long a test waits for what must come.
const waitLimit = 30 * time.Second

// world is a gateway over a database of its own.
type world struct {
	t      *testing.T
	dsn    string
	db     *sql.DB
	store  *store.Store
	master *crypto.MasterKey
	log    *logs
	series *prometheus.Registry
	*Gateway

	cancel context.CancelFunc
	ended  chan error
	once   sync.Once
	err    error
}

const pointName = "point-01"

// newWorld makes the database, with one table.
func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, localdbtest.New(t))
}

func newWorldOn(t *testing.T, dsn string) *world {
	t.Helper()
	w := &world{t: t, dsn: dsn, log: &logs{}}
	w.store = w.open()
	if err := w.store.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.db, err = sql.Open("mysql", w.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	if w.master, err = crypto.ParseMasterKey(crypto.GenerateMasterKey()); err != nil {
		t.Fatal(err)
	}
	w.exec(`CREATE TABLE hits (id BIGINT PRIMARY KEY, url VARCHAR(20) NOT NULL, update_time DATETIME(6) NULL, KEY ` +
		`(update_time))`)
	return w
}

func (w *world) open() *store.Store {
	w.t.Helper()
	s, err := store.Open(w.t.Context(), store.Options{DSN: w.dsn, AcceptUnsafe: true})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { s.Close() })
	return s
}

// serve starts the gateway; change may alter its options.
func (w *world) serve(change ...func(*Options)) *world {
	w.t.Helper()
	w.series = prometheus.NewRegistry()
	o := Options{Store: w.store, MasterKey: w.master, Listen: "127.0.0.1:0", Rand: rand.Reader,
		Poll:   50 * time.Millisecond,
		Logger: zerolog.New(w.log), Registry: w.series, Wire: protocol.ServerOptions{Handshakes: 10000}}
	ready := make(chan bool)
	o.Ready = func() { close(ready) }
	for _, f := range change {
		f(&o)
	}
	var err error
	if w.Gateway, err = New(o); err != nil {
		w.t.Fatal(err)
	}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.ended, w.once = make(chan error, 1), sync.Once{}
	go func() { w.ended <- w.Run(ctx) }()
	w.t.Cleanup(func() {
		_ = w.stop() // a test that cares has stopped it before
		if w.t.Failed() {
			w.t.Log(w.log)
		}
	})
	select {
	case <-ready:
	case err := <-w.ended:
		w.ended <- err
		w.t.Fatal(err)
	}
	return w
}

func (w *world) stop() error {
	w.once.Do(func() {
		w.cancel()
		w.err = <-w.ended
	})
	return w.err
}

func (w *world) exec(q string, args ...any) {
	w.t.Helper()
	if _, err := w.db.Exec(q, args...); err != nil {
		w.t.Fatalf("%s: %v", q, err)
	}
}

// one is a query's only value as text.
func (w *world) one(q string, args ...any) string {
	w.t.Helper()
	var v sql.NullString
	if err := w.db.QueryRow(q, args...).Scan(&v); err != nil && !errors.Is(err, sql.ErrNoRows) {
		w.t.Fatalf("%s: %v", q, err)
	}
	return v.String
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(waitLimit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within %v: %s", waitLimit, what)
		}
	}
}

// metric is the sum of a counter's or gauge's series.
func (w *world) metric(name string) (sum float64) {
	w.t.Helper()
	all, err := w.series.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// rule inserts a server row and gives its id. An upload has the fields id and url.
func (w *world) rule(table, kind, point, text string) int64 {
	w.t.Helper()
	fields := ""
	if kind == "upload" {
		fields = `["id", "url"]`
	}
	res, err := w.db.Exec(`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, `+
		`sync_field, sync_sql)
		VALUES (?, ?, 'server', ?, ?, ?)`, table, kind, point, fields, text)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := res.LastInsertId()
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

const upsert = "-- downside: insert\ninsert into hits (id, url) values (:id, :url) on duplicate key update url = " +
	"values(url)"

// enrol adds a point and gives its key.
func (w *world) enrol(point string) crypto.Key {
	w.t.Helper()
	k := crypto.Key{Point: point}
	_, _ = rand.Read(k.Secret[:])
	id, err := w.store.AddPoint(w.t.Context(), point, "", func(id uint32) []byte {
		k.ID = id
		return w.master.Wrap(k)
	})
	if err != nil || id != k.ID {
		w.t.Fatal(id, err)
	}
	return k
}

// dial connects and shakes hands; the error is a refusal.
func (w *world) dial(k crypto.Key) (*harnesstest.Client, error) {
	w.t.Helper()
	return harnesstest.Handshake(w.t, w.Addr().String(), k)
}

// connect is dial by a point that is welcome.
func (w *world) connect(k crypto.Key) *harnesstest.Client {
	w.t.Helper()
	c, err := w.dial(k)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func upload(table string, rows ...any) *protocol.UploadRequest {
	return &protocol.UploadRequest{Table: table, Rows: rowset.Rows{Columns: []string{"id", "url"}, Values: rows}}
}

func id(seq uint64) protocol.RequestID { return protocol.MakeRequestID(42, seq) }

// logs is a log that a failed test shows.
type logs struct {
	mu  sync.Mutex
	all []byte
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, b...)
	return len(b), nil
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.all)
}
