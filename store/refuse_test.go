package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// generated is the plan of a rule without SQL of its own.
func generated(t testing.TB, s *Store, table string) *rule.Plan {
	t.Helper()
	return planOf(t, s, uploadRule(table, "", "", ""))
}

// rowsOf is a table in the order of its key.
func rowsOf(t testing.TB, s *Store, table, columns string) string {
	t.Helper()
	return one(t, s, "SELECT GROUP_CONCAT(CONCAT_WS(':', "+columns+") ORDER BY id SEPARATOR ' ') FROM "+table)
}

// A generated upsert never changes a row that has another key, and says which key two rows share.
func TestUpsertKeepsOtherRows(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(60) UNIQUE, phone VARCHAR(20)) ENGINE = InnoDB")
	exec(t, s, "INSERT INTO users VALUES (2, 'x', '111')")
	o := applied(t, s, upload(generated(t, s, "users"), "p1", 1,
		[]any{int64(1), "a", "1"}, []any{int64(44), "x", "222"}, []any{int64(2), "y", "112"},
		[]any{int64(45), "y", "3"}))
	// 2 gives x free in the upload.
	equal(t, "rows", rowsOf(t, s, "users", "id, email, phone"), "1:a:1 2:y:112 44:x:222")
	if len(o.Quarantined) != 1 || o.Quarantined[0].Row != 3 || o.Quarantined[0].Code != duplicateKey ||
		!strings.Contains(o.Quarantined[0].Reason, "'y' for key 'email'") || !o.Quarantined[0].Waits {
		t.Errorf("quarantined: %+v", o.Quarantined)
	}
	equal(t, "applied", o.Applied, 3)
}

// Rows of one upload swap unique values in any way. What cannot be placed is quarantined, and the others are placed.
func TestSwapsOfUniqueValues(t *testing.T) {
	for _, column := range []string{"VARCHAR(9) NULL", "VARCHAR(9) NOT NULL"} {
		s := open(t)
		exec(t, s, "CREATE TABLE seats (id INT PRIMARY KEY, seat "+column+" UNIQUE, n INT) ENGINE = InnoDB")
		p := generated(t, s, "seats")
		for seq := range uint64(20) {
			exec(t, s, "DELETE FROM seats")
			exec(t, s, "INSERT INTO seats VALUES (100, 'taken', 0)")
			random := rand.New(rand.NewPCG(seq, 1))
			n := 1 + random.IntN(8)
			refused := random.IntN(2*n) - n // negative: none
			var rows [][]any
			for id, place := range random.Perm(n) {
				exec(t, s, "INSERT INTO seats VALUES (?, ?, 0)", id, fmt.Sprint("s", id))
				seat := fmt.Sprint("s", place)
				if id == refused {
					seat = "taken"
				}
				rows = append(rows, []any{int64(id), seat, int64(1)})
			}
			o := applied(t, s, upload(p, "p1", seq+1, rows...))
			if (len(o.Quarantined) > 0) != (refused >= 0) {
				t.Errorf("%v: %+v", rows, o.Quarantined)
			}
			equal(t, "new, all and taken", one(t, s,
				"SELECT CONCAT_WS(' ', SUM(n), COUNT(*), MAX(IF(id = 100, CONCAT(seat, n), ''))) FROM seats"),
				fmt.Sprintf("%d %d taken0", n-len(o.Quarantined), n+1))
		}
	}
}

// Keys that differ only to the side they come from stay two rows, unless that side says that they are one.
func TestSpellingsOfAKey(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE pages (id VARCHAR(20) PRIMARY KEY, hits INT) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4")
	p := generated(t, s, "pages")
	o := applied(t, s, upload(p, "p1", 1, []any{"/A", int64(1)}, []any{"/a", int64(2)}, []any{"/b", int64(3)}))
	equal(t, "quarantined", len(o.Quarantined), 1)
	o = applied(t, s, upload(p, "p1", 2, []any{"/b ", int64(4)}))
	equal(t, "with a blank", len(o.Quarantined), 1)
	equal(t, "rows", rowsOf(t, s, "pages", "id, hits"), "/A:1 /b:3")

	u := upload(p, "p1", 3)
	u.Rows = rowset.Rows{Columns: []string{"id", "hits", rowset.Deleted},
		Values: []any{"/a", int64(5), rowset.Caseless}}
	equal(t, "renamed", len(applied(t, s, u).Quarantined), 0)
	equal(t, "rows", rowsOf(t, s, "pages", "id, hits"), "/a:5 /b:3")
	equal(t, "left", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "1") // the first /a was superseded
}

// Rows that refer to rows of the same upload are applied, in whatever order they come.
func TestParentsLaterInTheUpload(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE folders (id INT PRIMARY KEY, parent INT NULL,
		FOREIGN KEY (parent) REFERENCES folders (id)) ENGINE = InnoDB`)
	p := generated(t, s, "folders")
	const n = 60
	var rows [][]any
	for id := n; id > 1; id-- {
		rows = append(rows, []any{int64(id), int64(id - 1)})
	}
	rows = append(rows, []any{int64(1), nil}, []any{int64(99), int64(98)})
	o := applied(t, s, upload(p, "p1", 1, rows...))
	equal(t, "applied", o.Applied, n)
	if len(o.Quarantined) != 1 || o.Quarantined[0].Code != noParent || !o.Quarantined[0].Waits {
		t.Errorf("%+v", o.Quarantined)
	}
	del := upload(p, "p1", 2)
	del.Rows.Columns = []string{"id", "parent", rowset.Deleted}
	for id := range n {
		del.Rows.Values = append(del.Rows.Values, int64(id+1), nil, rowset.Gone)
	}
	equal(t, "deleted", applied(t, s, del).Applied, n)
	equal(t, "left", one(t, s, "SELECT COUNT(*) FROM folders"), "0")
}

// retrying runs RetryWaiting until the test ends.
func retrying(t *testing.T, s *Store, plans ...*rule.Plan) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.RetryWaiting(ctx, func(q *QuarantinedRow) (*rule.Plan, rule.Env) {
			for _, p := range plans {
				if p.Row.Table == q.Table {
					return p, rule.Env{Point: q.Point}
				}
			}
			return nil, rule.Env{}
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// eventually waits for a query's value.
func eventually(t *testing.T, s *Store, what, q, want string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); one(t, s, q) != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: %s, want %s", what, one(t, s, q), want)
		}
	}
}

// A child waits for its parent and a row for a unique value. Later ones of the same row take their place.
func TestWaitingRows(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE parents (id INT PRIMARY KEY, code VARCHAR(9) UNIQUE) ENGINE = InnoDB`)
	exec(t, s, `CREATE TABLE children (id INT PRIMARY KEY, parent INT, n INT,
		FOREIGN KEY (parent) REFERENCES parents (id)) ENGINE = InnoDB`)
	parents, children := generated(t, s, "parents"), generated(t, s, "children")
	retrying(t, s, parents, children)
	equal(t, "waits", applied(t, s, upload(children, "p1", 1,
		[]any{int64(1), int64(7), int64(1)})).Quarantined[0].Waits, true)
	applied(t, s, upload(children, "p1", 2, []any{int64(1), int64(7), int64(2)}, []any{int64(2), int64(8), int64(1)}))
	equal(t, "in quarantine", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "2") // one version of each row
	applied(t, s, upload(parents, "p1", 3, []any{int64(7), "x"}))
	eventually(t, s, "the child with a parent", "SELECT GROUP_CONCAT(id, n) FROM children", "12")
	equal(t, "in quarantine", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "1")

	applied(t, s, upload(children, "p1", 4, []any{int64(2), nil, int64(3)}))
	equal(t, "superseded", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "0")

	applied(t, s, upload(parents, "p1", 5, []any{int64(9), "x"}))
	equal(t, "in quarantine", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "1")
	applied(t, s, upload(parents, "p1", 6, []any{int64(7), "y"})) // gives x free
	eventually(t, s, "the value", "SELECT GROUP_CONCAT(id, code ORDER BY id) FROM parents", "7y,9x")
	eventually(t, s, "left", "SELECT COUNT(*) FROM sync_quarantine", "0")
}

// A row waits for no longer than RowWait. Then a person may replay it.
func TestWaitingEnds(t *testing.T) {
	s := open(t, func(o *Options) { o.RowWait = time.Millisecond })
	exec(t, s, `CREATE TABLE parents (id INT PRIMARY KEY) ENGINE = InnoDB`)
	exec(t, s, `CREATE TABLE children (id INT PRIMARY KEY, parent INT,
		FOREIGN KEY (parent) REFERENCES parents (id)) ENGINE = InnoDB`)
	p := generated(t, s, "children")
	expired := make(chan struct{})
	s.Observe(func(e Event) {
		if e.Metric == rowsLeftQuarantine && e.Label == "expired" {
			close(expired)
		}
	})
	retrying(t, s, p)
	applied(t, s, upload(p, "p1", 1, []any{int64(1), int64(7)}))
	<-expired
	equal(t, "waiting", one(t, s, "SELECT COUNT(waits_until) FROM sync_quarantine"), "0")
	exec(t, s, "INSERT INTO parents VALUES (7)")
	rows, err := s.ListQuarantine(testContext(t), QuarantineFilter{})
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	if _, err := s.ReplayQuarantine(testContext(t), rows[0].ID, p, rule.Env{Point: "p1"}, false); err != nil {
		t.Error(err)
	}
	equal(t, "children", one(t, s, "SELECT COUNT(*) FROM children"), "1")
}

// A replay does not put an older version over a newer one, unless it is forced.
func TestReplayOfAnOlderVersion(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE docs (id INT PRIMARY KEY, name VARCHAR(5), update_time DATETIME(6)) ENGINE = InnoDB`)
	applied(t, s, upload(generated(t, s, "docs"), "p1", 1, []any{int64(1), "too long", "2026-01-01 10:00:00.5"}))
	exec(t, s, "INSERT INTO docs VALUES (1, 'newer', '2026-01-01 10:00:00.6')")
	exec(t, s, "ALTER TABLE docs MODIFY name VARCHAR(50)")
	p := generated(t, s, "docs")
	rows, err := s.ListQuarantine(testContext(t), QuarantineFilter{Code: 1406, Table: "docs", Rule: 7, Point: "p1"})
	if err != nil || len(rows) != 1 {
		t.Fatal(rows, err)
	}
	var newer *NewerError
	_, err = s.ReplayQuarantine(testContext(t), rows[0].ID, p, rule.Env{}, false)
	if !errors.As(err, &newer) || newer.There != "2026-01-01 10:00:00.600000" {
		t.Errorf("got %v", err)
	}
	equal(t, "there", one(t, s, "SELECT name FROM docs"), "newer")
	done, err := s.ReplayQuarantine(testContext(t), rows[0].ID, p, rule.Env{}, true)
	if err != nil || !done.Present || done.Op != "insert" {
		t.Errorf("forced: %+v %v", done, err)
	}
	equal(t, "there", one(t, s, "SELECT name FROM docs"), "too long")
}

// Refused rows are tried again when their table has changed, but never over a row that may be newer.
func TestRefusedRowsAfterAnAlter(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE Names (id INT PRIMARY KEY, name VARCHAR(5)) ENGINE = InnoDB`)
	applied(t, s, upload(generated(t, s, "Names"), "p1", 1, []any{int64(1), "too long"}, []any{int64(2), "longer"}))
	exec(t, s, "INSERT INTO Names VALUES (2, 'own')")
	seen := map[string]string{}
	find := func(*QuarantinedRow) (*rule.Plan, rule.Env) { return generated(t, s, "Names"), rule.Env{} }
	for range 2 {
		if err := s.retryChanged(testContext(t), find, seen); err != nil {
			t.Fatal(err)
		}
		equal(t, "rows", rowsOf(t, s, "Names", "id, name"), "2:own")
	}
	exec(t, s, "ALTER TABLE Names MODIFY name VARCHAR(50)")
	if err := s.retryChanged(testContext(t), find, seen); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", rowsOf(t, s, "Names", "id, name"), "1:too long 2:own")
	equal(t, "left", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "1")
}

// A refused delete waits as a delete.
func TestRefusedDelete(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE parents (id INT PRIMARY KEY) ENGINE = InnoDB`)
	exec(t, s, `CREATE TABLE children (id INT PRIMARY KEY, parent INT,
		FOREIGN KEY (parent) REFERENCES parents (id)) ENGINE = InnoDB`)
	exec(t, s, "INSERT INTO parents VALUES (7)")
	exec(t, s, "INSERT INTO children VALUES (1, 7)")
	p := generated(t, s, "parents")
	u := upload(p, "p1", 1)
	u.Rows = rowset.Rows{Columns: []string{"id", rowset.Deleted}, Values: []any{int64(7), rowset.Gone}}
	equal(t, "refused", applied(t, s, u).Quarantined[0].Code, rowReferred)
	exec(t, s, "DELETE FROM children")
	find := func(*QuarantinedRow) (*rule.Plan, rule.Env) { return p, rule.Env{} }
	if _, err := s.RetryOnce(testContext(t), find); err != nil {
		t.Fatal(err)
	}
	equal(t, "left", one(t, s, "SELECT (SELECT COUNT(*) FROM parents) + (SELECT COUNT(*) FROM sync_quarantine)"), "0")
}

// A column without a default is no fault of the rows: they come again.
func TestMissingDefaultFailsTheUpload(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE t (id INT PRIMARY KEY, v INT, region VARCHAR(10) NOT NULL) ENGINE = InnoDB")
	p := planOf(t, s, uploadRule("t", "id, v", "", ""))
	u := upload(p, "p1", 1, []any{int64(1), int64(1)}, []any{int64(2), int64(2)})
	var refused *SQLError
	if err := s.Apply(testContext(t), []*Upload{u})[0].Err; !errors.As(err, &refused) || refused.Code != noDefault {
		t.Fatalf("got %v", err)
	}
	equal(t, "in quarantine", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "0")
	exec(t, s, "ALTER TABLE t ALTER region SET DEFAULT 'north'")
	equal(t, "applied", applied(t, s, u).Applied, 2)
}

// A value that its column would cut or round is refused, or counted where the rule allows it.
func TestValuesThatWouldBeCut(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE t (id INT PRIMARY KEY, v DECIMAL(12,2)) ENGINE = InnoDB`)
	rows := [][]any{{int64(1), "1.2350"}, {int64(2), "1.2300"}, {int64(3), "0.0049"}, {int64(4), nil}}
	o := applied(t, s, upload(generated(t, s, "t"), "p1", 1, rows...))
	if len(o.Quarantined) != 2 || o.Quarantined[1].Row != 2 || o.Quarantined[0].Code != valueCut ||
		o.Quarantined[0].Reason != "v has a value that decimal(12,2) would cut or round: 1.2350" {
		t.Errorf("%+v", o.Quarantined)
	}
	equal(t, "rows", rowsOf(t, s, "t", "id, v"), "2:1.23 4")
	rounded := uint64(0)
	s.Observe(func(e Event) {
		if e.Metric == rowsRounded {
			rounded += e.N
		}
	})
	allowed := planOf(t, s, uploadRule("t", "", "", "-- option: allow-rounding\n"))
	equal(t, "applied", applied(t, s, upload(allowed, "p1", 2, rows...)).Applied, 4)
	equal(t, "rounded", rounded, 2)
}

// The outcome of an upload stays small, however many rows are refused; all of them are in the quarantine.
func TestManyRefusedRows(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE t (id INT PRIMARY KEY, v TINYINT) ENGINE = InnoDB")
	u := upload(generated(t, s, "t"), "p1", 1)
	for id := range int64(toldRows + 50) {
		u.Rows.Values = append(u.Rows.Values, id, int64(1000))
	}
	o := applied(t, s, u)
	equal(t, "told and left out", fmt.Sprint(len(o.Quarantined), o.LeftOut), fmt.Sprint(toldRows, 50))
	equal(t, "stored", fmt.Sprint(applied(t, s, u).LeftOut), "50")
	equal(t, "in quarantine", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), fmt.Sprint(toldRows+50))
}

// A row that is too large for the database's packets is refused alone, and kept without its large fields.
func TestRowOverThePacket(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE t (id INT PRIMARY KEY, body LONGBLOB) ENGINE = InnoDB")
	large := make([]byte, s.MaxPacket()+1)
	o := applied(t, s, upload(generated(t, s, "t"), "p1", 1, []any{int64(1), []byte("a")}, []any{int64(2), large},
		[]any{int64(3), []byte("c")}))
	equal(t, "rows", rowsOf(t, s, "t", "id, body"), "1:a 3:c")
	if len(o.Quarantined) != 1 || o.Quarantined[0].Row != 1 {
		t.Errorf("%+v", o.Quarantined)
	}
	equal(t, "kept", one(t, s, "SELECT row_values FROM sync_quarantine"), `{"id": 2}`)
	equal(t, "named", one(t, s, "SELECT error_text LIKE '%its large fields are left out here)' FROM sync_quarantine"),
		"1")
}
