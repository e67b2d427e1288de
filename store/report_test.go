package store

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// A report replaces the one before, of its point alone. What a point says has bounds.
func TestPointReports(t *testing.T) {
	s := open(t)
	ctx := testContext(t)
	at := time.Now().UTC().Truncate(time.Millisecond)
	bad := rowset.RuleReport{Table: "t", Direction: "upload", RuleID: 4, Here: 9, State: rowset.RuleBroken,
		Code:   "SG0101",
		Column: "sync_sql", Line: 3, Text: "no column b", FailingMs: 5000, LagMs: 70, BacklogRows: 5, BacklogBytes: 900,
		Quarantined: 2, Moved: 10, Failures: 3}
	one := PointReport{Point: "a", ReportedAt: at, ClockAheadMs: -1500, Report: rowset.Report{
		Software: "agent 1", Database: "10.11", UpMs: 60_000, DiskFree: 1 << 33, Memory: 1 << 24,
		Rules: []rowset.RuleReport{bad, {Table: "u", Direction: "download", State: rowset.RuleOK, SucceededMs: 1000}}}}
	other := PointReport{Point: "b", ReportedAt: at, Report: rowset.Report{Software: "agent 1",
		Rules: []rowset.RuleReport{{Table: "t", Direction: "upload", State: rowset.RuleOK}}}}
	if err := s.SavePointReports(ctx, []PointReport{one, other}); err != nil {
		t.Fatal(err)
	}
	read := func(point string) []PointReport {
		t.Helper()
		all, err := s.PointReports(ctx, point)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all { // they grow until they are read
			for k := range all[i].Rules {
				x := &all[i].Rules[k]
				x.SucceededMs, x.FailingMs = x.SucceededMs/30_000, x.FailingMs/30_000
			}
		}
		return all
	}
	want := one
	want.Rules = []rowset.RuleReport{bad, {Table: "u", Direction: "download", State: rowset.RuleOK}}
	want.Rules[0].FailingMs = 0
	if got := read("a"); !reflect.DeepEqual(got, []PointReport{want}) {
		t.Errorf("the report of a is %+v\nwant %+v", got, want)
	}
	equal(t, "points", len(read("")), 2)

	text := strings.Repeat("é", 5000)
	other.Rules = nil
	for range 600 {
		other.Rules = append(other.Rules, rowset.RuleReport{Table: fmt.Sprint(len(other.Rules), text), Direction: text,
			State: text, Code: text,
			Column: text, Text: text, SucceededMs: 1 << 62, FailingMs: 1 << 62, LagMs: 1<<63 - 1})
	}
	other.Software, other.UpMs = text, 1<<62
	if err := s.SavePointReports(ctx, []PointReport{other}); err != nil {
		t.Fatal(err)
	}
	equal(t, "rules of a", len(read("a")[0].Rules), 2)
	equal(t, "rules of b", len(read("b")[0].Rules), 600)
}

// Backlog counts what Read would give, whatever the state.
func TestBacklog(t *testing.T) {
	s := open(t)
	ctx := testContext(t)
	for _, q := range []string{
		"CREATE TABLE by_time (id INT PRIMARY KEY, note VARCHAR(20), update_time TIMESTAMP(6) NOT NULL, " +
			"KEY (update_time))",
		"CREATE TABLE by_key (id INT PRIMARY KEY, note VARCHAR(20))",
		"INSERT INTO by_key SELECT seq, REPEAT('x', 10) FROM seq_1_to_50",
		"INSERT INTO by_time SELECT seq, REPEAT('x', 10), NOW(6) - INTERVAL 120 - seq SECOND FROM seq_1_to_50",
	} {
		exec(t, s, q)
	}
	for _, table := range []string{"by_time", "by_key"} {
		facts, err := s.Table(ctx, table)
		if err != nil {
			t.Fatal(err)
		}
		plan, ds := rule.Compile(rule.Row{ID: 1, Table: table, Type: rule.Upload, User: rule.Client, PointNo: "p",
			Enabled: true}, facts)
		if plan == nil {
			t.Fatal(ds)
		}
		env := rule.Env{Now: time.Now().UTC(), Point: "p", Limit: 20}
		rows, bytes, counted, err := s.Backlog(ctx, plan, env)
		if rows != 50 || bytes < 550 || bytes > 2500 || !counted || err != nil {
			t.Errorf("%s: %d rows, %d bytes, %v, %v", table, rows, bytes, counted, err)
		}
		read := uint64(0)
		for left := uint64(50); left > 0; left -= read {
			sink := &firstRows{most: 20}
			page, err := s.Read(ctx, plan, env, sink)
			if err != nil {
				t.Fatal(err)
			}
			read, env.State = page.Rows, page.State
			if rows, _, _, err := s.Backlog(ctx, plan, env); rows != left-read || err != nil {
				t.Errorf("%s: %d rows after %d of %d, %v", table, rows, read, left, err)
			}
		}
	}
}

// firstRows takes some rows of a read.
type firstRows struct{ most int }

func (f *firstRows) Begin(int, []rowset.Column) error { return nil }
func (f *firstRows) Row([]any) error {
	if f.most--; f.most == 0 {
		return ErrEnough
	}
	return nil
}

// What is wrong with the database has a name. An error that concerns one rule or one row has none.
func TestTrouble(t *testing.T) {
	for want, all := range map[string][]error{
		"its disk is full": {mysqlError(1114, "The table 't' is full"),
			mysqlError(1021, "Disk full"), mysqlError(1030, "Got error 28 from engine")},
		"it is read-only": {mysqlError(1290, "running with the --read-only option"),
			mysqlError(1836, "")},
		"it takes no more connections":   {mysqlError(1040, ""), mysqlError(1226, "")},
		"it does not let the account in": {mysqlError(1045, "")},
		"it does not answer":             {context.DeadlineExceeded},
		"it is not reachable":            {errBadConn, mysqlError(2006, "")},
		"others hold rows or tables for too long": {mysqlError(1213, ""), mysqlError(1205, ""),
			mysqlError(1969, "max_statement_time exceeded")},
		"": {nil, context.Canceled, mysqlError(1062, ""), mysqlError(1146, ""), ErrMismatch},
	} {
		for _, err := range all {
			if got := Trouble(public(err)); got != want {
				t.Errorf("%v is called %q, not %q", err, got, want)
			}
		}
	}
}

func mysqlError(n uint16, message string) error {
	return &mysql.MySQLError{Number: n, SQLState: [5]byte{'H', 'Y', '0', '0', '0'}, Message: message}
}
