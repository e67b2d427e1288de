package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

// rival is a transaction of somebody else that holds rows.
func rival(t *testing.T, s *Store, statements ...string) *sql.Tx {
	t.Helper()
	tx, err := s.db.BeginTx(testContext(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range statements {
		if _, err := tx.ExecContext(testContext(t), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	return tx
}

// waiting is the connection id of the transaction that waits for a lock, as soon as there is one other than except.
func waiting(t *testing.T, s *Store, except int) int {
	t.Helper()
	for ctx := testContext(t); ; {
		var id int
		err := s.db.QueryRowContext(ctx, `SELECT t.trx_mysql_thread_id FROM information_schema.innodb_trx t
			JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
			WHERE t.trx_state = 'LOCK WAIT' AND p.db = DATABASE() AND p.id <> ?`, except).Scan(&id)
		if err == nil {
			return id
		}
		if !errors.Is(err, sql.ErrNoRows) {
			t.Fatal(err)
		}
		// It can only be asked again, and shows news only when nobody has asked for a tenth of a second.
		time.Sleep(150 * time.Millisecond)
	}
}

// inBackground applies and returns the outcome later.
func inBackground(t *testing.T, s *Store, u *Upload) <-chan Outcome {
	ctx := testContext(t)
	done := make(chan Outcome, 1)
	go func() { done <- s.Apply(ctx, []*Upload{u})[0] }()
	return done
}

// twoRows sets up two rows that upload 1 of p1 updates in turn.
func twoRows(t *testing.T, s *Store) *Upload {
	t.Helper()
	exec(t, s, phishing)
	exec(t, s, "INSERT INTO phishing_log (url, ip, hits) VALUES ('a', '', 0), ('b', '', 0)")
	p := phishingPlan(t, s, "-- downside: update\nUPDATE phishing_log SET ip = :ip, hits = hits + :hits "+
		"WHERE url = :url\n")
	return upload(p, "p1", 1, []any{"a", "x", int64(1)}, []any{"b", "x", int64(1)})
}

func expectOnce(t *testing.T, s *Store, o Outcome) {
	t.Helper()
	if o.Err != nil || o.Applied != 2 {
		t.Errorf("%+v", o)
	}
	equal(t, "hits", one(t, s, "SELECT GROUP_CONCAT(url, hits ORDER BY url) FROM phishing_log WHERE url IN ('a', 'b')"),
		"a1,b1")
	equal(t, "ledger", one(t, s, "SELECT COUNT(*) FROM sync_request"), "1")
}

func TestDeadlockRunsTheBatchAgain(t *testing.T) {
	s := open(t)
	u := twoRows(t, s)
	exec(t, s, "CREATE TABLE weight (n INT PRIMARY KEY) ENGINE = InnoDB")
	// InnoDB ends the transaction that has changed less, so the rival changes more.
	other := rival(t, s, "INSERT INTO weight VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)",
		"UPDATE phishing_log SET ip = 'rival' WHERE url = 'b'")
	done := inBackground(t, s, u)
	waiting(t, s, 0)
	if _, err := other.ExecContext(testContext(t), "UPDATE phishing_log SET ip = 'rival' WHERE url = 'a'"); err != nil {
		t.Fatalf("the rival was to win the deadlock: %v", err)
	}
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	expectOnce(t, s, <-done)
}

func TestLockWaitEndsInErrRetry(t *testing.T) {
	s := open(t, func(o *Options) { o.MaxConns = 1 })
	holder := openDSN(t, s.o.DSN)
	u := twoRows(t, s)
	if err := s.withConn(testContext(t), func(c *conn) error {
		return c.text(testContext(t), "SET SESSION innodb_lock_wait_timeout = 0")
	}); err != nil {
		t.Fatal(err)
	}
	other := rival(t, holder, "UPDATE phishing_log SET ip = 'rival' WHERE url = 'b'")
	if err := s.Apply(testContext(t), []*Upload{u})[0].Err; !errors.Is(err, ErrRetry) {
		t.Errorf("got %v", err)
	}
	equal(t, "nothing was kept", one(t, s, "SELECT (SELECT COUNT(*) FROM sync_request) + ("+
		"SELECT SUM(hits) FROM phishing_log)"), "0")
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	expectOnce(t, s, applied(t, s, u))
}

func TestKilledConnectionRunsTheBatchAgain(t *testing.T) {
	s := open(t)
	u := twoRows(t, s)
	other := rival(t, s, "UPDATE phishing_log SET ip = 'rival' WHERE url = 'b'")
	done := inBackground(t, s, u)
	id := waiting(t, s, 0)
	exec(t, s, fmt.Sprintf("KILL %d", id))
	waiting(t, s, id) // it is back on another connection
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	expectOnce(t, s, <-done)
}

func TestCancelledUploadKeepsNothing(t *testing.T) {
	s := open(t)
	u := twoRows(t, s)
	other := rival(t, s, "UPDATE phishing_log SET ip = 'rival' WHERE url = 'b'")
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan Outcome, 1)
	go func() { done <- s.Apply(ctx, []*Upload{u})[0] }()
	waiting(t, s, 0)
	cancel()
	if o := <-done; !errors.Is(o.Err, context.Canceled) {
		t.Errorf("got %v", o.Err)
	}
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	expectOnce(t, s, applied(t, s, u))
}

func TestReadOnlyServer(t *testing.T) {
	s := open(t)
	u := twoRows(t, s)
	cfg, err := mysql.ParseDSN(s.o.DSN)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, s, "CREATE USER ordinary@localhost")
	exec(t, s, "GRANT ALL ON "+cfg.DBName+".* TO ordinary@localhost")
	t.Cleanup(func() {
		exec(t, s, "SET GLOBAL read_only = 0")
		exec(t, s, "DROP USER ordinary@localhost")
	})
	cfg.User, cfg.Passwd = "ordinary", ""
	ordinary := openDSN(t, cfg.FormatDSN())

	exec(t, s, "SET GLOBAL read_only = 1") // as a fail-over does to the old primary
	for range 2 {
		if err := ordinary.Apply(testContext(t), []*Upload{u})[0].Err; !errors.Is(err, ErrReadOnly) {
			t.Errorf("got %v", err)
		}
	}
	exec(t, s, "SET GLOBAL read_only = 0")
	expectOnce(t, s, applied(t, ordinary, u))
}

// cutter is a network that breaks off: the nth write from now is dropped, or passes and its answer does not.
type cutter struct {
	left   atomic.Int64 // writes until the cut; not positive: none
	answer atomic.Bool  // the cut is after the write and before its answer
	down   atomic.Bool  // nobody gets a new connection
}

// behind is a DSN of the same database whose connections the cutter can break, until the test ends.
func (c *cutter) behind(t *testing.T, dsn string) string {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	socket := cfg.Addr
	mysql.RegisterDialContext("cut", func(ctx context.Context, _ string) (net.Conn, error) {
		if c.down.Load() {
			return nil, errors.New("down")
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		return &cutConn{conn, c}, err
	})
	t.Cleanup(func() { mysql.DeregisterDialContext("cut") })
	cfg.Net = "cut"
	return cfg.FormatDSN()
}

type cutConn struct {
	net.Conn
	c *cutter
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.c.left.Load() > 0 && c.c.left.Add(-1) == 0 {
		n := 0
		if c.c.answer.Load() {
			n, _ = c.Conn.Write(b)
			// The server has done it when its answer is there to be read.
			if _, err := c.Conn.Read(make([]byte, 1)); err != nil {
				return n, err
			}
		}
		_ = c.Conn.Close()
		return n, errors.New("cut")
	}
	return c.Conn.Write(b)
}

// SyscallConn keeps the driver's check for dead connections working.
func (c *cutConn) SyscallConn() (syscall.RawConn, error) { return c.Conn.(syscall.Conn).SyscallConn() }

// Every step of a transaction may be the last that reaches the server, or the last it answers.
func TestCutAtEveryStep(t *testing.T) {
	base := open(t)
	exec(t, base, phishing)
	exec(t, base, "INSERT INTO phishing_log (url, ip, hits) VALUES ('there', '', 0)")
	var cut cutter
	s := openDSN(t, cut.behind(t, base.o.DSN))
	p := phishingPlan(t, s, insertSQL+updateSQL)

	seq, duplicates := uint64(0), 0
	for _, answer := range []bool{false, true} {
		for step := int64(1); ; step++ {
			seq++
			u := upload(p, "p1", seq, []any{fmt.Sprint(seq), "ip", int64(1)}, []any{"there", "ip", int64(seq)})
			v := upload(p, "p2", seq, []any{fmt.Sprint("v", seq), "ip", int64(1)})
			cut.answer.Store(answer)
			cut.left.Store(step)
			for i, o := range s.Apply(testContext(t), []*Upload{u, v}) {
				if o.Err != nil || o.Applied != uint64(2-i) {
					t.Fatalf("answer %v, step %d: %+v", answer, step, o)
				}
				if o.Duplicate {
					duplicates++
				}
			}
			if cut.left.Load() > 0 { // it took fewer steps than that
				cut.left.Store(0)
				break
			}
		}
	}
	if seq < 10 || duplicates == 0 {
		t.Errorf("%d cuts, %d of them told by the ledger: that is not every step", seq, duplicates)
	}
	equal(t, "rows", one(t, base, "SELECT COUNT(*) FROM phishing_log"), fmt.Sprint(2*seq+1))
	equal(t, "ledger", one(t, base, "SELECT COUNT(*) FROM sync_request"), fmt.Sprint(2*seq))
	equal(t, "last update", one(t, base, "SELECT hits FROM phishing_log WHERE url = 'there'"), fmt.Sprint(seq))
}

// The uploads of one call wait for a server that is gone together, not one after the other.
func TestGoneServerHoldsOnce(t *testing.T) {
	base := open(t)
	exec(t, base, phishing)
	var cut cutter
	const hold = 300 * time.Millisecond
	s := openDSN(t, cut.behind(t, base.o.DSN), func(o *Options) { o.MaxConns = 1 })
	s.outageWait = hold
	p := phishingPlan(t, s, insertSQL)
	us := make([]*Upload, 200)
	for i := range us {
		us[i] = upload(p, fmt.Sprint("p", i), 1, []any{fmt.Sprint(i), "ip", int64(1)})
	}
	cut.left.Store(1)
	cut.down.Store(true)
	began := time.Now()
	for _, o := range s.Apply(testContext(t), us) {
		if !errors.Is(o.Err, ErrUnavailable) {
			t.Fatalf("%+v", o)
		}
	}
	if took := time.Since(began); took < hold || took > 50*hold {
		t.Errorf("it took %v", took)
	}
	cut.down.Store(false)
	for _, o := range s.Apply(testContext(t), us) {
		if o.Err != nil || o.Applied != 1 {
			t.Fatalf("%+v", o)
		}
	}
}

// Points send until they are answered while the server is killed and comes back: every row is there, each once.
func TestServerKilledInMidBatch(t *testing.T) {
	server := localdbtest.Server(t, localdb.Options{Durable: true})
	if err := server.CreateDatabase(testContext(t), "kill"); err != nil {
		t.Fatal(err)
	}
	s := openDSN(t, server.DSN("kill"))
	s.outageWait = 50 * time.Millisecond
	exec(t, s, "CREATE TABLE counted (id VARCHAR(20) PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB")
	p := planOf(t, s, uploadRule("counted", "", "",
		"-- downside: insert\nINSERT INTO counted (id, n) VALUES (:id, :n) ON DUPLICATE KEY UPDATE n = n + 1\n"))

	const points, requests, rows, kills = 4, 30, 20, 1
	ctx := testContext(t)
	var done atomic.Int64
	var wait sync.WaitGroup
	for point := range points {
		wait.Go(func() {
			for seq := range uint64(requests) {
				var values [][]any
				for i := range rows {
					values = append(values, []any{fmt.Sprint(point, "-", seq, "-", i), int64(1)})
				}
				u := upload(p, fmt.Sprint("p", point), seq+1, values...)
				for {
					o := s.Apply(ctx, []*Upload{u})[0]
					if o.Err == nil {
						break
					}
					if !errors.Is(o.Err, ErrUnavailable) {
						t.Errorf("%v", o.Err)
						return
					}
				}
				done.Add(1)
			}
		})
	}
	for kill := range kills {
		for done.Load() < int64((kill+1)*points*requests/(kills+1)) && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // the count can only be looked at again
		}
		pid := server.PID()
		if pid == 0 {
			t.Error("the server is not running")
			break
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	wait.Wait()
	for ctx.Err() == nil && s.db.PingContext(ctx) != nil {
		time.Sleep(time.Millisecond) // the last kill may have come after the last upload
	}
	equal(t, "rows, each once", one(t, s, "SELECT CONCAT(COUNT(*), ' ', SUM(n)) FROM counted"),
		fmt.Sprintf("%d %[1]d", points*requests*rows))
	equal(t, "ledger", one(t, s, "SELECT COUNT(*) FROM sync_request"), fmt.Sprint(points*requests))
}

func TestServerThatIsNotThere(t *testing.T) {
	_, err := Open(testContext(t), Options{DSN: "root@unix(/nonexistent/db.sock)/x"})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "/nonexistent/db.sock") {
		t.Errorf("got %v", err)
	}
}

// Whether an error is the row's, the statement's or the server's decides what happens to an acknowledged row.
func TestKindOf(t *testing.T) {
	my := func(number uint16, state, message string) error {
		e := &mysql.MySQLError{Number: number, Message: message}
		copy(e.SQLState[:], state)
		return fmt.Errorf("in a batch: %w", e)
	}
	for _, tt := range []struct {
		err  error
		want kind
	}{
		{nil, kindNone},
		{my(1062, "23000", ""), kindRow},
		{my(1452, "23000", ""), kindRow},
		{my(1406, "22001", ""), kindRow},
		{my(4025, "23000", ""), kindRow},
		{my(9999, "22999", ""), kindRow}, // an unknown number of a known class
		{my(1644, "45000", ""), kindRow},
		{my(1105, "HY000", "longer than 'max_long_data_size' bytes"), kindRow},
		{my(1105, "HY000", "something else"), kindSQL},
		{my(1064, "42000", ""), kindSQL},
		{my(1146, "42S02", ""), kindSQL},
		{my(1142, "42000", ""), kindSQL},
		{my(1213, "40001", ""), kindRetry},
		{my(1205, "HY000", ""), kindRetry},
		{my(1290, "HY000", "running with the --read-only option"), kindReadOnly},
		{my(1290, "HY000", "running with the --secure-file-priv option"), kindSQL},
		{my(1836, "HY000", ""), kindReadOnly},
		{my(1053, "08S01", ""), kindLost},
		{my(1040, "08004", ""), kindLost},
		{mysql.ErrInvalidConn, kindLost},
		{mysql.ErrPktTooLarge, kindRow},
		{errors.New("read: connection reset by peer"), kindLost},
		{context.Canceled, kindNotFromDB},
		{&RowError{}, kindNotFromDB},
		{notFromDB(errors.New("a sink's")), kindNotFromDB},
		{fmt.Errorf("%w: too few columns", ErrMismatch), kindNotFromDB},
	} {
		equal(t, fmt.Sprint(tt.err), kindOf(tt.err), tt.want)
	}
}
