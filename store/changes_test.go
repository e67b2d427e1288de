package store

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

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
