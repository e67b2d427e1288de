package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"syncgate/business"
	"syncgate/protocol"
	"syncgate/reactor"
	"syncgate/store"
	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

// The database is killed and comes back. Nothing is lost, nothing comes twice, and the rules stay in force.
func TestDatabaseThatDies(t *testing.T) {
	server := localdbtest.Server(t, localdb.Options{Durable: true})
	if err := server.CreateDatabase(t.Context(), "centre"); err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, server.DSN("centre"))
	k := w.enrol(pointName)
	w.exec(`CREATE TABLE sums (id BIGINT PRIMARY KEY, url BIGINT NOT NULL)`)
	w.rule("sums", "upload", "*", "-- downside: insert\ninsert into sums (id, url) values (:id, :url) on duplicate "+
		"key update url = url + values(url)")
	w.serve()
	c := w.connect(k)
	version := w.rules.Version()
	refused := 0
	killed := 0
	for i := range 3 {
		w.eventually("the database answers", func() bool { return server.PID() != 0 && server.PID() != killed })
		killed = server.PID()
		if err := syscall.Kill(killed, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.eventually("the gateway is not ready, and says why", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			err := w.CheckReady(ctx)
			return err != nil && strings.HasPrefix(err.Error(), "database not reachable since 2")
		})
		if err := w.CheckLive(); err != nil {
			t.Error(err)
		}
		w.eventually("the upload is done", func() bool {
			m := c.Ask(protocol.OpUpload, id(uint64(i+1)), upload("sums", int64(1), int64(1)))
			switch m.Status {
			case protocol.StatusOK:
				return true
			case protocol.StatusDBUnavailable:
				refused++
				return false
			}
			t.Fatal(c.Status(m))
			return false
		})
		c.Ask(protocol.OpPing, id(100), nil)
	}
	if got := w.one(`SELECT url FROM sums`); got != "3" {
		t.Errorf("three uploads count %s", got)
	}
	if w.rules.Version() != version {
		t.Error("the rules changed")
	}
	w.eventually("the gateway is ready again", func() bool { return w.CheckReady(t.Context()) == nil })
	t.Logf("%d refusals", refused)
}

func TestStopFinishesWhatIsInHand(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "upload", "*", upsert)
	w.serve()
	c := w.connect(k)
	release := w.lock(1)
	c.Send(&protocol.Message{Op: protocol.OpUpload, RequestID: id(1), Body: upload("hits", int64(1), "new")})
	w.running(1)
	stopped := make(chan error, 1)
	if err := w.CheckReady(t.Context()); err != nil {
		t.Errorf("not ready while it serves: %v", err)
	}
	go func() { stopped <- w.stop() }()
	m := c.Read()
	if err := w.CheckReady(t.Context()); err == nil || err.Error() != "draining" {
		t.Errorf("a gateway that drains is ready: %v", err)
	}
	bye, err := m.GoAway()
	if err != nil || m.Op != protocol.OpGoAway || bye.Reason == "" || bye.GraceMs == 0 {
		t.Fatal(m, bye, err)
	}
	release()
	if m := c.Read(); m.Status != protocol.StatusOK || m.RequestID != id(1) {
		t.Error(c.Status(m))
	}
	if _, err := c.Next(); err == nil {
		t.Error("the connection stays open")
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := w.one(`SELECT url FROM hits`); got != "new" {
		t.Errorf("the row is %q", got)
	}
}

func TestStopInMidBatchLosesNothing(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.exec(`CREATE TABLE sums (id BIGINT PRIMARY KEY, url BIGINT NOT NULL)`)
	w.exec(`INSERT INTO sums VALUES (1, 0), (2, 0)`)
	w.rule("sums", "upload", "*", "-- downside: update\nupdate sums set url = url + :url where id = :id")
	w.serve(func(o *Options) { o.Pool.Drain = 100 * time.Millisecond })
	c := w.connect(k)
	tx, err := w.db.Begin()
	if err == nil {
		_, err = tx.Exec(`UPDATE sums SET url = url WHERE id = 2`)
	}
	if err != nil {
		t.Fatal(err)
	}
	request := &protocol.Message{Op: protocol.OpUpload, RequestID: id(1),
		Body: upload("sums", int64(1), int64(1), int64(2), int64(1))}
	c.Send(request)
	w.running(1)
	err = w.stop()
	var cut *reactor.CutError
	if !errors.As(err, &cut) || !errors.Is(err, business.ErrDrainCut) {
		t.Errorf("the stop says %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if got := w.one(`SELECT CONCAT(SUM(url), ' ', (SELECT COUNT(*) FROM sync_request)) FROM sums`); got != "0 0" {
		t.Fatalf("half of a batch is there: sum and ledger rows are %s", got)
	}

	w.serve()
	c = w.connect(k)
	for range 2 {
		m := c.Ask(request.Op, request.RequestID, request.Body)
		if up, err := m.UploadReply(); err != nil || up.Applied != 2 {
			t.Fatal(c.Status(m), up, err)
		}
	}
	if got := w.one(`SELECT GROUP_CONCAT(url) FROM sums`); got != "1,1" {
		t.Errorf("the sums are %s", got)
	}
}

func TestServerAsksSilentClients(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	progress := make(chan bool, 100)
	w.serve(func(o *Options) { o.Wire.Keepalive, o.Progress = time.Second, func() { progress <- true } })
	c := w.connect(k)
	c.Ask(protocol.OpPing, id(1), nil)
	m := c.Read()
	if m.Op != protocol.OpPing || m.RequestID.Epoch() != 0 {
		t.Fatal(m)
	}
	c.Send(&protocol.Message{Op: protocol.OpPing, RequestID: m.RequestID})
	if m := c.Read(); m.Op != protocol.OpPing || m.RequestID.Epoch() != 0 {
		t.Fatal(m)
	}
	if _, err := c.Next(); err == nil { // this one is not answered
		t.Fatal("a dead client keeps its connection")
	}
	select { // the loops were seen to turn meanwhile, or are soon
	case <-progress:
	case <-time.After(waitLimit):
		t.Error("the watchdog hears nothing")
	}
}

func TestSessionEnds(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	var mu sync.Mutex
	var ahead time.Duration
	w.serve(func(o *Options) {
		o.Clock = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) }
	})
	c := w.connect(k)
	c.Ask(protocol.OpPing, id(1), nil)
	mu.Lock()
	ahead = protocol.SessionLifetime
	mu.Unlock()
	c.Send(&protocol.Message{Op: protocol.OpPing, RequestID: id(2)})
	var ops []protocol.Op // in either order
	for range 2 {
		ops = append(ops, c.Read().Op)
	}
	if !slices.Contains(ops, protocol.OpPing) || !slices.Contains(ops, protocol.OpGoAway) {
		t.Fatal(ops)
	}
	c.Ask(protocol.OpPing, id(3), nil) // what was on its way is answered
}

func TestStartNeedsTheDatabase(t *testing.T) {
	w := newWorld(t)
	w.store.Close()
	g, err := New(Options{Store: w.store, MasterKey: w.master, Listen: "127.0.0.1:0",
		Rand: strings.NewReader(strings.Repeat("r", 1000))})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Run(context.Background()); err == nil {
		t.Error("it runs without a database")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("it is made of nothing")
	}
}
