package store

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

const phishing = `CREATE TABLE phishing_log (
	url VARCHAR(100) PRIMARY KEY, ip VARCHAR(64) NOT NULL, hits INT NOT NULL,
	update_time DATETIME(6) NULL) ENGINE = InnoDB`

func phishingPlan(t testing.TB, s *Store, sql string) *rule.Plan {
	t.Helper()
	return planOf(t, s, uploadRule("phishing_log", `["url","ip","hits"]`, "", sql))
}

const (
	insertSQL = "-- downside: insert\nINSERT INTO phishing_log (url, ip, hits) VALUES (:url, :ip, :hits)\n"
	updateSQL = "-- downside: update\nUPDATE phishing_log SET ip = :ip, hits = :hits WHERE url = :url\n"
	deleteSQL = "-- downside: delete\nDELETE FROM phishing_log WHERE url = :url\n"
)

func TestApplyOnce(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	u := upload(p, "p1", 1, []any{"a", "1.1.1.1", int64(3)}, []any{"b", "2.2.2.2", int64(4)})

	o := applied(t, s, u)
	equal(t, "applied", o.Applied, 2)
	equal(t, "by insert", o.ByOp["insert"], 2)
	equal(t, "duplicate", o.Duplicate, false)

	o = applied(t, s, u)
	equal(t, "applied again", o.Applied, 2)
	equal(t, "by insert again", o.ByOp["insert"], 2)
	equal(t, "duplicate again", o.Duplicate, true)
	equal(t, "rows", one(t, s, "SELECT COUNT(*) FROM phishing_log"), "2")

	u.Hash[0]++
	if err := s.Apply(testContext(t), []*Upload{u})[0].Err; !errors.Is(err, ErrReused) {
		t.Errorf("other content under the same id: %v", err)
	}
}

// What a chain does with a row, and which operation is told to have taken it.
func TestChains(t *testing.T) {
	bad := "not a number"
	s := open(t)
	exec(t, s, phishing)
	seq := uint64(0)
	for _, tt := range []struct {
		name, sql   string
		row         []any
		by          string // "" is quarantine
		code        int
		there, hits string // of the row afterwards
	}{
		{"insert takes it", insertSQL, []any{"new", "1", int64(1)}, "insert", 0, "1", "1"},
		{"insert of a row that is there", insertSQL, []any{"old", "1", int64(1)}, "", 1062, "1", "0"},
		{"insert falls to update", insertSQL + updateSQL, []any{"old", "1", int64(1)}, "update", 0, "1", "1"},
		{"update takes it", updateSQL + insertSQL, []any{"old", "1", int64(1)}, "update", 0, "1", "1"},
		{"update that changes nothing has matched", updateSQL + insertSQL, []any{"old", "0", int64(0)}, "update", 0,
			"1", "0"},
		{"update without a match falls to insert", updateSQL + insertSQL, []any{"new", "1", int64(1)}, "insert", 0, "1",
			"1"},
		{"a last update without a match is done", updateSQL, []any{"new", "1", int64(1)}, "update", 0, "0", ""},
		{"delete without a match, nothing after it", deleteSQL, []any{"new", "1", int64(1)}, "delete", 0, "0", ""},
		{"delete takes it", deleteSQL + insertSQL, []any{"old", "1", int64(1)}, "delete", 0, "0", ""},
		{"delete without a match falls to insert", deleteSQL + insertSQL, []any{"new", "1", int64(1)}, "insert", 0, "1",
			"1"},
		{"refused by all", insertSQL + updateSQL, []any{"old", "1", bad}, "", 1366, "1", "0"},
		{"refused by insert, no match in update: it is nowhere", insertSQL + updateSQL, []any{"new", "1", nil}, "",
			1048, "0", ""},
		{"NULL where none may be", insertSQL, []any{"new", nil, int64(1)}, "", 1048, "0", ""},
		{"too long", insertSQL, []any{"new", string(make([]byte, 65)), int64(1)}, "", 1406, "0", ""},
		{"out of range", insertSQL, []any{"new", "1", int64(1) << 40}, "", 1264, "0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			exec(t, s, "DELETE FROM phishing_log")
			exec(t, s, "DELETE FROM sync_quarantine")
			exec(t, s, "INSERT INTO phishing_log VALUES ('old', '0', 0, NULL)")
			seq++
			// Neighbours before and after share the chunk and must not feel it.
			o := applied(t, s, upload(phishingPlan(t, s, tt.sql), "p1", seq,
				[]any{"n1", "9", int64(9)}, tt.row, []any{"n2", "9", int64(9)}))
			got, code := "", 0
			for op, n := range phishingNeighbours(tt.sql, o) {
				if n > 0 {
					got = op
				}
			}
			for _, q := range o.Quarantined {
				if q.Row != 1 {
					t.Errorf("row %d was put aside: %s", q.Row, q.Reason)
				}
				code = q.Code
			}
			equal(t, "taken by", got, tt.by)
			equal(t, "code", code, tt.code)
			equal(t, "there", one(t, s, "SELECT COUNT(*) FROM phishing_log WHERE url = ?", tt.row[0]), tt.there)
			equal(t, "hits", one(t, s, "SELECT MAX(hits) FROM phishing_log WHERE url = ?", tt.row[0]), tt.hits)
			equal(t, "in quarantine", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), fmt.Sprint(len(o.Quarantined)))
		})
	}
}

// phishingNeighbours is by which operations rows were taken, without the two neighbours of TestChains.
func phishingNeighbours(sql string, o Outcome) map[string]uint64 {
	by := map[string]uint64{}
	for op, n := range o.ByOp {
		by[op] = n
	}
	takes := "insert"
	switch sql {
	case updateSQL:
		takes = "update"
	case deleteSQL:
		takes = "delete"
	}
	by[takes] -= 2
	return by
}

func TestStoredReplyIsTheOneSent(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	exec(t, s, "INSERT INTO phishing_log VALUES ('b', 'old', 0, NULL)")
	u := upload(phishingPlan(t, s, insertSQL+updateSQL), "p1", 1,
		[]any{"a", "1", int64(1)}, []any{"b", "2", int64(2)}, []any{"c", "3", "bad"})
	first, second := applied(t, s, u), applied(t, s, u)
	if len(first.Quarantined) != 1 || first.Quarantined[0].Row != 2 || first.Quarantined[0].Code != 1366 {
		t.Errorf("quarantined: %+v", first.Quarantined)
	}
	first.Duplicate = true
	equal(t, "second reply", fmt.Sprint(second), fmt.Sprint(first))
	equal(t, "aside", one(t, s, "SELECT GROUP_CONCAT(row_values) FROM sync_quarantine"),
		`{"url": "c", "ip": "3", "hits": "bad"}`)
}

func TestAllOrNothing(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, "-- options: all-or-nothing\n"+insertSQL)
	if !p.AllOrNothing {
		t.Fatal("the plan is not all-or-nothing")
	}
	u := upload(p, "p1", 1, []any{"a", "1", int64(1)}, []any{"b", "2", "bad"})
	var refused *RowError
	if err := s.Apply(testContext(t), []*Upload{u})[0].Err; !errors.As(err, &refused) || refused.Row != 1 ||
		refused.Code != 1366 {
		t.Fatalf("got %v", err)
	}
	equal(t, "kept", one(t, s, "SELECT (SELECT COUNT(*) FROM phishing_log) + (SELECT COUNT(*) FROM sync_request) + "+
		"(SELECT COUNT(*) FROM sync_quarantine)"), "0")

	mended := upload(p, "p1", 1, []any{"a", "1", int64(1)}, []any{"b", "2", int64(2)})
	equal(t, "applied when mended", applied(t, s, mended).Applied, 2)
}

// More rows than a chunk, one bad in the middle: the others arrive, each once, whatever the size of the batch.
func TestLargeBatches(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	for i, n := range []int{0, 1, 16, 17, 1000, 2500} {
		exec(t, s, "DELETE FROM phishing_log")
		u := upload(p, "p1", uint64(i+1))
		for k := range n {
			u.Rows.Values = append(u.Rows.Values, fmt.Sprint("u", k), "ip", int64(k))
		}
		bad := 0
		if n > 1 {
			u.Rows.Values[3*(n/2)+1] = nil
			bad = 1
		}
		o := applied(t, s, u)
		equal(t, "applied", o.Applied, uint64(n-bad))
		equal(t, "aside", len(o.Quarantined), bad)
		equal(t, "rows", one(t, s, "SELECT CONCAT(COUNT(*), ' ', COUNT(DISTINCT url)) FROM phishing_log"),
			fmt.Sprintf("%d %[1]d", n-bad))
	}
}

func TestHeavyRowsGoInLighterChunks(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE heavy (id INT PRIMARY KEY, body LONGBLOB NOT NULL) ENGINE = InnoDB")
	s.maxPacket = 1 << 20 // as if the server had the smallest packet anybody uses
	p := planOf(t, s, uploadRule("heavy", "", "", "-- downside: insert\nINSERT INTO heavy VALUES (:id, :body)\n"))
	u := upload(p, "p1", 1)
	for i := range 40 {
		u.Rows.Values = append(u.Rows.Values, int64(i), make([]byte, 100<<10))
	}
	equal(t, "applied", applied(t, s, u).Applied, 40)
	equal(t, "bytes", one(t, s, "SELECT SUM(LENGTH(body)) FROM heavy"), fmt.Sprint(40*100<<10))
}

func TestColumnsInAnotherOrder(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	u := upload(p, "p1", 1, []any{int64(5), "a", "ip"}, []any{int64(6), "b", "ip"})
	u.Rows.Columns = []string{"HITS", "url", "ip"}
	equal(t, "applied", applied(t, s, u).Applied, 2)
	equal(t, "hits", one(t, s, "SELECT GROUP_CONCAT(url, hits ORDER BY url) FROM phishing_log"), "a5,b6")

	for name, rows := range map[string]rowset.Rows{
		"a column too few": {Columns: []string{"url", "ip"}, Values: []any{"c", "ip"}},
		"another column":   {Columns: []string{"url", "ip", "title"}, Values: []any{"c", "ip", int64(1)}},
		"half a row":       {Values: []any{"c", "ip"}},
		"no SQL value":     {Values: []any{"c", "ip", struct{}{}}},
		"not a number":     {Values: []any{"c", "ip", math.NaN()}},
	} {
		u := upload(p, "p1", 2)
		u.Rows = rows
		if err := s.Apply(testContext(t), []*Upload{u})[0].Err; !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	equal(t, "ledger", one(t, s, "SELECT COUNT(*) FROM sync_request"), "1")

	more := upload(p, "p2", 1)
	more.Rows = rowset.Rows{Columns: []string{"url", "x", "ip", "hits"}, Values: []any{"c", nil, "ip", int64(7)}}
	more.Unknown = []string{"x"}
	equal(t, "applied without a column", applied(t, s, more).Applied, 1)
	equal(t, "hits", one(t, s, "SELECT hits FROM phishing_log WHERE url = 'c'"), "7")
	equal(t, "left out, from the ledger", fmt.Sprint(applied(t, s, more).Unknown), "[x]")

	// The rule was edited after the upload was applied and before its answer arrived.
	u.Plan = planOf(t, s, uploadRule("phishing_log", `["url","ip"]`, "",
		"-- downside: update\nUPDATE phishing_log SET ip = :ip WHERE url = :url\n"))
	equal(t, "duplicate under another rule", applied(t, s, u).Duplicate, true)
}

// One transaction for many points; a row that is refused takes no neighbour with it.
func TestTogether(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	exec(t, s, "INSERT INTO phishing_log VALUES ('there', 'old', 0, NULL)")
	insert, chain := phishingPlan(t, s, insertSQL), phishingPlan(t, s, insertSQL+updateSQL)
	us := []*Upload{
		upload(insert, "p3", 1, []any{"a", "1", int64(1)}),
		upload(insert, "p1", 2, []any{"b", "1", int64(1)}),
		upload(insert, "p1", 1, []any{"c", "1", int64(1)}, []any{"d", "1", int64(1)}),
		upload(chain, "p2", 1, []any{"there", "2", int64(2)}),
	}
	for i, o := range s.Apply(testContext(t), us) {
		if o.Err != nil || o.Applied != uint64(len(us[i].Rows.Values)/3) || o.Duplicate {
			t.Errorf("%d: %+v", i, o)
		}
	}
	// One statement has one CURRENT_TIMESTAMP.
	equal(t, "one INSERT of the ledger", one(t, s,
		"SELECT CONCAT(COUNT(*), COUNT(DISTINCT created_at)) FROM sync_request"), "41")
	equal(t, "updated", one(t, s, "SELECT reply FROM sync_request WHERE point_no = 'p2'"),
		`{"applied":1,"by_op":{"update":1}}`)

	more := []*Upload{
		upload(insert, "p4", 1, []any{"e", "1", int64(1)}),
		upload(insert, "p5", 1, []any{"a", "1", int64(1)}), // a duplicate key: aside
		us[0], // sent again
		upload(insert, "p3", 1, []any{"z", "1", int64(1)}), // an id that was used
		upload(insert, "p6", 1, []any{"f", "1", int64(1)}),
		upload(insert, "p6", 1, []any{"f", "1", int64(1)}), // twice in one call
	}
	outcomes := s.Apply(testContext(t), more)
	for i, want := range []string{"1 0 false <nil>", "0 1 false <nil>", "1 0 true <nil>", "", "1 0 false <nil>",
		"1 0 true <nil>"} {
		o := outcomes[i]
		if got := fmt.Sprint(o.Applied, len(o.Quarantined), o.Duplicate, o.Err); want != "" && got != want {
			t.Errorf("%d: got %s, want %s", i, got, want)
		}
	}
	if !errors.Is(outcomes[3].Err, ErrReused) {
		t.Errorf("an id that was used: %v", outcomes[3].Err)
	}
	equal(t, "rows", one(t, s, "SELECT GROUP_CONCAT(url ORDER BY url) FROM phishing_log"), "a,b,c,d,e,f,there")
}

// Rows of one statement go together, and no upload overtakes another of its own point.
func TestMergeable(t *testing.T) {
	a := &rule.Plan{Downside: []rule.Statement{{SQL: "a", Insert: &rule.InsertParts{}}}}
	b := &rule.Plan{Downside: []rule.Statement{{SQL: "b", Insert: &rule.InsertParts{}}}}
	u := &rule.Plan{Downside: []rule.Statement{{SQL: "u"}}}
	var all []*Upload
	for i, step := range []struct {
		point string
		plan  *rule.Plan
	}{{"1", a}, {"1", b}, {"1", a}, {"2", a}, {"2", u}, {"2", u}, {"2", b}, {"3", b}, {"3", a}} {
		all = append(all, &Upload{Point: step.point, Seq: uint64(i), Plan: step.plan})
	}
	got := ""
	for _, part := range mergeable(all) {
		got += part[0].Plan.Downside[0].SQL
		for _, x := range part {
			got += fmt.Sprint(x.Seq)
		}
		got += " "
	}
	equal(t, "parts", got, "a03 b17 a28 u4 u5 b6 ")
}

func TestSameRequestFromTwoSides(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	for seq := range uint64(20) {
		u := upload(p, "p1", seq+1, []any{fmt.Sprint(seq), "ip", int64(1)})
		var outcomes [4]Outcome
		var wait sync.WaitGroup
		for i := range outcomes {
			wait.Go(func() { outcomes[i] = s.Apply(testContext(t), []*Upload{u})[0] })
		}
		wait.Wait()
		fresh := 0
		for _, o := range outcomes {
			if o.Err != nil || o.Applied != 1 {
				t.Fatalf("%+v", o)
			}
			if !o.Duplicate {
				fresh++
			}
		}
		equal(t, "runs", fresh, 1)
	}
	equal(t, "rows", one(t, s, "SELECT COUNT(*) FROM phishing_log"), "20")
}

func TestBrokenStatementKeepsNothing(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	exec(t, s, "ALTER TABLE phishing_log DROP COLUMN hits")
	u := upload(p, "p1", 1, []any{"a", "1", int64(1)})
	var bad *SQLError
	if err := s.Apply(testContext(t), []*Upload{u})[0].Err; !errors.As(err, &bad) || bad.Code != 1054 ||
		bad.Statement == "" {
		t.Fatalf("got %v", err)
	}
	equal(t, "ledger", one(t, s, "SELECT COUNT(*) FROM sync_request"), "0")
	exec(t, s, "ALTER TABLE phishing_log ADD COLUMN hits INT NOT NULL")
	equal(t, "when the table is mended", applied(t, s, u).Applied, 1)
}

// A table that changes under a prepared statement.
func TestPreparedStatementsFollowTheTable(t *testing.T) {
	s := open(t, func(o *Options) { o.MaxConns = 1 })
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	for i := range 3 {
		applied(t, s, upload(p, "p1", uint64(i+1), []any{fmt.Sprint(i), "1", int64(i)}))
		exec(t, s, fmt.Sprintf("ALTER TABLE phishing_log ADD COLUMN c%d VARCHAR(10) NULL FIRST", i))
	}
	equal(t, "hits", one(t, s, "SELECT GROUP_CONCAT(url, hits ORDER BY url) FROM phishing_log"), "00,11,22")
}

func TestPreparedStatementsAreBounded(t *testing.T) {
	s := open(t, func(o *Options) { o.MaxConns = 1 })
	err := s.withConn(testContext(t), func(c *conn) error {
		for i := range 3 * cachedStatements {
			c.args = c.args[:0]
			q := fmt.Sprintf("DO %d", i)
			if _, err := c.exec(testContext(t), stmtKey{sql: q}, func() string { return q }); err != nil {
				return err
			}
		}
		equal(t, "kept", len(c.stmts), cachedStatements)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestUpdateStateRunsInTheSameTransaction(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	exec(t, s, "CREATE TABLE mark (url VARCHAR(100) PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB")
	p := phishingPlan(t, s, insertSQL)
	withState := *p
	withState.UpdateState = []rule.Statement{
		{Op: rule.Insert, SQL: "INSERT INTO mark VALUES (?, 1)",
			Args: []rule.Arg{{Source: rule.Field, Name: "url", Field: 0}}},
		{Op: rule.Update, SQL: "UPDATE mark SET n = n + ?", Args: []rule.Arg{{Source: rule.Fixed, Value: int64(10)}}},
	}
	applied(t, s, upload(&withState, "p1", 1, []any{"a", "1", int64(1)}, []any{"b", "1", int64(1)}))
	equal(t, "marks", one(t, s, "SELECT GROUP_CONCAT(url, n ORDER BY url) FROM mark"), "a11,b11")

	exec(t, s, "DELETE FROM phishing_log")
	var refused *RowError
	if err := s.Apply(testContext(t), []*Upload{upload(&withState, "p1", 2,
		[]any{"a", "1", int64(1)})})[0].Err; !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
	equal(t, "rows", one(t, s, "SELECT COUNT(*) FROM phishing_log"), "0")
}

func TestStatementErrorsAreNotTheRows(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	exec(t, s, "DROP TABLE phishing_log")
	var bad *SQLError
	err := s.Apply(testContext(t), []*Upload{upload(p, "p1", 1, []any{"a", "1", int64(1)})})[0].Err
	if !errors.As(err, &bad) || bad.Code != 1146 {
		t.Errorf("got %v", err)
	}
}
