package store

import (
	"fmt"
	"testing"

	"syncgate/rule"
)

// The smallest value of a state has the type of what the statement gives, whatever the state is called.
func TestStateTypes(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE numbers (n INT PRIMARY KEY, big BIGINT UNSIGNED, at DATETIME, word VARCHAR(5)) "+
		"ENGINE = InnoDB")
	exec(t, s, "INSERT INTO numbers SELECT seq, seq, '2026-01-01', seq FROM seq_0_to_9")
	for _, tt := range []struct {
		sql, code string
		rows      int
	}{
		{"select n as timely, word from numbers where n > :state.timely order by timely limit :limit", "", 10},
		{"select big as dated, word from numbers where big > :state.dated order by dated limit :limit", "", 10},
		{"select n + 0 as sum, at from numbers where n + 0 > :state.sum order by sum limit :limit", "", 10},
		{"select at as id, n from numbers where at > :state.id order by id limit :limit", "", 10},
		{"select n from numbers where n + 0 > :state.timely", "SG0135", 0},
		{"select n, n from numbers where n > :state.n", "", 10},
		{"select n, missing from numbers where n + 0 > :state.timely", "SG0104", 0},
	} {
		row := rule.Row{ID: 3, Table: "elsewhere", Type: rule.Download, User: rule.Server, PointNo: "*", SQL: tt.sql}
		p, _ := rule.Compile(row, nil)
		if p == nil {
			t.Fatal(tt.sql)
		}
		found, err := s.CheckPlan(testContext(t), p, nil)
		code := ""
		if len(found) > 0 {
			code = found[0].Code.String()
		}
		if err != nil || code != tt.code {
			t.Errorf("%s: %v, %v", tt.sql, found, err)
		}
		if tt.rows == 0 {
			continue
		}
		sink := &collect{}
		if _, err := s.Read(testContext(t), p, rule.Env{Limit: 100}, sink); err != nil || len(sink.rows) != tt.rows {
			t.Errorf("%s: %d rows, %v; %s", tt.sql, len(sink.rows), err, fmt.Sprint(p.Upside[0].Args))
		}
	}
}
