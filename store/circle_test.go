package store

import (
	"testing"

	"syncgate/rule"
)

// Rows whose tables refer to each other go in together, and those stay in quarantine that lack another row besides.
func TestRowsThatNeedEachOther(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE shops (id INT PRIMARY KEY, manager INT NOT NULL) ENGINE = InnoDB")
	exec(t, s, `CREATE TABLE people (id INT PRIMARY KEY, shop INT NOT NULL, boss INT NULL,
		FOREIGN KEY (shop) REFERENCES shops (id),
		FOREIGN KEY (boss) REFERENCES people (id)) ENGINE = InnoDB`)
	exec(t, s, "ALTER TABLE shops ADD FOREIGN KEY (manager) REFERENCES people (id)")
	plans := map[string]*rule.Plan{}
	for i, table := range []string{"shops", "people"} {
		plans[table] = changesPlan(t, s, rule.Row{ID: uint64(i + 1), Table: table, Type: rule.Upload,
			User: rule.Server})
	}
	shops := upload(plans["shops"], "point-01", 1, []any{int64(1), int64(10)}, []any{int64(2), int64(20)},
		[]any{int64(3), int64(99)})
	people := upload(plans["people"], "point-01", 2, []any{int64(10), int64(1), nil},
		[]any{int64(20), int64(2), int64(10)},
		[]any{int64(30), int64(3), int64(10)}, []any{int64(40), int64(1), int64(30)})
	equal(t, "shops refused at first", len(applied(t, s, shops).Quarantined), 3)
	equal(t, "people refused at first", len(applied(t, s, people).Quarantined), 4)
	find := func(q *QuarantinedRow) (*rule.Plan, rule.Env) { return plans[q.Table], rule.Env{Point: q.Point} }
	if left, err := s.RetryOnce(testContext(t), find); err != nil || !left {
		t.Fatal(left, err)
	}
	equal(t, "shops", one(t, s, "SELECT GROUP_CONCAT(id, ':', manager ORDER BY id) FROM shops"), "1:10,2:20")
	equal(t, "people", one(t, s, "SELECT GROUP_CONCAT(id, ':', shop ORDER BY id) FROM people"), "10:1,20:2")
	equal(t, "rows that wait", one(t, s, "SELECT COUNT(*) FROM sync_quarantine WHERE waits_until IS NOT NULL"), "3")
	exec(t, s, "INSERT INTO people VALUES (99, 1, NULL)")
	if _, err := s.RetryOnce(testContext(t), find); err != nil {
		t.Fatal(err)
	}
	equal(t, "people when the missing one has come",
		one(t, s, "SELECT GROUP_CONCAT(id, ':', shop ORDER BY id) FROM people"),
		"10:1,20:2,30:3,40:1,99:1")
	equal(t, "rows that wait", one(t, s, "SELECT COUNT(*) FROM sync_quarantine"), "0")
}
