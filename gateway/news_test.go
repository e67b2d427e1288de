package gateway

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/harness/harnesstest"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

// subscriber is a client that is told of tables.
type subscriber struct {
	*harnesstest.Client
	t     *testing.T
	state []rowset.StateItem
}

func (w *world) subscribe(k crypto.Key, tables ...string) *subscriber {
	w.t.Helper()
	s := &subscriber{Client: w.connect(k), t: w.t}
	s.Send(&protocol.Message{Op: protocol.OpSubscribe, RequestID: s.Wire.RequestID(),
		Body: &protocol.SubscribeRequest{Tables: tables}})
	return s
}

// told is the next message, which must be about tables.
func (s *subscriber) told() string {
	s.t.Helper()
	m := s.Read()
	reply, err := m.SubscribeReply()
	if err != nil || m.Op != protocol.OpSubscribe || !m.More() || reply.RulesVersion == 0 {
		s.t.Fatal(m.Op, reply, err)
	}
	return fmt.Sprint(reply.News, reply.Polled)
}

// rows asks for what is new in goods.
func (s *subscriber) rows() (n int) {
	s.t.Helper()
	for more := true; more; {
		d := s.Download(s.Wire.RequestID(), &protocol.DownloadRequest{Table: "goods", State: s.state})
		if d.Status != protocol.StatusOK {
			s.t.Fatal(d.Text)
		}
		n, s.state, more = n+d.Rows.Len(), d.Last.State, d.Last.More
	}
	return n
}

// quiet fails when the client was told something that it has not read. The answer to a ping comes behind it.
func (s *subscriber) quiet() {
	s.t.Helper()
	s.Ask(protocol.OpPing, s.Wire.RequestID(), nil)
}

// recordedGoods makes a table whose changes are recorded, with rules for both directions.
func (w *world) recordedGoods() {
	w.t.Helper()
	w.exec(`CREATE TABLE goods (id BIGINT PRIMARY KEY, url VARCHAR(20) NOT NULL)`)
	table, err := w.store.Table(w.t.Context(), "goods")
	if err == nil {
		err = w.store.RecordChanges(w.t.Context(), table)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.exec(`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_sql)
		VALUES ('goods', 'download', 'server', '*', '-- option: changes'), ('goods', 'upload', 'server', '*', '')`)
}

func TestSubscribersAreTold(t *testing.T) {
	w := newWorld(t)
	w.recordedGoods()
	own := w.rule("hits", "download", "*", "-- upside\nselect id, url from hits")
	keys := []crypto.Key{w.enrol("point-a"), w.enrol("point-b"), w.enrol("point-old")}
	w.serve()
	looked := func() { time.Sleep(4*w.o.Poll + lookGap) } // for what must not happen

	a, b := w.subscribe(keys[0], "goods", "hits", "nothing"), w.subscribe(keys[1], "goods")
	for s, want := range map[*subscriber]string{a: "[goods hits nothing] [hits nothing]", b: "[goods] []"} {
		if got := s.told(); got != want {
			t.Errorf("first told %s, want %s", got, want)
		}
	}
	// However much happens, a client that has not asked is not told again.
	for i := range 5 {
		w.exec(`INSERT INTO goods VALUES (?, 'a')`, i)
		looked()
	}
	for _, s := range []*subscriber{a, b} {
		s.quiet()
		if n := s.rows(); n != 5 {
			t.Errorf("%d rows", n)
		}
		looked()
		s.quiet() // and one that has all is not told
	}
	// The centre changes a row.
	w.exec(`UPDATE goods SET url = 'b' WHERE id = 1`)
	for _, s := range []*subscriber{a, b} {
		if got, n := s.told(), s.rows(); got != "[goods] []" || n != 1 {
			t.Errorf("told %s, %d rows", got, n)
		}
	}
	// A point uploads: the others are told, and it is not.
	if status, _ := a.Upload("goods",
		rowset.Rows{Columns: []string{"id", "url"}, Values: []any{int64(9), "up"}}); status != protocol.StatusOK {
		t.Fatal(status)
	}
	if got, n := b.told(), b.rows(); got != "[goods] []" || n != 1 {
		t.Errorf("told %s, %d rows", got, n)
	}
	looked()
	a.quiet()
	// Another rule for a table is news of it, to those who have the table.
	w.exec(`UPDATE sync_control SET sync_sql = '-- upside\nselect id, url from hits where id > 0' WHERE id = ?`, own)
	if got := a.told(); got != "[hits] [hits]" && got != "[] []" {
		t.Errorf("told %s", got)
	}
	// A client of before is told of rules alone.
	old := w.connect(keys[2])
	m := old.Ask(protocol.OpSubscribe, old.Wire.RequestID(), nil)
	if ping, err := m.PingReply(); err != nil || ping.RulesVersion == 0 || !m.More() {
		t.Fatal(ping, err)
	}
	w.exec(`INSERT INTO goods VALUES (50, 'a')`)
	looked()
	old.Ask(protocol.OpPing, old.Wire.RequestID(), nil)
	// Nothing is looked at for clients that are gone.
	for _, s := range []*subscriber{a, b} {
		s.Conn.Close()
	}
	w.eventually("no table is looked at", func() bool {
		w.news.mu.Lock()
		defer w.news.mu.Unlock()
		return len(w.news.watches) == 0 && len(w.news.subs) == 1
	})
}

// Tables that are read by time or by their key have news, too.
func TestSubscribersAreToldByTime(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE keyed (id BIGINT PRIMARY KEY, url VARCHAR(20) NOT NULL)`)
	w.rule("hits", "download", "*", "")
	w.rule("keyed", "download", "*", "")
	k := w.enrol(pointName)
	w.serve()
	s := w.subscribe(k, "hits", "keyed")
	states, told := map[string][]rowset.StateItem{}, map[string]bool{}
	read := func() *protocol.Message {
		t.Helper()
		m := s.Read()
		if m.Op == protocol.OpSubscribe {
			reply, err := m.SubscribeReply()
			if err != nil || len(reply.Polled) > 0 {
				t.Fatal(reply, err)
			}
			for _, table := range reply.News {
				told[table] = true
			}
		}
		return m
	}
	// rows waits until the table is told and asks for it.
	rows := func(table string) (n int) {
		t.Helper()
		for !told[table] {
			read()
		}
		told[table] = false
		for more := true; more; {
			s.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: s.Wire.RequestID(),
				Body: &protocol.DownloadRequest{Table: table, State: states[table]}})
			for last := false; !last; {
				m := read()
				if m.Op != protocol.OpDownload {
					continue
				}
				d, err := m.DownloadReply()
				if err != nil || m.Status != protocol.StatusOK {
					t.Fatal(s.Status(m), err)
				}
				if n, last = n+d.Rows().Len(), !m.More(); last {
					states[table], more = d.State, d.More
				}
			}
		}
		return n
	}
	for _, table := range []string{"hits", "keyed"} {
		if n := rows(table); n != 0 {
			t.Errorf("%d rows of %s", n, table)
		}
	}
	w.exec(`INSERT INTO hits VALUES (1, 'a', NOW(6))`)
	w.exec(`INSERT INTO keyed VALUES (1, 'a'), (2, 'b')`)
	for table, want := range map[string]int{"hits": 1, "keyed": 2} {
		for n := 0; n < want; { // it may be told once more of what it has
			n += rows(table)
		}
	}
}

// A point runs a rule when it is asked to, and what it answers is in sync_log.
func TestRunNow(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.serve()
	var lines []string
	run := func() error {
		lines = nil
		return w.RunNow(t.Context(), pointName, "hits", "upload",
			func(l store.LogLine) { lines = append(lines, l.Text) })
	}
	if err := run(); !errors.Is(err, ErrNotConnected) {
		t.Error(err)
	}
	old := w.connect(k)
	old.Ask(protocol.OpSubscribe, old.Wire.RequestID(), nil)
	if err := run(); !errors.Is(err, ErrOldAgent) {
		t.Error(err)
	}
	c := w.connect(k)
	c.Ask(protocol.OpSubscribe, c.Wire.RequestID(), &protocol.SubscribeRequest{Runs: true})
	agent := func(answers ...*protocol.Message) {
		ask := c.Read()
		if r, err := ask.RunRequest(); err != nil || ask.RequestID.Epoch() != 0 || r.Table != "hits" ||
			r.Type != "upload" {
			t.Error(ask, r, err)
		}
		for i, m := range answers {
			m.Op, m.RequestID = protocol.OpRun, ask.RequestID
			if i < len(answers)-1 {
				m.Flags = protocol.FlagMore
			}
			c.Send(m)
		}
		if len(answers) == 0 {
			c.Conn.Close()
		}
	}
	go agent(&protocol.Message{Body: &protocol.RunReply{Text: "3 rows", Rows: 3}},
		&protocol.Message{Body: &protocol.RunReply{Text: "done: 5 rows", Rows: 5}})
	if err := run(); err != nil || len(lines) != 3 || lines[1] != "3 rows" || lines[2] != "done: 5 rows" {
		t.Error(lines, err)
	}
	go agent(&protocol.Message{Status: protocol.StatusNoRule, Body: &protocol.ErrorReply{Message: "no such rule"}})
	if err := run(); protocol.StatusOf(err) != protocol.StatusNoRule || len(lines) != 2 ||
		!strings.Contains(lines[1], "no such rule") {
		t.Error(lines, err)
	}
	go agent()
	if err := run(); !errors.Is(err, errPointGone) {
		t.Error(err)
	}
	w.eventually("all lines are in sync_log", func() bool {
		return w.one(`SELECT CONCAT(COUNT(*), ' ', SUM(status = 200), ' ', SUM(row_count)) FROM sync_log
			WHERE point_no = ? AND sync_table = 'hits' AND sync_type = 'upload' AND batches = 0`, pointName) == "7 1 0"
	})
}

// Downloads that wait at the same time share one read. A point that a row comes from does not get it back, and reads
// alone.
func TestDownloadsShareARead(t *testing.T) {
	w := newWorld(t)
	w.recordedGoods()
	keys := make([]crypto.Key, 20)
	for i := range keys {
		keys[i] = w.enrol(fmt.Sprintf("point-%02d", i))
	}
	w.serve(func(o *Options) { o.Pool.Downloads = 1 })
	var clients []*subscriber
	for _, k := range keys {
		s := &subscriber{Client: w.connect(k), t: t}
		s.rows() // which loads the empty table
		clients = append(clients, s)
	}
	if status, _ := clients[7].Upload("goods",
		rowset.Rows{Columns: []string{"id", "url"}, Values: []any{int64(1), "x"}}); status != protocol.StatusOK {
		t.Fatal(status)
	}
	locked, err := w.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	if _, err := locked.ExecContext(t.Context(), "LOCK TABLES goods WRITE, sync_change_goods WRITE"); err != nil {
		t.Fatal(err)
	}
	ids := make([]protocol.RequestID, len(clients))
	for i, s := range clients {
		ids[i] = s.Wire.RequestID()
		s.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: ids[i],
			Body: &protocol.DownloadRequest{Table: "goods", State: s.state}})
	}
	w.eventually("all but one wait", func() bool { return w.pool.Stats().WaitingDownloads == len(clients)-1 })
	if _, err := locked.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	for i, s := range clients {
		rows := 0
		for _, m := range s.Replies(ids[i]) {
			reply, err := m.DownloadReply()
			if err != nil || m.Status != protocol.StatusOK {
				t.Fatal(i, m.Status, err)
			}
			rows += reply.Rows().Len()
		}
		if want := 1; i == 7 && rows != 0 || i != 7 && rows != want {
			t.Errorf("client %d got %d rows", i, rows)
		}
	}
	// the first waited alone, the second read, one is the rows' origin
	if got := w.handler.Shared(); got != uint64(len(clients)-3) {
		t.Errorf("%d downloads were answered from another's read", got)
	}
}

// The names of a subscription are charged to the point as long as the subscription lasts.
func TestSubscriptionIsCharged(t *testing.T) {
	w := newWorld(t)
	key := w.enrol("point-a")
	w.serve()
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprint("nothing ", i)
	}
	s := w.subscribe(key, names...)
	least := int64(len(names) * toldSize)
	w.eventually("the names are charged", func() bool { n := w.ledger.Used(); return n > least && n < 2*least })
	s.Send(&protocol.Message{Op: protocol.OpSubscribe, RequestID: s.Wire.RequestID(), Body: &protocol.SubscribeRequest{}})
	w.eventually("another subscription takes the place of the first", func() bool { return w.ledger.Used() < least })
	s.Send(&protocol.Message{Op: protocol.OpSubscribe, RequestID: s.Wire.RequestID(),
		Body: &protocol.SubscribeRequest{Tables: names}})
	w.eventually("the names are charged again", func() bool { return w.ledger.Used() > least })
	s.Conn.Close()
	w.eventually("nothing is charged when the client has left", func() bool { return w.ledger.Used() == 0 })
}
