package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

const timed = "update_time DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), " +
	"KEY (update_time)"

// follower reads a table by time, as an agent does.
type follower struct {
	t     testing.TB
	s     *Store
	plan  *rule.Plan
	env   rule.Env
	times map[string]int // how often a version of a row has come: its first two fields
	last  map[string]string
}

// follow makes a follower of a table whose rows are a key, a value, and the time.
func follow(t testing.TB, s *Store, table, options string) *follower {
	t.Helper()
	s.boundEvery, s.lateEvery = 50*time.Millisecond, 100*time.Millisecond
	plan := planOf(t, s, rule.Row{ID: 9, Table: table, Type: rule.Upload, User: rule.Client, SQL: options})
	if plan.Mark == nil {
		t.Fatalf("%s is not read by time", table)
	}
	return &follower{t: t, s: s, plan: plan, times: map[string]int{}, last: map[string]string{}}
}

func (f *follower) Begin(int, []rowset.Column) error { return nil }

func (f *follower) Row(values []any) error {
	key, version := fmt.Sprint(values[0]), fmt.Sprint(values[:2])
	f.times[version]++
	f.last[key] = version
	return nil
}

func (f *follower) read() {
	f.t.Helper()
	page, err := f.s.Read(testContext(f.t), f.plan, f.env, f)
	if err != nil {
		f.t.Fatal(err)
	}
	f.env.State = page.State
}

// until reads until the keys that have come are those of want, in order.
func (f *follower) until(want string) {
	f.t.Helper()
	end := time.Now().Add(20 * time.Second)
	for {
		f.read()
		got := strings.Join(slices.Sorted(maps.Keys(f.last)), " ")
		if got == want {
			return
		}
		if time.Now().After(end) {
			f.t.Fatalf("rows %q have come, not %q; state %v", got, want, f.env.State)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// once fails when some version of a row came more than once.
func (f *follower) once() {
	f.t.Helper()
	for version, n := range f.times {
		if n > 1 {
			f.t.Errorf("%s has come %d times", version, n)
		}
	}
}

// session is a connection of an application, in the server's zone.
func session(t testing.TB, s *Store) *sql.Conn {
	t.Helper()
	c, err := s.db.Conn(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	on(t, c, "SET time_zone = @@global.time_zone, lock_wait_timeout = 60, innodb_lock_wait_timeout = 60")
	return c
}

func on(t testing.TB, c *sql.Conn, q string) {
	t.Helper()
	if _, err := c.ExecContext(testContext(t), q); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// The first read goes by key, can stop anywhere, and is followed by what has changed since it began.
func TestLoadByKeyThenByTime(t *testing.T) {
	for _, kind := range []string{"DATETIME(6)", "DATETIME", "TIMESTAMP(3)"} {
		t.Run(kind, func(t *testing.T) {
			s := open(t)
			digits := strings.TrimLeft(kind, "DATEIMSP")
			now := "CURRENT_TIMESTAMP" + digits
			exec(t, s, "CREATE TABLE goods (b INT, v INT, a VARCHAR(10), at "+kind+" NOT NULL DEFAULT "+
				now+" ON UPDATE "+now+
				", PRIMARY KEY (a, b), KEY (at)) ENGINE = InnoDB")
			exec(t, s, "INSERT INTO goods (a, b, v, at) SELECT seq MOD 3, seq, 0, '2026-01-01 00:00:00' "+
				"+ INTERVAL 10 - seq SECOND FROM seq_1_to_10")
			f := follow(t, s, "goods", "-- option: lag 0s\n-- option: watermark at\n-- option: where v >= 0")
			f.env.Limit = 3
			for stop := 1; ; stop++ {
				sink := &collect{row: func(n int) error {
					if n == stop {
						return ErrEnough
					}
					return nil
				}}
				page, err := s.Read(testContext(t), f.plan, f.env, sink)
				if err != nil {
					t.Fatal(err)
				}
				for _, row := range sink.rows {
					if err := f.Row(row); err != nil {
						t.Fatal(err)
					}
				}
				if f.env.State = page.State; stop == 1 {
					exec(t, s, "UPDATE goods SET v = 1 WHERE b = 10") // while the table is being loaded
				}
				if !page.More {
					break
				}
			}
			f.until("1 10 2 3 4 5 6 7 8 9")
			for f.last["10"] != "[10 1]" {
				f.read()
			}
			exec(t, s, "INSERT INTO goods (a, b, v) VALUES ('x', 11, 0), ('y', 12, -1)")
			f.until("1 10 11 2 3 4 5 6 7 8 9")
			f.once()
		})
	}
}

// A row arrives once, however long its transaction is open, its statement runs or waits.
func TestBoundWaitsForWriters(t *testing.T) {
	for name, write := range map[string]func(t testing.TB, s *Store, c *sql.Conn) (finish func()){
		"an open transaction": func(t testing.TB, s *Store, c *sql.Conn) func() {
			on(t, c, "START TRANSACTION")
			on(t, c, "INSERT INTO goods (id, v) VALUES (1, 1)")
			return func() { on(t, c, "COMMIT") }
		},
		"a statement that waits for a row": func(t testing.TB, s *Store, c *sql.Conn) func() {
			holder, done := session(t, s), make(chan struct{})
			on(t, holder, "START TRANSACTION")
			on(t, holder, "SELECT * FROM goods WHERE id = 0 FOR UPDATE")
			go func() { defer close(done); on(t, c, "INSERT INTO goods (id, v) VALUES (1, 1), (0, 7)"+upsert) }()
			waitFor(t, s, "INSERT INTO goods (id, v) VALUES (1, 1), (0, 7)%")
			return func() { on(t, holder, "COMMIT"); <-done }
		},
		"a statement that waits for the table": func(t testing.TB, s *Store, c *sql.Conn) func() {
			holder, done := session(t, s), make(chan struct{})
			on(t, holder, "LOCK TABLES goods READ")
			go func() { defer close(done); on(t, c, "INSERT INTO goods (id, v) VALUES (1, 1)") }()
			waitFor(t, s, "INSERT INTO goods (id, v) VALUES (1, 1)%")
			return func() { on(t, holder, "UNLOCK TABLES"); <-done }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			exec(t, s, "CREATE TABLE goods (id INT PRIMARY KEY, v INT, "+timed+") ENGINE = InnoDB")
			exec(t, s, "INSERT INTO goods (id, v) VALUES (0, 0)")
			f := follow(t, s, "goods", "-- option: lag 0s")
			f.until("0")
			finish := write(t, s, session(t, s))
			for range 20 { // the readers must not pass the row meanwhile
				f.read()
				time.Sleep(20 * time.Millisecond)
			}
			if _, early := f.last["1"]; early {
				t.Fatal("a row came before it was committed")
			}
			finish()
			exec(t, s, "INSERT INTO goods (id, v) VALUES (2, 2)")
			f.until("0 1 2")
			f.once()
			equal(t, "late rows", one(t, s, "SELECT COUNT(*) FROM sync_reread"), "0")
		})
	}
}

const upsert = " ON DUPLICATE KEY UPDATE v = VALUES(v)"

func waitFor(t testing.TB, s *Store, statement string) {
	t.Helper()
	for one(t, s, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE ? AND state LIKE '%'",
		statement) == "0" {
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
}

// Rows that get a time which has been read already come once all the same, and everybody who reads the table gets them.
func TestLateRows(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (id INT PRIMARY KEY, v INT, "+timed+") ENGINE = InnoDB")
	exec(t, s, "INSERT INTO goods (id, v, update_time) SELECT seq, 0, NOW(6) - INTERVAL seq HOUR FROM seq_1_to_9")
	var events sync.Map
	s.Observe(func(e Event) { events.Store(e.Metric.Name, e.Err) })
	f, other := follow(t, s, "goods", "-- option: lag 0s"), follow(t, s, "goods", "-- option: lag 0s")
	f.until("1 2 3 4 5 6 7 8 9")
	other.until("1 2 3 4 5 6 7 8 9")
	late := func(id, hours int) {
		exec(t, s, "INSERT INTO goods (id, v, update_time) VALUES (?, 1, NOW(6) - INTERVAL ? HOUR)", id, hours)
	}
	late(10, 2)
	late(11, 200)
	exec(t, s, "UPDATE goods SET v = 1, update_time = update_time - INTERVAL 1 SECOND WHERE id = 5")
	f.until("1 10 11 2 3 4 5 6 7 8 9")
	for f.last["5"] != "[5 1]" {
		f.read()
	}
	other.until("1 10 11 2 3 4 5 6 7 8 9")
	f.once()
	other.once()
	if _, ok := events.Load(rowsLate.Name); !ok {
		t.Error("nothing was said about late rows")
	}
	late(12, 2) // while a reader is away, whose process starts again
	f.until("1 10 11 12 2 3 4 5 6 7 8 9")
	again := openDSN(t, s.o.DSN)
	other.s = again
	other.until("1 10 11 12 2 3 4 5 6 7 8 9")
	other.once()
}

// A reader was left ahead of the database's clock, which has gone back meanwhile.
func TestReaderAheadOfTheClock(t *testing.T) {
	s := open(t)
	for _, ahead := range []string{"10", "3600", "86400"} {
		table := "goods_" + ahead
		exec(t, s, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v INT, "+timed+") ENGINE = InnoDB")
		exec(t, s, "INSERT INTO "+table+" (id, v) VALUES (1, 1)")
		var said error
		s.Observe(func(e Event) { said = errors.Join(said, e.Err) })
		f := follow(t, s, table, "-- option: lag 0s")
		f.env.State = []rowset.StateItem{{Name: "update_time",
			Value: one(t, s, "SELECT NOW(6) + INTERVAL "+ahead+" SECOND")},
			{Name: "id", Value: int64(0)}, number(rereadDone, 0)}
		f.until("1")
		exec(t, s, "INSERT INTO "+table+" (id, v) VALUES (2, 2)")
		f.until("1 2")
		if said == nil {
			t.Errorf("%s s: nothing was said", ahead)
		}
	}
}

// A row that changes all the time comes now and then, and its last version comes.
func TestRowThatKeepsChanging(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (id INT PRIMARY KEY, v INT, "+timed+") ENGINE = InnoDB")
	exec(t, s, "INSERT INTO goods (id, v) VALUES (1, 0)")
	f := follow(t, s, "goods", "-- option: lag 2s")
	ctx, stop := context.WithCancel(testContext(t))
	var writer sync.WaitGroup
	writer.Go(func() {
		for v := 1; ctx.Err() == nil; v++ {
			exec(t, s, "UPDATE goods SET v = ?", v)
			time.Sleep(10 * time.Millisecond)
		}
	})
	f.until("1")
	first := f.last["1"]
	for f.last["1"] == first {
		f.read()
	}
	stop()
	writer.Wait()
	last := "[1 " + one(t, s, "SELECT v FROM goods") + "]"
	for f.last["1"] != last {
		f.read()
	}
}

// An account that may not see the transactions of others reads behind the lag, and the rule says what that misses.
func TestWithoutProcess(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (id INT PRIMARY KEY, v INT, "+timed+") ENGINE = InnoDB")
	exec(t, s, "CREATE USER IF NOT EXISTS poor@localhost")
	exec(t, s, "GRANT ALL ON "+one(t, s, "SELECT DATABASE()")+".* TO poor@localhost")
	poor := openDSN(t, "poor@"+s.o.DSN[strings.Index(s.o.DSN, "@")+1:])
	table, err := poor.Table(testContext(t), "goods")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "unseen", table.Unseen, true)
	sees, err := s.SeesTransactions(testContext(t))
	if err != nil || !sees {
		t.Errorf("the owner sees transactions: %v, %v", sees, err)
	}
	_, found := rule.Compile(rule.Row{ID: 1, Table: "goods", Type: rule.Upload, User: rule.Client, PointNo: "*",
		Enabled: true}, table)
	if worst, _ := rule.Worst(found); worst != rule.Warning || found[0].Code != rule.UnseenTransactions {
		t.Errorf("found %v", found)
	}
	f := follow(t, poor, "goods", "-- option: lag 0s")
	exec(t, s, "INSERT INTO goods (id, v) VALUES (1, 1)")
	f.until("1")
}

// Writers of every kind; each version that stays arrives, and none twice.
func TestWritersAtRandom(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (id INT PRIMARY KEY, v INT, "+timed+") ENGINE = InnoDB")
	f, behind := follow(t, s, "goods", "-- option: lag 1s"), follow(t, s, "goods", "-- option: lag 1s")
	behind.env.Limit = 7
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	stop := time.Now().Add(5 * time.Second)
	var writers sync.WaitGroup
	for w := range 5 {
		c, random := session(t, s), rand.New(rand.NewPCG(seed, uint64(w)))
		writers.Go(func() {
			for v := 0; time.Now().Before(stop); v++ {
				id := w*1000 + random.IntN(40)
				on(t, c, "START TRANSACTION")
				on(t, c, fmt.Sprintf("INSERT INTO goods (id, v) SELECT %d, %d%s", id, w*100000+v, upsert))
				switch random.IntN(8) {
				case 0:
					time.Sleep(time.Duration(random.IntN(2500)) * time.Millisecond)
				case 1:
					on(t, c, fmt.Sprintf("UPDATE goods SET v = v + SLEEP(%d) WHERE id = %d", random.IntN(2), id))
				case 2:
					on(t, c, fmt.Sprintf("UPDATE goods SET update_time = update_time - INTERVAL 30 SECOND, "+
						"v = v + 50000 WHERE id = %d", id))
				}
				if random.IntN(5) == 0 {
					on(t, c, "ROLLBACK")
				} else {
					on(t, c, "COMMIT")
				}
				time.Sleep(time.Duration(random.IntN(50)) * time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		f.read()
		if rand.IntN(20) == 0 {
			behind.read()
		}
		time.Sleep(10 * time.Millisecond)
	}
	want := map[string]string{}
	err := s.each(testContext(t), "SELECT id, v FROM goods", func(scan func(...any) error) error {
		var id, v string
		err := scan(&id, &v)
		want[id] = "[" + id + " " + v + "]"
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*follower{f, behind} {
		for end := time.Now().Add(15 * time.Second); !maps.Equal(f.last, want); {
			if f.read(); time.Now().After(end) {
				for id, w := range want {
					if f.last[id] != w {
						t.Errorf("row %s: got %s, want %s", id, f.last[id], w)
					}
				}
				t.FailNow()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// A read gives up a table that another session has locked, and says who may hold it. Other tables are read meanwhile.
func TestLockedTable(t *testing.T) {
	s := open(t)
	for _, table := range []string{"a", "b"} {
		exec(t, s, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v INT, "+timed+") ENGINE = InnoDB")
		exec(t, s, "INSERT INTO "+table+" (id, v) VALUES (1, 1)")
	}
	a, b := follow(t, s, "a", "-- option: lag 0s"), follow(t, s, "b", "-- option: lag 0s")
	holder, writer := session(t, s), session(t, s)
	on(t, holder, "LOCK TABLES a WRITE")
	written := make(chan struct{})
	go func() { defer close(written); on(t, writer, "INSERT INTO a (id, v) VALUES (2, 2)") }()
	waitFor(t, s, "INSERT INTO a %")
	exec(t, s, "INSERT INTO b (id, v) VALUES (2, 2)")
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Read(testContext(t), a.plan, a.env, a)
		waiting <- err
	}()
	waitFor(t, s, "select%from `a`%")
	b.until("1 2")
	select {
	case err := <-waiting:
		t.Fatalf("the read of a locked table ended: %v", err)
	default:
	}
	if err := <-waiting; !errors.Is(err, ErrRetry) || !strings.Contains(err.Error(), "table a ") {
		t.Errorf("the read of a locked table: %v", err)
	}
	on(t, holder, "UNLOCK TABLES")
	<-written
	a.until("1 2")
}
