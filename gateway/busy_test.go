package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"syncgate/internal/harness/harnesstest"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// lock holds a row of hits until the returned function is called, so that an upload of it has to wait.
func (w *world) lock(row int) (release func()) {
	w.t.Helper()
	w.exec(`INSERT IGNORE INTO hits (id, url) VALUES (?, 'locked')`, row)
	tx, err := w.db.Begin()
	if err == nil {
		_, err = tx.Exec(`UPDATE hits SET url = url WHERE id = ?`, row)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if err := tx.Rollback(); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) running(n int) {
	w.t.Helper()
	w.eventually(fmt.Sprintf("%d requests are running", n), func() bool { return w.pool.Stats().Running == n })
}

func TestFullServerSaysBusy(t *testing.T) {
	w := newWorld(t)
	w.rule("hits", "upload", "*", upsert)
	var clients []*harnesstest.Client
	for i := range 3 {
		k := w.enrol(fmt.Sprint("p", i))
		if i == 0 {
			w.serve(func(o *Options) { o.Pool.Workers, o.Pool.Queue = 1, 1 })
		}
		w.eventually("the key is known", func() bool { _, ok := w.points.key(k.Point, k.ID); return ok })
		clients = append(clients, w.connect(k))
	}
	defer w.lock(1)()
	release := w.lock(2)
	send := func(i int, row int) {
		clients[i].Send(&protocol.Message{Op: protocol.OpUpload, RequestID: id(1),
			Body: upload("hits", int64(row), "new")})
	}
	send(0, 2)
	w.running(1)
	send(1, 2)
	w.eventually("one waits", func() bool { return w.pool.Stats().Waiting == 1 })
	m := clients[2].Ask(protocol.OpUpload, id(1), upload("hits", int64(3), "new"))
	e, err := m.ErrorReply()
	if m.Status != protocol.StatusBusy || err != nil || e.RetryAfterMs == 0 {
		t.Fatal(clients[2].Status(m), e, err)
	}
	clients[2].Ask(protocol.OpPing, id(2), nil) // a PING is answered all the same
	release()
	for i := range 2 {
		if m := clients[i].Read(); m.Status != protocol.StatusOK {
			t.Error(clients[i].Status(m))
		}
	}
	if m := clients[2].Ask(protocol.OpUpload, id(1), upload("hits", int64(3), "new")); m.Status != protocol.StatusOK {
		t.Error(clients[2].Status(m))
	}
}

func TestTheSameRequestOnTwoConnections(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.exec(`CREATE TABLE sums (id BIGINT PRIMARY KEY, url BIGINT NOT NULL)`)
	w.rule("sums", "upload", "*", "-- downside: insert\ninsert into sums (id, url) values (:id, :url) on duplicate "+
		"key update url = url + values(url)")
	w.serve()
	const n = 4
	duplicates := make(chan bool, n)
	for range n {
		c := w.connect(k)
		go func() {
			m := c.Ask(protocol.OpUpload, id(1), upload("sums", int64(1), int64(1)))
			up, err := m.UploadReply()
			if err != nil || up.Applied != 1 {
				t.Error(c.Status(m), up, err)
			}
			duplicates <- up.Duplicate
		}()
	}
	first := 0
	for range n {
		if !<-duplicates {
			first++
		}
	}
	if got := w.one(`SELECT url FROM sums`); got != "1" || first != 1 {
		t.Errorf("applied %s times, %d replies say that they were the first", got, first)
	}
}

func TestPipelinedUploadsKeepTheirOrder(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "upload", "*", upsert)
	w.serve()
	c := w.connect(k)
	const n = 200
	go func() {
		for i := range n {
			frame, err := c.Wire.Seal(nil, &protocol.Message{Op: protocol.OpUpload, RequestID: id(uint64(i + 1)),
				Body: upload("hits", int64(1), fmt.Sprint(i))})
			if err == nil {
				_, err = c.Conn.Write(frame)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range n {
		if m := c.Read(); m.Status != protocol.StatusOK {
			t.Fatal(c.Status(m))
		}
	}
	if got := w.one(`SELECT url FROM hits`); got != fmt.Sprint(n-1) {
		t.Errorf("the row is of upload %s", got)
	}
}

// endless is an upside that gives far more rows than anybody will take.
const endless = "-- upside\nselect seq as id, repeat('x', 1000) as url from seq_1_to_3000000"

func (w *world) queries() string {
	return w.one(`SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%seq_1_to_3000000%' AND id <> ` +
		`CONNECTION_ID()`)
}

func TestClientThatDoesNotRead(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "upload", "*", upsert)
	w.rule("hits", "download", "*", endless)
	w.serve(func(o *Options) {
		o.Reactor.StallTimeout = time.Second
		o.Pool.Workers, o.Pool.Downloads = 1, 1
	})
	deaf := w.connect(k)
	deaf.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: id(1),
		Body: &protocol.DownloadRequest{Table: "hits"}})
	if m := deaf.Read(); !m.More() {
		t.Fatal(deaf.Status(m))
	}
	w.running(1)
	c := w.connect(k)
	if m := c.Ask(protocol.OpUpload, id(2), upload("hits", int64(1), "a")); m.Status != protocol.StatusOK {
		t.Error(c.Status(m))
	}
	w.running(0)
	w.eventually("the query has ended", func() bool { return w.queries() == "0" })
	if held := w.reactor.Load().Buffered; held > 1<<20 {
		t.Errorf("%d bytes are held for nobody", held)
	}
}

func TestClientThatGoesAway(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "download", "*", endless)
	w.serve()
	c := w.connect(k)
	c.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: id(1), Body: &protocol.DownloadRequest{Table: "hits"}})
	c.Read()
	c.Conn.Close()
	w.running(0)
	w.eventually("the query has ended", func() bool { return w.queries() == "0" })
	if strings.Contains(w.log.String(), `"level":"error"`) || strings.Contains(w.log.String(), `"level":"warn"`) {
		t.Error("a client that goes away is no news")
	}
}

func TestDownloadComesInParts(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "download", "*", "-- upside\nselect seq as id, repeat('x', 200) as url from seq_1_to_10000")
	w.rule("large", "download", "*", "-- upside\nselect repeat('x', 600000) as a union all select repeat('y', 600000)")
	w.rule("huge", "download", "*", "-- upside\nselect 1 as a union all select repeat('y', 1048576)")
	w.serve()
	c := w.connect(k)
	d := c.Download(id(1), &protocol.DownloadRequest{Table: "hits"})
	if d.Text != "OK" || d.Rows.Len() != 10000 || d.Last.Total != 10000 || d.Parts < 10 {
		t.Fatal(d.Text, d.Rows.Len(), d.Last, d.Parts)
	}
	for i := range d.Rows.Len() {
		if d.Rows.Row(i)[0] != int64(i+1) {
			t.Fatalf("row %d is %v", i, d.Rows.Row(i)[0])
		}
	}
	// Two rows that have room in a frame each, but not together.
	if d := c.Download(id(2), &protocol.DownloadRequest{Table: "large"}); d.Text != "OK" || d.Rows.Len() != 2 {
		t.Error(d.Text, d.Rows.Len())
	}
	// A row that no frame can carry is put aside, and the others come.
	if d := c.Download(id(3), &protocol.DownloadRequest{Table: "huge"}); d.Text != "OK" || d.Rows.Len() != 1 {
		t.Error(d.Text, d.Rows.Len())
	}
	c.Ask(protocol.OpPing, id(4), nil)
}

func TestDownloadsArePaged(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.exec(`INSERT INTO hits SELECT seq, seq, '2020-01-01' FROM seq_1_to_2500`)
	w.rule("hits", "download", "*", "")
	w.serve(func(o *Options) { o.Handler.MaxDownloadRows = 1000 })
	c := w.connect(k)
	var state []rowset.StateItem
	seen := 0
	for i, want := range []int{700, 700, 700, 400} {
		d := c.Download(id(uint64(i+1)), &protocol.DownloadRequest{Table: "hits", State: state, MaxRows: 700})
		if d.Text != "OK" || d.Rows.Len() != want || d.Last.Total != uint64(want) || d.Last.More != (want == 700) {
			t.Fatal(d.Text, d.Rows.Len(), d.Last)
		}
		for k := range d.Rows.Len() {
			if seen++; d.Rows.Row(k)[0] != int64(seen) {
				t.Fatalf("row %d is %v", seen, d.Rows.Row(k)[0])
			}
		}
		state = d.Last.State
	}
	if d := c.Download(id(9), &protocol.DownloadRequest{Table: "hits"}); d.Text != "OK" || d.Rows.Len() != 1000 ||
		!d.Last.More {
		t.Error("the server's own choice:", d.Text, d.Rows.Len(), d.Last)
	}
}
