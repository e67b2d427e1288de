package store

import (
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

	// The readers say that they have more than there is, and a table that comes first is gone.
	exec(t, s, "UPDATE sync_change_reader SET seq = 9223372036854775807, seen_at = NOW()")
	exec(t, s, "DELETE FROM goods")
	exec(t, s, "INSERT INTO sync_sequence (sync_table, next_seq) VALUES ('absent', 9)")
	exec(t, s, "INSERT INTO sync_change_reader (sync_table, reader, seq) VALUES ('absent', 'point-01', 8)")
	if _, _, err := s.News(testContext(t), read, News{}); err != nil { // numbers the delete
		t.Fatal(err)
	}
	if err := s.purgeChanges(testContext(t)); !errors.Is(err, ErrNoTable) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("a purge of a table that is gone: %v", err)
	}
	equal(t, "no change is forgotten that has no number yet", one(t, s, `SELECT CONCAT((SELECT COUNT(*)
		FROM sync_change_goods), ' ', complete_from, ' ', next_seq) FROM sync_sequence WHERE sync_table = 'goods'`),
		"0 6 7")
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
