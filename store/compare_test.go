package store

import (
	"fmt"
	"testing"

	"syncgate/rule"
)

// comparison is a comparison of a table by a generated rule of its own.
func comparison(t *testing.T, s *Store, table string, env rule.Env) *Comparison {
	t.Helper()
	facts, err := s.Table(testContext(t), table)
	if err != nil {
		t.Fatal(err)
	}
	p, ds := rule.Compile(rule.Row{ID: 1, Table: table, Type: rule.Upload, User: rule.Client, PointNo: "*",
		Enabled: true}, facts)
	if p == nil {
		t.Fatal(ds)
	}
	x, err := s.Compare(p, env, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// Two tables with the same values and other types have the same checksums, whatever the key; a row with another value
// is found by the database's own comparison of keys.
func TestCompare(t *testing.T) {
	s := open(t)
	for i, c := range []struct{ here, there, key, values, other string }{
		{"INT", "BIGINT UNSIGNED", "k", "(1, 'x', NULL), (7, 'ä', 'b'), (90, '', '')", "(90, '', NULL)"},
		{"VARCHAR(10) COLLATE utf8mb4_general_ci", "VARCHAR(20) CHARACTER SET latin1", "k",
			"('a', 'x', NULL), ('B', 'ä', 'b')", "('B', 'ä', 'c')"},
		{"VARBINARY(10)", "VARBINARY(20)", "k, v", "('a', 'x', NULL), ('\\0', 'ä', 'b')", "('a', 'x', '')"},
		{"DATETIME(6)", "DATETIME(6)", "v, k", "('2026-01-02 03:04:05.000006', 'x', NULL), ('2026-01-02', 'ä', 'b')",
			"('2026-01-02', 'ä', NULL)"},
		{"DECIMAL(20,10)", "DECIMAL(30,10)", "k", "(0.1, 'x', NULL), (99999999.0000000001, 'ä', 'b')",
			"(0.1, 'y', NULL)"},
		{"ENUM('b', 'a')", "ENUM('a', 'b')", "k", "('a', 'x', NULL), ('b', 'ä', 'b')", "('b', 'x', 'b')"},
	} {
		t.Run(c.here, func(t *testing.T) {
			here, there := fmt.Sprint("here_", i), fmt.Sprint("there_", i)
			for table, kind := range map[string]string{here: c.here, there: c.there} {
				exec(t, s, "CREATE TABLE "+table+" (k "+kind+", v VARCHAR(10), b BLOB, PRIMARY KEY ("+
					c.key+")) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4")
				exec(t, s, "INSERT INTO "+table+" VALUES "+c.values)
			}
			x, y := comparison(t, s, here, rule.Env{}), comparison(t, s, there, rule.Env{})
			ctx := testContext(t)
			differ := func() string {
				rows, err := x.List(ctx, Bounds{}, 100)
				if err != nil {
					t.Fatal(err)
				}
				var text string
				var from []any
				for i, r := range rows {
					n, sum, err := y.Sum(ctx, Bounds{from, r.Key})
					if err != nil {
						t.Fatal(err)
					}
					if n != 1 || sum != asUint(r.Sum) {
						text += fmt.Sprint(" range ", i)
					}
					from = r.Key
				}
				missing, different, err := y.Against(ctx, rows)
				if err != nil {
					t.Fatal(err)
				}
				extra, err := y.Extra(ctx, Bounds{}, rows, 10)
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("%d %d %d %s", len(missing), len(different), len(extra), text)
			}
			equal(t, "alike", differ(), "0 0 0 ")
			exec(t, s, "REPLACE INTO "+there+" VALUES "+c.other)
			switch got := differ(); got {
			case "0 1 0  range 0", "0 1 0  range 1", "0 1 0  range 2", "1 0 1  range 0 range 1":
			default:
				t.Errorf("another value: %s", got)
			}
			exec(t, s, "DELETE FROM "+here)
			if got := differ(); got[:3] != "0 0" || got[4] == '0' {
				t.Errorf("no rows here: %s", got)
			}
		})
	}
}
