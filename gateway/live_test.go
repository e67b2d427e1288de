package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"syncgate/business"
	"syncgate/internal/harness/harnesstest"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/reactor"
	"syncgate/store"
	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

func TestEditsAreLive(t *testing.T) {
	w := newWorld(t)
	c := func() *harnesstest.Client { k := w.enrol(pointName); w.serve(); return w.connect(k) }()
	try := func(row int) string {
		return c.Status(c.Ask(protocol.OpUpload, id(uint64(row)), upload("hits", int64(row), "a")))
	}
	state := func(id int64) string {
		return w.one(`SELECT CONCAT_WS(' ', state, error_code, error_column, error_section) FROM sync_control_status `+
			`WHERE id = ?`, id)
	}
	becomes := func(want string, id int64) {
		t.Helper()
		w.eventually("rule is "+want, func() bool { return state(id) == want })
	}
	if got := try(1); !strings.HasPrefix(got, "NO_RULE") {
		t.Fatal(got)
	}
	all := w.rule("hits", "upload", "*", upsert)
	neighbour := w.rule("hits", "download", "*", "")
	becomes("ok", all)
	becomes("ok", neighbour)
	if got := try(1); got != "OK" {
		t.Fatal(got)
	}

	// A broken edit keeps the last good version, and says so.
	w.exec(`UPDATE sync_control SET sync_sql = '-- downside: insert\ninsert into hits (id, plate) values (:id, `+
		`:url)' WHERE id = ?`, all)
	becomes("stale SG0104 sync_sql downside", all)
	if got := try(2); got != "OK" {
		t.Fatal(got)
	}
	if state(neighbour) != "ok" {
		t.Error("a neighbour was touched")
	}
	if w.rules.Count(store.RuleStale) != 1 || w.metric("syncgate_rules") != 2 {
		t.Error("the stale rule is not counted")
	}
	if got := strings.Count(w.log.String(), `"code":"SG0104"`); got != 1 {
		t.Errorf("the log tells of it %d times", got)
	}

	// So does one that only the database can refuse.
	w.exec(`UPDATE sync_control SET sync_sql = '-- downside: insert\ninsert into hits (id, url) values (:id, `+
		`no_such_function(:url))' WHERE id = ?`, all)
	becomes("stale SG0141 sync_sql downside", all)
	if got := try(3); got != "OK" {
		t.Fatal(got)
	}

	// A good edit is in force; the row of a point's own comes before that of all.
	w.exec(`UPDATE sync_control SET sync_sql = '-- downside: insert\ninsert into hits (id, url) values (:id, `+
		`concat(:url, ''!''))' WHERE id = ?`, all)
	becomes("ok", all)
	own := w.rule("hits", "upload", pointName,
		"-- downside: insert\ninsert into hits (id, url) values (:id, concat(:url, '?'))")
	becomes("ok", own)
	if got := try(4); got != "OK" {
		t.Fatal(got)
	}
	w.exec(`DELETE FROM sync_control WHERE id = ?`, own)
	w.eventually("the row of all is in force", func() bool {
		e, err := w.rules.Find("hits", "upload", pointName)
		return err == nil && e.Row.ID == uint64(all)
	})
	if got := try(5); got != "OK" {
		t.Fatal(got)
	}
	if got := w.one(`SELECT GROUP_CONCAT(url ORDER BY id) FROM hits`); got != "a,a,a,a?,a!" {
		t.Errorf("the rows say that these rules ran: %s", got)
	}

	row := 6
	refused := func(want string) func() bool {
		return func() bool {
			got := try(row)
			if got == "OK" { // before the edit is in force
				row++
			}
			return strings.HasPrefix(got, want)
		}
	}
	w.exec(`UPDATE sync_control SET enabled = 0 WHERE id = ?`, all)
	w.eventually("the rule is off", refused("RULE_DISABLED"))
	w.exec(`DELETE FROM sync_control WHERE id = ?`, all)
	w.eventually("the rule is gone", refused("NO_RULE"))
}

// An upload that was applied, and whose answer was lost, is answered from the ledger whatever has become of its rule.
func TestTheLedgerIsAskedBeforeTheRule(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	r := w.rule("hits", "upload", "*", upsert)
	w.serve(func(o *Options) { o.Handler.MaxUploadRows = 2 })
	c := w.connect(k)
	sent := upload("hits", int64(1), "a", int64(2), "b")
	ask := func(seq uint64, u *protocol.UploadRequest) string {
		t.Helper()
		return c.Status(c.Ask(protocol.OpUpload, id(seq), u))
	}
	if got := ask(1, sent); got != "OK" {
		t.Fatal(got)
	}
	seq := uint64(100)
	for _, edit := range []struct{ statement, refusal string }{
		{"UPDATE sync_control SET sync_field = '[\"id\", \"url\", \"more\"]', sync_sql = '-- downside: " +
			"insert\ninsert into hits (id, url) values (:id, concat(:url, :more))' WHERE id = ?", "REQUEST_MISMATCH"},
		{"UPDATE sync_control SET sync_sql = 'nonsense', enabled = 0 WHERE id = ?", "RULE_DISABLED"},
		{"UPDATE sync_control SET enabled = 1 WHERE id = ?", "RULE_BROKEN"},
		{"DELETE FROM sync_control WHERE id = ?", "NO_RULE"},
	} {
		w.exec(edit.statement, r)
		w.eventually(edit.refusal, func() bool {
			got := ask(seq, upload("hits", int64(3), "c"))
			if got == "OK" { // before the edit is in force
				seq++
			}
			return strings.HasPrefix(got, edit.refusal)
		})
		m := c.Ask(protocol.OpUpload, id(1), sent)
		if reply, err := m.UploadReply(); m.Status != protocol.StatusOK || err != nil || !reply.Duplicate ||
			reply.Applied != 2 {
			t.Errorf("%s: the upload that came again is answered %s %+v %v", edit.refusal, c.Status(m), reply, err)
		}
		if got := ask(1, upload("hits", int64(9), "z")); !strings.HasPrefix(got, "REQUEST_ID_REUSED") {
			t.Errorf("%s: another upload of the same id is answered %s", edit.refusal, got)
		}
	}
	if got := ask(seq, upload("hits", int64(3), "c", int64(4), "d", int64(5), "e")); !strings.HasPrefix(got,
		"NO_RULE") {
		t.Error(got)
	}
}

func TestRuleFollowsItsTable(t *testing.T) {
	w := newWorld(t)
	r := w.rule("late", "upload", "*", "")
	w.exec(`UPDATE sync_control SET sync_field = NULL`)
	w.serve()
	if got := w.rules.Count(store.RuleBroken); got != 1 {
		t.Fatalf("%d rules are broken", got)
	}
	w.exec(`CREATE TABLE late (id BIGINT PRIMARY KEY)`)
	w.eventually("the rule is good", func() bool {
		return w.one(`SELECT state FROM sync_control_status WHERE id = ?`, r) == "ok"
	})
	w.exec(`ALTER TABLE late ADD COLUMN name VARCHAR(10)`)
	w.eventually("the rule has the new column", func() bool {
		e, err := w.rules.Find("late", "upload", pointName)
		return err == nil && len(e.Plan.Fields) == 2
	})
}

func TestSubscribersHearOfEdits(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.serve()
	c := w.connect(k)
	m := c.Ask(protocol.OpSubscribe, id(1), nil)
	first, err := m.PingReply()
	if err != nil || !m.More() {
		t.Fatal(m, err)
	}
	w.rule("hits", "upload", "*", upsert)
	news := c.Read()
	next, err := news.PingReply()
	if err != nil || news.RequestID != id(1) || next.RulesVersion == first.RulesVersion ||
		next.RulesVersion != w.rules.Version() {
		t.Fatal(news, err)
	}
	c.Ask(protocol.OpPing, id(2), nil) // a subscription holds no place in flight
}

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
