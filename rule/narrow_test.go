package rule_test

import (
	"strings"
	"testing"

	"syncgate/rule"
)

// column is a plan that gives the field v to a column of a type.
func columnPlan(t *testing.T, columnType, sql string) *rule.Plan {
	t.Helper()
	kind, _, _ := strings.Cut(strings.Fields(columnType)[0], "(")
	table := &rule.Table{Name: "t", Columns: []rule.Column{{Name: "id", Type: "int", ColumnType: "int(11)"},
		{Name: "v", Type: kind, ColumnType: columnType, Nullable: true}},
		Keys: []rule.Key{{Name: "PRIMARY", Columns: []string{"id"}, Unique: true, Primary: true}}}
	p, ds := rule.Compile(rule.Row{ID: 1, Table: "t", Type: rule.Upload, User: rule.Server, PointNo: "*", SQL: sql},
		table)
	if p == nil {
		t.Fatal(ds)
	}
	return p
}

func TestValuesThatAColumnKeeps(t *testing.T) {
	type values []any
	for _, tt := range []struct {
		column      string
		keeps, cuts values
	}{
		{"decimal(12,2)", values{"1.23", "1.2300", int64(7), 1.5, "1", "1e2", "1.5e1", nil},
			values{"1.234", "0.0049", 0.125, "1.2345e1"}},
		{"int(11)", values{int64(1), 2.0, "3", "3.0", "999999999999"}, values{2.5, "2.5", 1e-9, "1e-9"}},
		{"datetime", values{"2026-01-02 03:04:05", "2026-01-02 03:04:05.000000"}, values{"2026-12-31 23:59:59.600"}},
		{"datetime(3)", values{"2026-01-02 03:04:05.600"}, values{"2026-01-02 03:04:05.6001"}},
		{"timestamp(6)", values{"2026-01-02 03:04:05.123456"}, nil},
		{"time", values{"10:00:00", "-10:00:00", "1 10:00:00"}, values{"10:00:00.9", "2026-01-02 10:00:00"}},
		{"date", values{"2026-01-02", "2026-01-02 00:00:00", "2026-01-02 00:00:00.000"},
			values{"2026-01-02 03:04:05", "2026-01-02T00:00:01"}},
		{"float", values{0.1, 0.5, int64(1 << 24), "0.1", float64(float32(1.1))},
			values{0.1234567891, int64(1<<24 + 1), "0.1234567891"}},
		{"double", values{0.1234567891, int64(1 << 53), "0.1"}, values{int64(1<<53 + 1), "0.12345678901234567891"}},
		{"float(7,2)", values{1.25}, values{1.255}},
		{"varchar(5)", values{"ab", "üüüüü", "ü    ", "abcdef"}, values{"x         "}}, // the database refuses abcdef
		{"longblob", values{[]byte("x  ")}, nil},
		{"text", values{"x   "}, nil},
	} {
		p := columnPlan(t, tt.column, "")
		for _, v := range tt.keeps {
			if why := p.Loses([]any{int64(1), v}); why != "" {
				t.Errorf("%s: %s", tt.column, why)
			}
		}
		for _, v := range tt.cuts {
			if p.Loses([]any{int64(1), v}) == "" {
				t.Errorf("%s keeps %v", tt.column, v)
			}
		}
	}
}

// A statement of the rule's own decides where a field goes: what it puts through a function is its business.
func TestValuesOfOwnStatements(t *testing.T) {
	for sql, cuts := range map[string]bool{
		"insert into t (id, v) values (:id, :v)":           true,
		"insert into t (id, v) values (:id, round(:v, 2))": false,
		"insert into other (id, v) values (:id, :v)":       false,
	} {
		p := columnPlan(t, "decimal(12,2)", sql)
		if got := p.Loses([]any{int64(1), "1.234"}) != ""; got != cuts {
			t.Errorf("%s: %v", sql, got)
		}
	}
}

// An upsert is guarded where it could meet a row with another key, and only there.
func TestGuardOfGeneratedUpserts(t *testing.T) {
	table := func(collation string, more ...rule.Key) *rule.Table {
		return &rule.Table{Name: "t", Columns: []rule.Column{
			{Name: "a", Type: "varchar", ColumnType: "varchar(9)", Collation: collation},
			{Name: "b", Type: "int", ColumnType: "int(11)"},
			{Name: "c", Type: "int", ColumnType: "int(11)", Nullable: true}},
			Keys: append([]rule.Key{{Name: "PRIMARY", Columns: []string{"a", "b"}, Unique: true, Primary: true}},
				more...)}
	}
	unique := rule.Key{Name: "c", Columns: []string{"c"}, Unique: true}
	fixed := rule.Key{Name: "b", Columns: []string{"b"}, Unique: true}
	const tail = "on duplicate key update "
	for _, tt := range []struct {
		name        string
		table       *rule.Table
		sets        string
		respells    bool
		free        string
		hasFreeable bool
	}{
		{"one key, one spelling", table("utf8mb4_nopad_bin"), "`c` = values(`c`)", false, "", false},
		{"spellings", table("utf8mb4_general_ci"),
			"`a` = if(binary `a` = binary values(`a`) and `b` = values(`b`), `a`, null), `c` = values(`c`)", true, "",
			false},
		{"a second key", table("utf8mb4_nopad_bin", unique),
			"`a` = if(`a` = values(`a`) and `b` = values(`b`), `a`, null), `c` = values(`c`)", false,
			"update `t` set `c` = null\nwhere (`a`, `b`) in ((?, ?))", true},
		{"without NULL", table("utf8mb4_nopad_bin", fixed),
			"`a` = if(`a` = values(`a`) and `b` = values(`b`), `a`, null), `c` = values(`c`)", false,
			"delete from `t`\nwhere (`a`, `b`) in ((?, ?))", true},
	} {
		p, ds := rule.Compile(rule.Row{ID: 1, Table: "t", Type: rule.Upload, User: rule.Server, PointNo: "*"}, tt.table)
		if p == nil {
			t.Fatal(ds)
		}
		if _, sets, _ := strings.Cut(p.Downside[0].SQL, tail); sets != tt.sets {
			t.Errorf("%s: %s", tt.name, sets)
		}
		if (p.Respell != nil) != tt.respells || (p.Free != nil) != tt.hasFreeable ||
			p.Free != nil && p.Free.SQL != tt.free {
			t.Errorf("%s: respell %v, free %+v", tt.name, p.Respell, p.Free)
		}
		if p.Downside[0].Insert == nil {
			t.Errorf("%s: rows cannot share a statement", tt.name)
		}
	}
}
