package store

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

func changeTable(t testing.TB, s *Store, name string) *ChangeTable {
	t.Helper()
	table, err := s.Table(testContext(t), name)
	if err != nil {
		t.Fatal(err)
	}
	ct, err := s.ChangeTable(testContext(t), table)
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

// recorded is a table whose changes are recorded.
func recorded(t testing.TB, s *Store, name string) *ChangeTable {
	t.Helper()
	ct := changeTable(t, s, name)
	if err := s.InitChanges(testContext(t), ct); err != nil {
		t.Fatal(err)
	}
	if faults, err := s.Faults(testContext(t), ct); err != nil || len(faults) > 0 {
		t.Fatalf("faults of %s: %v, %v\n%s", name, faults, err, strings.Join(ct.SQL(), ";\n"))
	}
	return ct
}

func sequenced(t testing.TB, s *Store, ct *ChangeTable) (p position) {
	t.Helper()
	err := s.withConn(testContext(t), func(c *conn) (err error) {
		plan := rule.Plan{Recorded: &ct.Changes}
		for _, k := range ct.key {
			plan.Key = append(plan.Key, k)
		}
		p, err = sequence(testContext(t), c, &plan)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func feedOf(t testing.TB, s *Store, ct *ChangeTable) string {
	t.Helper()
	return one(t, s, "SELECT GROUP_CONCAT(sync_seq, ':', CONCAT_WS('/', "+ct.keys("")+
		") ORDER BY sync_seq SEPARATOR ' ') FROM "+ct.Name)
}

// Every kind of change leaves its key, a transaction that is open is numbered when it is committed, and what is rolled
// back never is.
func TestChangesAreNumberedAfterTheirCommit(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (a INT, b VARCHAR(20), n INT, PRIMARY KEY (a, b)) ENGINE = InnoDB")
	ct := recorded(t, s, "goods")
	exec(t, s, "INSERT INTO goods VALUES (1, 'x', 1), (2, 'y', 1), (3, 'z', 1)")
	equal(t, "highest number", sequenced(t, s, ct).upTo, 3)

	begin := func() *sql.Tx {
		tx, err := s.db.BeginTx(testContext(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	in := func(tx *sql.Tx, q string) {
		if _, err := tx.ExecContext(testContext(t), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	open, undone := begin(), begin()
	in(open, "UPDATE goods SET n = 2 WHERE a = 1")
	in(undone, "DELETE FROM goods WHERE a = 2")
	exec(t, s, "DELETE FROM goods WHERE a = 3")
	exec(t, s, "INSERT INTO goods VALUES (4, 'w', 1)")
	p := sequenced(t, s, ct)
	equal(t, "highest number while two are open", p.upTo, 5)
	equal(t, "more", p.more, false)
	if err := errors.Join(open.Commit(), undone.Rollback()); err != nil {
		t.Fatal(err)
	}
	equal(t, "highest number after the commit", sequenced(t, s, ct).upTo, 6)
	exec(t, s, "UPDATE goods SET b = 'moved' WHERE a = 4")
	exec(t, s, "UPDATE goods SET b = 'MOVED' WHERE a = 4") // the same key to its collation
	equal(t, "highest number after the key has changed", sequenced(t, s, ct).upTo, 8)
	equal(t, "feed", feedOf(t, s, ct), "2:2/y 4:3/z 6:1/x 7:4/moved 8:4/w")
}

// The origin of a change is the session's, and its time too when the session says so.
func TestChangesKeepTheirOrigin(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (a INT PRIMARY KEY) ENGINE = InnoDB")
	ct := recorded(t, s, "goods")
	err := s.withConn(testContext(t), func(c *conn) error {
		return errors.Join(
			c.text(testContext(t), "SET @sync_origin = 'point-01', @sync_at = '2026-01-02 03:04:05.678'"),
			c.text(testContext(t), "INSERT INTO goods VALUES (1)"),
			c.text(testContext(t), "SET @sync_origin = NULL, @sync_at = NULL"))
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "origin", one(t, s, "SELECT CONCAT(sync_origin, ' ', sync_at) FROM "+ct.Name),
		"point-01 2026-01-02 03:04:05.678000")
	exec(t, s, "DELETE FROM goods")
	equal(t, "origin of the next", one(t, s, "SELECT sync_origin IS NULL FROM "+ct.Name), "1")
}

// A change table takes every key that InnoDB takes.
func TestChangeTableOfEveryKey(t *testing.T) {
	s := open(t)
	long := strings.Repeat("n", maxName)
	exec(t, s, "CREATE DATABASE `other db`")
	t.Cleanup(func() { _, _ = s.db.Exec("DROP DATABASE `other db`") })
	for i, tt := range []struct{ name, columns, values string }{
		{"", "k TINYINT PRIMARY KEY", "(-128)"},
		{"", "k BIGINT UNSIGNED PRIMARY KEY", "(18446744073709551615)"},
		{"", "k DECIMAL(65,30) PRIMARY KEY", "(0.000000000000000000000000000001)"},
		{"", "k FLOAT PRIMARY KEY", "(0.1)"},
		{"", "k DOUBLE PRIMARY KEY", "(1e-320)"},
		{"", "k DATETIME(6) PRIMARY KEY", "('2026-03-29 02:30:00.000001')"},
		{"", "k TIMESTAMP(3) PRIMARY KEY", "('2026-03-29 02:30:00.001')"},
		{"", "k TIME(2) PRIMARY KEY", "('-838:59:59.00')"},
		{"", "k YEAR PRIMARY KEY", "(1901)"},
		{"", "k BIT(17) PRIMARY KEY", "(b'10101')"},
		{"", "k ENUM('b', 'a''s', '') PRIMARY KEY", "('a''s')"},
		{"", "k SET('x', 'y') PRIMARY KEY", "('x,y')"},
		{"", "k BINARY(16) PRIMARY KEY", "(x'00ff')"},
		{"", "k VARBINARY(3072) PRIMARY KEY", "(repeat('k', 3072))"},
		{"", "k VARCHAR(768) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci PRIMARY KEY", "(repeat('ß', 768))"},
		{"", "k VARCHAR(10) CHARACTER SET latin1 COLLATE latin1_german2_ci PRIMARY KEY", "('ü')"},
		{"", "a INT, b CHAR(3) COLLATE utf8mb4_bin, c DATE, PRIMARY KEY (c, a, b)", "(1, 'x', '2026-01-01')"},
		{"", "`odd ``name` INT PRIMARY KEY", "(1)"},
		{long, "k INT PRIMARY KEY", "(1)"},
		{"it's `odd`", "k INT PRIMARY KEY", "(1)"},
		{"other db.goods", "k INT PRIMARY KEY", "(1)"},
	} {
		if tt.name == "" {
			tt.name = fmt.Sprintf("keys_%d", i)
		}
		table := rule.Quote(tt.name)
		if schema, name, ok := strings.Cut(tt.name, "."); ok {
			table = rule.Quote(schema) + "." + rule.Quote(name)
		}
		exec(t, s, "CREATE TABLE "+table+" ("+tt.columns+") ENGINE = InnoDB CHARACTER SET utf8mb4")
		ct := recorded(t, s, tt.name)
		exec(t, s, "INSERT INTO "+table+" VALUES "+tt.values)
		equal(t, tt.columns, sequenced(t, s, ct).upTo, 1)
		on := make([]string, len(ct.key))
		for i, k := range ct.key {
			on[i] = "f." + rule.Quote(k) + " = t." + rule.Quote(k)
		}
		equal(t, tt.columns+": joined", one(t, s, "SELECT COUNT(*) FROM "+ct.Name+" f JOIN "+table+" t ON "+
			strings.Join(on, " AND ")), "1")
		if err := s.DropChanges(testContext(t), ct); err != nil {
			t.Error(err)
		}
		exec(t, s, "DELETE FROM "+table)
		exec(t, s, "DROP TABLE "+table)
	}
	for _, columns := range []string{"k INT", "k TEXT, PRIMARY KEY (k(10))", "sync_seq INT PRIMARY KEY"} {
		exec(t, s, "CREATE TABLE unfit ("+columns+") ENGINE = InnoDB")
		var refused *ChangesError
		table, err := s.Table(testContext(t), "unfit")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ChangeTable(testContext(t), table); !errors.As(err, &refused) {
			t.Errorf("%s: %v", columns, err)
		}
		exec(t, s, "DROP TABLE unfit")
	}
}

// Whatever becomes of the change table, the application's statement succeeds, the fault is found, and readers are told
// to load the table anew.
func TestChangesThatCannotBeRecorded(t *testing.T) {
	for name, tt := range map[string]struct{ breaks, mends, fault string }{
		"dropped": {"DROP TABLE sync_change_goods", "", "there is no change table"},
		"locked away": {"RENAME TABLE sync_change_goods TO elsewhere", "RENAME TABLE elsewhere TO sync_change_goods",
			""},
		"column dropped": {"ALTER TABLE sync_change_goods DROP sync_at",
			"ALTER TABLE sync_change_goods ADD sync_at TIMESTAMP(6) NOT NULL DEFAULT NOW(6)", ""},
		"key altered":  {"ALTER TABLE goods MODIFY a BIGINT", "", "another key"},
		"trigger gone": {"DROP TRIGGER sync_change_d_goods", "", "there is no trigger"},
		"trigger other": {"CREATE OR REPLACE TRIGGER sync_change_i_goods AFTER INSERT ON goods FOR EACH ROW DO 1", "",
			"is not the one"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			exec(t, s, "CREATE TABLE goods (a INT PRIMARY KEY) ENGINE = InnoDB")
			ct := recorded(t, s, "goods")
			exec(t, s, "INSERT INTO goods VALUES (1)")
			before := sequenced(t, s, ct)
			exec(t, s, tt.breaks)
			exec(t, s, "INSERT INTO goods VALUES (2)")
			exec(t, s, "UPDATE goods SET a = 3 WHERE a = 2")
			exec(t, s, "DELETE FROM goods WHERE a = 1")
			ct = changeTable(t, s, "goods")
			if tt.mends != "" {
				exec(t, s, tt.mends)
			} else {
				faults, err := s.Faults(testContext(t), ct)
				if err != nil || len(faults) == 0 || !strings.Contains(strings.Join(faults, "; "), tt.fault) {
					t.Errorf("faults: %v, %v", faults, err)
				}
				recorded(t, s, "goods")
			}
			after := sequenced(t, s, ct)
			if after.completeFrom <= before.upTo || after.upTo < after.completeFrom {
				t.Errorf("a reader at %d is not told to load anew: %+v", before.upTo, after)
			}
			equal(t, "asked again", sequenced(t, s, ct), after)
			exec(t, s, "INSERT INTO goods VALUES (4)")
			equal(t, "the next change", sequenced(t, s, ct).upTo, after.upTo+1)
		})
	}
}

// What is recorded already is left alone, so that no reader loads anew for nothing.
func TestInitChangesTwice(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (a INT PRIMARY KEY) ENGINE = InnoDB")
	ct := recorded(t, s, "goods")
	exec(t, s, "INSERT INTO goods VALUES (1)")
	before := sequenced(t, s, ct)
	recorded(t, s, "goods")
	equal(t, "position", sequenced(t, s, ct), before)
}

// changesPlan compiles a rule that reads or applies the changes of a table.
func changesPlan(t testing.TB, s *Store, r rule.Row) *rule.Plan {
	t.Helper()
	table, err := s.Table(testContext(t), r.Table)
	if err != nil {
		t.Fatal(err)
	}
	r.Enabled, r.PointNo = true, rule.AnyPoint
	p, found := rule.Compile(r, table)
	if p == nil {
		t.Fatalf("%v", found)
	}
	return p
}

// feed carries the changes of a table from one database to another, one page at a time.
type feed struct {
	from, to         *Store
	upside, downside *rule.Plan
	state            []rowset.StateItem
	seq              uint64
	rows             int
}

func (f *feed) page(t testing.TB) (more bool) {
	t.Helper()
	c := &collect{}
	page, err := f.from.Read(testContext(t), f.upside, rule.Env{State: f.state, Origin: "*", Limit: 50}, c)
	if err != nil {
		t.Fatal(err)
	}
	if f.state = page.State; len(c.rows) == 0 {
		return page.More
	}
	f.seq++
	f.rows += len(c.rows)
	u := upload(f.downside, "point-01", f.seq, c.rows...)
	for _, col := range c.cols {
		u.Rows.Columns = append(u.Rows.Columns, col.Name)
	}
	if o := applied(t, f.to, u); len(o.Quarantined) > 0 {
		t.Fatalf("quarantined: %+v", o.Quarantined)
	}
	return page.More
}

// A copy that is fed while transactions insert, update, delete, move keys, stay open and roll back is equal when they
// have ended.
func TestFeedMakesAnEqualCopy(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	from, to := open(t), open(t)
	const create = "CREATE TABLE goods (a INT, b VARCHAR(20), n INT, amount DECIMAL(20,6), PRIMARY KEY (a, b)) " +
		"ENGINE = InnoDB"
	exec(t, from, create)
	exec(t, to, create)
	exec(t, from, "INSERT INTO goods SELECT seq, 'old', seq, seq / 3 FROM seq_1_to_500")
	recorded(t, from, "goods")
	f := &feed{from: from, to: to,
		upside: changesPlan(t, from, rule.Row{ID: 1, Table: "goods", Type: rule.Upload, User: rule.Client,
			SQL: "-- option: changes"}),
		downside: changesPlan(t, to, rule.Row{ID: 2, Table: "goods", Type: rule.Upload, User: rule.Server})}
	var writers sync.WaitGroup
	end := time.Now().Add(2 * time.Second)
	for w := range 4 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for time.Now().Before(end) {
				churn(t, from, rnd)
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		f.page(t)
	}
	for f.page(t) {
	}
	const all = "SELECT COALESCE(GROUP_CONCAT(CONCAT_WS(',', a, b, n, amount) ORDER BY a, b SEPARATOR '\n'), '') " +
		"FROM goods"
	if diff := cmp.Diff(strings.Split(one(t, from, all), "\n"), strings.Split(one(t, to, all), "\n")); diff != "" {
		t.Errorf("the table (-) and its copy (+) are not equal:\n%s", diff)
	}
	t.Logf("%d rows carried", f.rows)
}

// churn is one transaction of an application.
func churn(t testing.TB, s *Store, rnd *rand.Rand) {
	tx, err := s.db.BeginTx(testContext(t), nil)
	if err != nil {
		t.Error(err)
		return
	}
	for range 1 + rnd.IntN(4) {
		a, b := rnd.IntN(600), []string{"old", "new", "OLD"}[rnd.IntN(3)]
		switch rnd.IntN(5) {
		case 0:
			_, err = tx.Exec("DELETE FROM goods WHERE a = ?", a)
		case 1:
			_, err = tx.Exec("UPDATE IGNORE goods SET b = ?, a = a + ? WHERE a = ?", b, rnd.IntN(2), a)
		case 2:
			_, err = tx.Exec("REPLACE INTO goods VALUES (?, ?, ?, ?)", a, b, rnd.IntN(1000), "1.5")
		default:
			_, err = tx.Exec("INSERT INTO goods VALUES (?, ?, ?, 0.000001) ON DUPLICATE KEY UPDATE n = VALUES(n)", a, b,
				rnd.IntN(1000))
		}
		if err != nil { // a deadlock of the application's own
			break
		}
	}
	if rnd.IntN(10) == 0 {
		time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond) // it stays open
	}
	if err != nil || rnd.IntN(5) == 0 {
		_ = tx.Rollback()
		return
	}
	_ = tx.Commit() // what it says of itself does not matter: the tables are compared
}

// What a point sent does not go back to it, and goes to every other point; what somebody else changes goes to all.
func TestChangesDoNotGoBack(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (a INT PRIMARY KEY, n INT) ENGINE = InnoDB")
	recorded(t, s, "goods")
	down := changesPlan(t, s, rule.Row{ID: 1, Table: "goods", Type: rule.Upload, User: rule.Server})
	read := changesPlan(t, s, rule.Row{ID: 2, Table: "goods", Type: rule.Download, User: rule.Server,
		SQL: "-- option: changes"})
	state := []rowset.StateItem{{Name: rowset.ChangeSeq, Value: int64(0)}}
	seen := func(point string) (keys string) {
		c := &collect{}
		if _, err := s.Read(testContext(t), read, rule.Env{State: state, Point: point, Origin: point}, c); err != nil {
			t.Fatal(err)
		}
		for _, row := range c.rows {
			keys += fmt.Sprint(row[0], " ")
		}
		return keys
	}
	var both []*Upload
	for i, point := range []string{"point-01", "point-02"} {
		u := upload(down, point, 1, []any{int64(i + 1), int64(7)})
		u.Env.Origin = point
		both = append(both, u)
	}
	for _, o := range s.Apply(testContext(t), both) { // they may share a transaction
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	application := openDSN(t, s.o.DSN) // its sessions have no origin
	exec(t, application, "INSERT INTO goods VALUES (3, 7)")
	equal(t, "point-01", seen("point-01"), "2 3 ")
	equal(t, "point-02", seen("point-02"), "1 3 ")
	equal(t, "point-03", seen("point-03"), "1 2 3 ")
	exec(t, application, "UPDATE goods SET n = 8 WHERE a = 1")
	equal(t, "point-01 after an edit at the centre", seen("point-01"), "2 3 1 ")
}

// A delete is kept until every reader has passed it. A reader that comes later than that loads the table anew.
func TestDeletesAreForgottenWhenAllHavePassed(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (a INT PRIMARY KEY) ENGINE = InnoDB")
	recorded(t, s, "goods")
	read := changesPlan(t, s, rule.Row{ID: 1, Table: "goods", Type: rule.Download, User: rule.Server,
		SQL: "-- option: changes"})
	states := map[string][]rowset.StateItem{}
	reads := func(point string) (rows int) {
		for more := true; more; {
			c := &collect{}
			page, err := s.Read(testContext(t), read, rule.Env{State: states[point], Point: point, Origin: point}, c)
			if err != nil {
				t.Fatal(err)
			}
			states[point], more, rows = page.State, page.More, rows+len(c.rows)
		}
		return rows
	}
	purged := func() string {
		t.Helper()
		if err := s.purgeChanges(testContext(t)); err != nil {
			t.Fatal(err)
		}
		return one(t, s, "SELECT CONCAT((SELECT COUNT(*) FROM sync_change_goods), ' ', complete_from) "+
			"FROM sync_sequence")
	}
	exec(t, s, "INSERT INTO goods VALUES (1), (2), (3)")
	equal(t, "first load", reads("point-01")+reads("point-02"), 6)
	exec(t, s, "DELETE FROM goods WHERE a = 2")
	equal(t, "the delete", reads("point-01"), 1)
	equal(t, "kept for point-02", purged(), "3 3")
	reads("point-01")
	equal(t, "the delete at point-02", reads("point-02"), 1)
	equal(t, "they have not asked for what comes after it", purged(), "3 3")
	equal(t, "nothing new", reads("point-01")+reads("point-02"), 0)
	equal(t, "all have passed it", purged(), "2 4")
	states["point-03"] = []rowset.StateItem{{Name: rowset.ChangeSeq, Value: int64(3)}}
	equal(t, "point-03 comes too late and loads anew", reads("point-03"), 2)
	exec(t, s, "UPDATE sync_change_reader SET seen_at = NOW() - INTERVAL 31 DAY WHERE reader = 'point-02'")
	exec(t, s, "DELETE FROM goods WHERE a = 1")
	reads("point-01")
	reads("point-03")
	equal(t, "nothing new again", reads("point-01")+reads("point-03"), 0)
	equal(t, "nobody waits for point-02", purged(), "1 5")
}

// SQL of a rule's own may read the change table: its changes are numbered before each page.
func TestOwnSQLReadsChanges(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE goods (a INT PRIMARY KEY) ENGINE = InnoDB")
	recorded(t, s, "goods")
	p := changesPlan(t, s, rule.Row{ID: 1, Table: "goods", Type: rule.Download, User: rule.Server, Field: "sync_seq, a",
		SQL: `select f.sync_seq, f.a from sync_change_goods f
			where f.sync_seq > :state.sync_seq and not (f.sync_origin <=> :sync_origin)
			order by f.sync_seq limit :limit`})
	exec(t, s, "INSERT INTO goods VALUES (7), (8)")
	exec(t, s, "DELETE FROM goods WHERE a = 7")
	c := &collect{}
	page, err := s.Read(testContext(t), p, rule.Env{Point: "point-01", Origin: "point-01", Limit: 1}, c)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", fmt.Sprint(c.rows), "[[1 7] [2 8]]")
	equal(t, "state", fmt.Sprint(page.State), "[{sync_seq 2}]")
}
