package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// numbered is a table of n rows whose id goes from 1.
func numbered(t testing.TB, s *Store, n int) {
	t.Helper()
	exec(t, s, "CREATE TABLE numbered (id INT PRIMARY KEY, pad VARCHAR(200) NOT NULL) ENGINE = InnoDB")
	p := planOf(t, s, uploadRule("numbered", "", "",
		"-- downside: insert\nINSERT INTO numbered (id, pad) VALUES (:id, :pad)\n"))
	u := upload(p, "fill", 1)
	for i := range n {
		u.Rows.Values = append(u.Rows.Values, int64(i+1), fmt.Sprintf("%0200d", i))
	}
	applied(t, s, u)
}

func downloadPlan(t testing.TB, s *Store, sql string) *rule.Plan {
	t.Helper()
	return planOf(t, s, rule.Row{ID: 8, Table: "numbered", Type: rule.Download, User: rule.Server,
		CarryState: true, UseCarriedState: true, SQL: sql})
}

const pagedSQL = "SELECT id, pad FROM numbered WHERE id > :state.id ORDER BY id LIMIT :limit"

func pagedPlan(t testing.TB, s *Store) *rule.Plan {
	t.Helper()
	p := *downloadPlan(t, s, pagedSQL)
	if !p.Paged() {
		t.Fatalf("not paged: %+v", p)
	}
	return &p
}

func ids(c *collect) string {
	text := ""
	for _, row := range c.rows {
		text += strconv.FormatInt(row[0].(int64), 10) + " "
	}
	return text
}

func TestPages(t *testing.T) {
	s := open(t)
	numbered(t, s, 10)
	p := pagedPlan(t, s)
	from := func(id int64) []rowset.StateItem { return []rowset.StateItem{{Name: "id", Value: id}} }
	for _, tt := range []struct {
		name   string
		env    rule.Env
		enough int
		ids    string
		state  any
		more   bool
		begun  string
	}{
		{name: "from a state", env: rule.Env{State: from(3), Limit: 3}, ids: "4 5 6 7 8 9 10 ", state: int64(10),
			begun: "[0]"},
		{name: "a last page that is full", env: rule.Env{State: from(0), Limit: 5}, ids: "1 2 3 4 5 6 7 8 9 10 ",
			state: int64(10), begun: "[0]"},
		{name: "the default limit", env: rule.Env{State: from(8)}, ids: "9 10 ", state: int64(10), begun: "[0]"},
		{name: "nothing left", env: rule.Env{State: from(10)}, ids: "", state: int64(10), begun: "[0]"},
		{name: "enough in mid-page", env: rule.Env{State: from(0), Limit: 4}, enough: 6, ids: "1 2 3 4 5 6 ",
			state: int64(6), more: true, begun: "[0]"},
		{name: "enough at the end of a page", env: rule.Env{State: from(0), Limit: 3}, enough: 3, ids: "1 2 3 ",
			state: int64(3), more: true, begun: "[0]"},
	} {
		for _, inTx := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " tx ", inTx), func(t *testing.T) {
				sink := &collect{row: func(n int) error {
					if n == tt.enough {
						return ErrEnough
					}
					return nil
				}}
				page, err := s.Read(testContext(t), p, tt.env, sink)
				if inTx {
					*sink = collect{row: sink.row}
					tx, berr := s.Begin(testContext(t))
					if berr != nil {
						t.Fatal(berr)
					}
					page, err = tx.Read(testContext(t), p, tt.env, sink)
					// The transaction is whole after a read that stopped.
					if err := tx.Commit(testContext(t)); err != nil {
						t.Fatal(err)
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "ids", ids(sink), tt.ids)
				equal(t, "state", fmt.Sprint(page.State), fmt.Sprint([]rowset.StateItem{{Name: "id", Value: tt.state}}))
				equal(t, "more", page.More, tt.more)
				equal(t, "rows", page.Rows, uint64(len(sink.rows)))
				equal(t, "begun", fmt.Sprint(sink.begun), tt.begun)
			})
		}
	}
}

func TestSeveralStatements(t *testing.T) {
	s := open(t)
	numbered(t, s, 3)
	p := *downloadPlan(t, s, "SELECT id FROM numbered WHERE id < :state.id")
	p.Upside = append(p.Upside, rule.Statement{SQL: "SELECT pad, id FROM numbered WHERE id > 5"}, p.Upside[0])
	var sink collect
	page, err := s.Read(testContext(t), &p, rule.Env{State: []rowset.StateItem{{Name: "id", Value: int64(3)}}}, &sink)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "begun", fmt.Sprint(sink.begun), "[0 1 2]")
	equal(t, "ids", ids(&sink), "1 2 1 2 ")
	equal(t, "page", fmt.Sprint(page), "{[] false 4 map[]}")
}

// The first rows are in the sink while the server still makes the last: they wait for each other here.
func TestRowsLeaveBeforeTheLastIsRead(t *testing.T) {
	s := open(t)
	numbered(t, s, 20000)
	// 400 million rows.
	p := downloadPlan(t, s, "SELECT a.id, b.pad FROM numbered a JOIN numbered b WHERE a.id > :state.id")
	ctx, cancel := context.WithCancel(testContext(t))
	sink := &collect{row: func(n int) error {
		if n == 1000 {
			equal(t, "running", one(t, s, running), "1")
			cancel()
		}
		return nil
	}}
	_, err := s.Read(ctx, p, rule.Env{State: []rowset.StateItem{{Name: "id", Value: int64(0)}}}, sink)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	expectNoQuery(t, s)
}

const running = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() " +
	"AND info LIKE '%numbered a JOIN%' AND id <> CONNECTION_ID()"

// expectNoQuery waits until the server has noticed that nobody reads any more.
func expectNoQuery(t *testing.T, s *Store) {
	t.Helper()
	for ctx := testContext(t); one(t, s, running) != "0"; time.Sleep(5 * time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatal("the query runs on")
		}
	}
}

func TestSinkThatFailsStopsTheQuery(t *testing.T) {
	s := open(t)
	numbered(t, s, 20000)
	p := downloadPlan(t, s, "SELECT a.id, b.pad FROM numbered a JOIN numbered b WHERE a.id > :state.id")
	env := rule.Env{State: []rowset.StateItem{{Name: "id", Value: int64(0)}}}
	gone := errors.New("the client is gone")
	for _, failure := range []error{gone, ErrEnough} {
		sink := &collect{row: func(n int) error {
			if n == 10 {
				return failure
			}
			return nil
		}}
		page, err := s.Read(testContext(t), p, env, sink)
		if failure == gone && err != gone {
			t.Errorf("got %v", err)
		}
		if failure == ErrEnough && (err != nil || !page.More || page.Rows != 10) {
			t.Errorf("got %v %v", page, err)
		}
		expectNoQuery(t, s)
	}
}

func TestReadOfBrokenStatement(t *testing.T) {
	s := open(t)
	numbered(t, s, 1)
	p := pagedPlan(t, s)
	exec(t, s, "ALTER TABLE numbered RENAME COLUMN pad TO filler")
	var bad *SQLError
	if _, err := s.Read(testContext(t), p, rule.Env{}, &collect{}); !errors.As(err, &bad) || bad.Code != 1054 ||
		bad.Statement == "" {
		t.Errorf("got %v", err)
	}
	lost := *p
	lost.Upside = []rule.Statement{{SQL: "SELECT filler FROM numbered"}}
	if _, err := s.Read(testContext(t), &lost, rule.Env{}, &collect{}); !errors.Is(err, ErrMismatch) {
		t.Errorf("rows without the cursor: %v", err)
	}
}

func TestTxIsWholeOrNothing(t *testing.T) {
	s := open(t, func(o *Options) { o.Set = "agent" })
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL+updateSQL)
	rows := rowset.Rows{Values: []any{"a", "1", int64(1), "b", nil, int64(1)}}
	for _, commit := range []bool{false, true} {
		tx, err := s.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		o, err := tx.Apply(testContext(t), p, rows, rule.Env{Point: "p1"})
		if err != nil || o.Applied != 1 || len(o.Quarantined) != 1 || o.Quarantined[0].Row != 1 {
			t.Errorf("%+v %v", o, err)
		}
		if _, err := tx.Exec(testContext(t), "INSERT INTO sync_agent_state (rule_key, state) VALUES (?, ?)", "r",
			[]byte{1}); err != nil {
			t.Error(err)
		}
		var n int
		err = tx.One(testContext(t), "SELECT COUNT(*) FROM phishing_log WHERE url = ?", []any{"a"}, &n)
		if err != nil || n != 1 {
			t.Errorf("%d rows in the transaction, %v", n, err)
		}
		err = tx.One(testContext(t), "SELECT hits FROM phishing_log WHERE url = 'none'", nil, &n)
		if !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("a row that is not there: %v", err)
		}
		want := "000"
		if commit {
			want = "111"
			if err := tx.Commit(testContext(t)); err != nil {
				t.Error(err)
			}
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		equal(t, "rows, state, aside", one(t, s, `SELECT CONCAT((SELECT COUNT(*) FROM phishing_log),
		(SELECT COUNT(*) FROM sync_agent_state),
			(SELECT COUNT(*) FROM sync_quarantine))`), want)
		if _, err := tx.Exec(testContext(t), "DELETE FROM phishing_log"); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("a statement after the end: %v", err)
		}
	}
}

// After a deadlock the server has rolled back: a statement that followed would stand alone.
func TestTxThatTheServerEnded(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	exec(t, s, "INSERT INTO phishing_log (url, ip, hits) VALUES ('a', '', 0), ('b', '', 0)")
	exec(t, s, "CREATE TABLE weight (n INT PRIMARY KEY) ENGINE = InnoDB")
	other := rival(t, s, "INSERT INTO weight VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)",
		"UPDATE phishing_log SET ip = 'rival' WHERE url = 'b'")
	tx, err := s.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(testContext(t), "UPDATE phishing_log SET ip = 'mine' WHERE url = 'a'"); err != nil {
		t.Fatal(err)
	}
	ctx := testContext(t)
	failed := make(chan error, 1)
	go func() {
		_, err := tx.Exec(ctx, "UPDATE phishing_log SET ip = 'mine' WHERE url = 'b'")
		failed <- err
	}()
	waiting(t, s, 0)
	if _, err := other.ExecContext(testContext(t), "UPDATE phishing_log SET ip = 'rival' WHERE url = 'a'"); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, ErrRetry) {
		t.Errorf("got %v", err)
	}
	if err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(testContext(t), "UPDATE phishing_log SET ip = 'alone'"); !errors.Is(err, ErrRetry) {
		t.Errorf("a statement after it: %v", err)
	}
	if err := tx.Commit(testContext(t)); !errors.Is(err, ErrRetry) {
		t.Errorf("commit after it: %v", err)
	}
	equal(t, "ip", one(t, s, "SELECT GROUP_CONCAT(ip) FROM phishing_log"), "rival,rival")
}

func TestTxUpdateState(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	exec(t, s, "INSERT INTO phishing_log (url, ip, hits) VALUES ('a', '', 0), ('b', '', 0)")
	p := *phishingPlan(t, s, insertSQL)
	p.UpdateState = []rule.Statement{
		{Op: rule.Update, SQL: "UPDATE phishing_log SET hits = hits + 1 WHERE url = ?",
			Args: []rule.Arg{{Source: rule.Field}}},
		{Op: rule.Update, SQL: "UPDATE phishing_log SET ip = ?", Args: []rule.Arg{{Source: rule.PointNo}}},
	}
	tx, err := s.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, rows := range []rowset.Rows{{Values: []any{"a", "", int64(0)}}, {}} {
		if err := tx.UpdateState(testContext(t), &p, rows, rule.Env{Point: "p9"}); err != nil {
			t.Error(err)
		}
	}
	if err := tx.Commit(testContext(t)); err != nil {
		t.Error(err)
	}
	equal(t, "state", one(t, s, "SELECT GROUP_CONCAT(url, hits, ip ORDER BY url) FROM phishing_log"), "a1p9,b0p9")
}
