package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/migrations"
	"syncgate/rule"
	"syncgate/store/localdb/localdbtest"
)

func TestRules(t *testing.T) {
	s := open(t)
	exec(t, s, `INSERT INTO sync_control (id, sync_table, sync_type, sync_user, sync_sql,
		sync_is_carry_state, note, updated_by)
		VALUES (5, 'black_list', 'download', 'server', 'select 1', 1, 'why', 'me')`)
	exec(t, s, "INSERT INTO sync_control (id, sync_table, sync_type, sync_user, sync_point_no, enabled) "+
		"VALUES (2, 't', 'upload', 'client', 'p1', 0)")
	got, err := s.Rules(testContext(t))
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	for i := range got {
		if got[i].UpdatedAt == "" || got[i].UpdatedBy == "" {
			t.Errorf("nobody changed %+v", got[i])
		}
		got[i].UpdatedAt, got[i].UpdatedBy = "", ""
	}
	equal(t, "first", got[0], rule.Row{ID: 2, Table: "t", Type: "upload", User: "client", PointNo: "p1"})
	equal(t, "second", got[1], rule.Row{ID: 5, Table: "black_list", Type: "download", User: "server", PointNo: "*",
		SQL:        "select 1",
		CarryState: true, Enabled: true, Note: "why"})
}

// Every edit shows, also one that hides its time, and whether triggers count the edits or not.
func TestRulesVersionSeesEveryEdit(t *testing.T) {
	s := open(t)
	t.Run("counted", func(t *testing.T) { seesEveryEdit(t, s) })
	exec(t, s, "TRUNCATE sync_control")
	before := rulesVersion(t, s)
	exec(t, s, "DROP TRIGGER sync_control_edit_update")
	if rulesVersion(t, s) == before {
		t.Error("the version of uncounted edits is that of counted ones")
	}
	t.Run("summed", func(t *testing.T) { seesEveryEdit(t, s) })
}

func rulesVersion(t *testing.T, s *Store) uint64 {
	t.Helper()
	v, err := s.RulesVersion(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func seesEveryEdit(t *testing.T, s *Store) {
	version := func() uint64 { t.Helper(); return rulesVersion(t, s) }
	seen := map[uint64]string{version(): "no rules"}
	const same = ", updated_at = '2026-01-01 00:00:00'"
	for _, q := range []string{
		"INSERT INTO sync_control (id, sync_table, sync_type, sync_user, updated_at) " +
			"VALUES (1, 't', 'upload', 'server', '2026-01-01 00:00:00')",
		"INSERT INTO sync_control (id, sync_table, sync_type, sync_user, updated_at) " +
			"VALUES (2, 't', 'upload', 'server', '2026-01-01 00:00:00')",
		"UPDATE sync_control SET sync_sql = 'a' WHERE id = 1",
		"UPDATE sync_control SET sync_sql = 'b'" + same + " WHERE id = 1",
		"UPDATE sync_control SET sync_sql = NULL, sync_patch_field = 'b'" + same + " WHERE id = 1",
		"UPDATE sync_control SET enabled = 0" + same + " WHERE id = 1",
		"UPDATE sync_control SET sync_point_no = 'p'" + same + " WHERE id = 2",
		"UPDATE sync_control SET sync_point_no = 'P'" + same + " WHERE id = 2",
		"UPDATE sync_control SET sync_is_update_time = 1" + same + " WHERE id = 2",
		"UPDATE sync_control SET note = 'x'" + same + " WHERE id = 2",
		"DELETE FROM sync_control WHERE id = 1",
		"INSERT INTO sync_control (sync_table, sync_type, sync_user, updated_at) " +
			"VALUES ('p', 'upload', 'server', '2026-01-01'), ('p', 'upload', 'client', '2026-01-01')",
		// The same edit of both halves of a rule.
		"UPDATE sync_control SET enabled = 0" + same + " WHERE sync_table = 'p'",
		"TRUNCATE sync_control",
	} {
		before := version()
		exec(t, s, q)
		after := version()
		if before == after {
			t.Errorf("not seen: %s", q)
		}
		if was, ok := seen[after]; ok && q != "TRUNCATE sync_control" {
			t.Errorf("%s looks like %s", q, was)
		}
		seen[after] = q
	}
	before := version()
	equal(t, "without an edit", version(), before)
}

// A DBA meets the mistake in the client, in words.
func TestSyncControlRefusesNonsense(t *testing.T) {
	s := open(t)
	for values, want := range map[string]string{
		"sync_range = 'period', sync_range_value = 'hours:6'": "sync_range_value must look like day:3 or hour:6",
		"sync_range = 'period', sync_range_value = 'day:0'":   "sync_range_value must look like day:3 or hour:6",
		"sync_range = 'period'":                               "sync_range period needs a sync_range_value",
		"sync_type = 'both'":                                  "sync_type",
		"sync_table = ''":                                     "sync_table must not be empty",
		"sync_point_no = ''":                                  "sync_point_no must name a point or be *",
		"enabled = 2":                                         "enabled must be 0 or 1",
		"sync_is_carry_state = -1":                            "sync_is_carry_state must be 0 or 1",
		"sync_range = 'period', sync_range_value = 'month:2'": "",
		"sync_range = '', sync_range_value = ''":              "",
	} {
		exec(t, s, "REPLACE INTO sync_control (id, sync_table, sync_type, sync_user) "+
			"VALUES (1, 't', 'upload', 'server')")
		_, err := s.db.Exec("UPDATE sync_control SET " + values)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", values, err)
		}
	}
}

func TestHistoryOfEdits(t *testing.T) {
	s := open(t)
	exec(t, s, "INSERT INTO sync_control (id, sync_table, sync_type, sync_user) VALUES (1, 't', 'upload', 'server')")
	exec(t, s, "UPDATE sync_control SET note = 'a \"quote\"'")
	exec(t, s, "DELETE FROM sync_control")
	equal(t, "edits", one(t, s, `SELECT GROUP_CONCAT(action, ' ', changed_by <> '', ' ',
		COALESCE(JSON_VALUE(row_before, '$.note'), '-'), ' ',
		COALESCE(JSON_VALUE(row_after, '$.note'), '-') ORDER BY id) FROM sync_control_history`),
		`insert 1 - -,update 1 - a "quote",delete 1 a "quote" -`)
}

func TestStatusOfRules(t *testing.T) {
	s := open(t)
	exec(t, s, "INSERT INTO sync_control (id, sync_table, sync_type, sync_user) "+
		"VALUES (1, 't', 'upload', 'server'), (2, 'u', 'upload', 'server')")
	status := func() string {
		return one(t, s, `SELECT GROUP_CONCAT(id, state, COALESCE(error_code, '-'), COALESCE(error_line, '-'),
			' ', runs, ' ', rows_moved, ' ', failures,
			COALESCE(last_failure, '-') ORDER BY id) FROM sync_control_status`)
	}
	equal(t, "new", status(), "1new-- 0 0 0-,2new-- 0 0 0-")
	at := time.Now()
	err := errors.Join(
		s.SaveRuleStatus(testContext(t), []RuleStatus{{RuleID: 1, State: RuleOK, CheckedAt: at},
			{RuleID: 2, State: RuleBroken, CheckedAt: at, Problem: &rule.Diagnostic{
				Code: 104, Column: "sync_sql", Section: "upside", Line: 3, Col: 17,
				Message: strings.Repeat("ü", 5000)}}}),
		s.AddRuleRuns(testContext(t), []RuleRuns{{RuleID: 1, Runs: 2, Rows: 30, Failures: 1, At: at, LastFailure: "oh",
			FailedAt: at}}),
		s.AddRuleRuns(testContext(t), []RuleRuns{{RuleID: 1, Runs: 1, Rows: 5, At: at}}))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "told", status(), "1ok-- 3 35 1oh,2brokenSG01043 0 0 0-")
	exec(t, s, "DELETE FROM sync_control WHERE id = 1")
	if err := s.SaveRuleStatus(testContext(t), []RuleStatus{{RuleID: 2, State: RuleOK, CheckedAt: at}}); err != nil {
		t.Fatal(err)
	}
	equal(t, "mended, and one gone", status(), "2ok-- 0 0 0-")
	equal(t, "forgotten", one(t, s, "SELECT COUNT(*) FROM sync_rule_status"), "1")
	exec(t, s, "TRUNCATE sync_control") // which meets no trigger
	for range 2 {
		if err := s.SaveRuleStatus(testContext(t), nil); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "the history of a row that was truncated", one(t, s, `SELECT GROUP_CONCAT(
		action, ' ', changed_by LIKE '%TRUNCATE%',
		' ', COALESCE(JSON_VALUE(row_before, '$.sync_table'), '-') ORDER BY id)
		FROM sync_control_history WHERE control_id = 2`),
		"insert 0 -,delete 1 u")
}

func TestTable(t *testing.T) {
	s := open(t)
	exec(t, s, `CREATE TABLE facts (id BIGINT UNSIGNED AUTO_INCREMENT, a VARCHAR(64) NOT NULL, b BLOB,
		c DECIMAL(12,2) NOT NULL DEFAULT 1,
		d INT AS (c * 2) STORED, PRIMARY KEY (a, id), UNIQUE KEY one (c), KEY two (id, c)) ENGINE = InnoDB`)
	got, err := s.Table(testContext(t), "facts")
	if err != nil {
		t.Fatal(err)
	}
	want := &rule.Table{Name: "facts", Engine: "InnoDB", Columns: []rule.Column{
		{Name: "id", Type: "bigint", ColumnType: "bigint(20) unsigned", Auto: true, HasDefault: true, Unsigned: true},
		{Name: "a", Type: "varchar", ColumnType: "varchar(64)", Collation: "utf8mb4_general_ci"},
		{Name: "b", Type: "blob", ColumnType: "blob", Nullable: true, HasDefault: true, Binary: true},
		{Name: "c", Type: "decimal", ColumnType: "decimal(12,2)", HasDefault: true},
		{Name: "d", Type: "int", ColumnType: "int(11)", Nullable: true, HasDefault: true, Generated: true},
	}, Keys: []rule.Key{{Name: "PRIMARY", Columns: []string{"a", "id"}, Unique: true, Primary: true},
		{Name: "one", Columns: []string{"c"}, Unique: true}, {Name: "two", Columns: []string{"id", "c"}}}}
	equal(t, "facts", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
	cfg, err := mysql.ParseDSN(s.o.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := s.Table(testContext(t), cfg.DBName+".facts"); err != nil || len(other.Columns) != 5 {
		t.Error(other, err)
	}
	if _, err := s.Table(testContext(t), "fact"); !errors.Is(err, ErrNoTable) {
		t.Error(err)
	}
}

// A name with a dot is a table's own before it is another database's; row_end, which the server adds to every unique
// key of a table with system versioning, is no part of one; and names are as the database writes them.
func TestTableNames(t *testing.T) {
	s := open(t)
	exec(t, s, "CREATE TABLE `my.table` (id INT PRIMARY KEY)")
	exec(t, s, `CREATE TABLE versioned (id INT PRIMARY KEY, s TIMESTAMP(6) GENERATED ALWAYS AS ROW START,
		e TIMESTAMP(6) GENERATED ALWAYS AS ROW END,
		PERIOD FOR SYSTEM_TIME (s, e)) WITH SYSTEM VERSIONING`)
	for name, want := range map[string]string{"my.table": "`my.table` [id]", "versioned": "`versioned` [id]"} {
		facts, err := s.Table(testContext(t), name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, name, fmt.Sprint(facts.Quoted(), " ", facts.Keys[0].Columns), want)
	}
}

// PREPARE finds what is wrong and runs nothing; a rule with DDL or with two statements does not come as far.
func TestCheck(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	for q, code := range map[string]int{
		"SELECT url FROM phishing_log WHERE hits > ?":            0,
		"DELETE FROM phishing_log":                               0,
		"SELECT plate FROM phishing_log":                         1054,
		"SELECT url FROM phishing":                               1146,
		"SELECT url FORM phishing_log":                           1064,
		"DELETE FROM phishing_log; DROP TABLE phishing_log":      1064,
		"INSERT INTO phishing_log (url, ip, hits) VALUES (?, ?)": 1136,
	} {
		err := s.prepare(testContext(t), q)
		var bad *SQLError
		if errors.As(err, &bad) != (code != 0) || code != 0 && bad.Code != code || code == 0 && err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
	table, err := s.Table(testContext(t), "phishing_log")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"DROP TABLE phishing_log", "ALTER TABLE phishing_log ADD x INT",
		insertSQL + ";TRUNCATE phishing_log"} {
		if p, _ := rule.Compile(uploadRule("phishing_log", "", "", "-- downside: insert\n"+q), table); p != nil {
			t.Errorf("%s became a plan", q)
		}
	}
}

// No rule writes into a table that a migration makes, neither with SQL of its own nor with generated SQL.
func TestRulesDoNotWriteIntoOwnTables(t *testing.T) {
	seen := 0
	for _, set := range []migrations.Set{migrations.Server, migrations.Agent} {
		s := open(t, func(o *Options) { o.Set, o.MaxConns = set, 2 })
		tables := one(t, s, `SELECT GROUP_CONCAT(table_name) FROM information_schema.tables
			WHERE table_schema = DATABASE() AND table_name LIKE 'sync\_%'`)
		for name := range strings.SplitSeq(tables, ",") {
			facts, err := s.Table(testContext(t), name)
			if err != nil {
				t.Fatal(err)
			}
			column := facts.Columns[0].Name
			for _, sql := range []string{"",
				"-- downside: insert\ninsert into " + name + " (" + column + ") values (:" + column + ")"} {
				if len(facts.Keys) == 0 && sql == "" {
					continue // the view
				}
				row := uploadRule(name, "", "", sql)
				row.PointNo = "p"
				_, ds := rule.Compile(row, facts)
				if !slices.ContainsFunc(ds, func(d rule.Diagnostic) bool { return d.Code == rule.NotAllowed }) {
					t.Errorf("%s %q: %v", name, sql, ds)
				}
				seen++
			}
		}
	}
	if seen < 60 {
		t.Errorf("only %d rules", seen)
	}
}

func TestMigrate(t *testing.T) {
	for _, set := range []migrations.Set{migrations.Server, migrations.Agent} {
		dsn := localdbtest.New(t)
		all, err := migrations.Load(set, columns(rule.ControlColumns()).lists())
		if err != nil {
			t.Fatal(err)
		}
		stores := make([]*Store, 4)
		for i := range stores {
			if stores[i], err = Open(testContext(t),
				Options{DSN: dsn, AcceptUnsafe: true, Set: set, MaxConns: 1}); err != nil {
				t.Fatal(err)
			}
			defer stores[i].Close()
		}
		var mu sync.Mutex
		var ran []string
		var wait sync.WaitGroup
		for _, s := range stores { // at once, and each of them twice
			wait.Go(func() {
				for range 2 {
					if err := s.Migrate(testContext(t), func(name string) {
						mu.Lock()
						defer mu.Unlock()
						ran = append(ran, name)
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		equal(t, "run", len(ran), len(all))
		for i := range ran {
			equal(t, "name", ran[i], all[i].Name)
		}

		s := stores[0]
		exec(t, s, "INSERT INTO sync_migration (name, hash) VALUES ('9999_from_the_future', '')")
		if err := s.Migrate(testContext(t), nil); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "9999") {
			t.Errorf("a newer schema: %v", err)
		}
		exec(t, s, "DELETE FROM sync_migration WHERE name LIKE '9999%'")
		exec(t, s, "UPDATE sync_migration SET hash = 'x' WHERE name = '0002_sync_rule_status'")
		if err := s.Migrate(testContext(t), nil); !errors.Is(err, ErrSchema) ||
			!strings.Contains(err.Error(), "0002_sync_rule_status") {
			t.Errorf("another wording: %v", err)
		}
		// Both programs have migrated one database, as earlier versions let them.
		foreign := map[migrations.Set]string{migrations.Server: "0012_sync_outbox",
			migrations.Agent: "0013_sync_request"}[set]
		exec(t, s, "INSERT INTO sync_migration (name, hash) VALUES (?, '')", foreign)
		err = s.Migrate(testContext(t), nil)
		if !errors.Is(err, ErrOtherSet) || !strings.Contains(err.Error(), foreign) ||
			!strings.Contains(err.Error(), "drop its tables") {
			t.Errorf("both sets: %v", err)
		}
		// A crash between a statement and the note that it was run: it is run again.
		exec(t, s, "DELETE FROM sync_migration")
		if err := s.Migrate(testContext(t), nil); err != nil {
			t.Errorf("all again: %v", err)
		}
	}
}

// A deployment without the privilege for triggers does without the history.
func TestMigrateWithoutTriggers(t *testing.T) {
	root := open(t)
	cfg, err := mysql.ParseDSN(root.o.DSN)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, root, "CREATE DATABASE modest")
	exec(t, root, "CREATE USER modest@localhost")
	exec(t, root, "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, CREATE VIEW, REFERENCES, INDEX, ALTER, DROP "+
		"ON modest.* TO modest@localhost")
	t.Cleanup(func() {
		exec(t, root, "DROP DATABASE modest")
		exec(t, root, "DROP USER modest@localhost")
	})
	cfg.User, cfg.Passwd, cfg.DBName = "modest", "", "modest"
	s := openDSN(t, cfg.FormatDSN())
	skipped := 0
	if err := s.Migrate(testContext(t), func(name string) {
		if strings.Contains(name, "(skipped: ") {
			skipped++
		}
	}); err != nil {
		t.Fatal(err)
	}
	equal(t, "skipped", skipped, 8)
	exec(t, s, "INSERT INTO sync_control (sync_table, sync_type, sync_user) VALUES ('t', 'upload', 'server')")
	if got, err := s.Rules(testContext(t)); err != nil || len(got) != 1 {
		t.Error(got, err)
	}
}

// The account that made the triggers is dropped: every edit fails. The triggers are named, and Migrate makes those anew
// that were dropped.
func TestOrphanedTriggers(t *testing.T) {
	s := open(t)
	if got, err := s.OrphanedTriggers(testContext(t)); err != nil || len(got) > 0 {
		t.Errorf("before: %v, %v", got, err)
	}
	exec(t, s, "CREATE USER dba@localhost")
	t.Cleanup(func() { exec(t, s, "DROP USER IF EXISTS dba@localhost") })
	exec(t, s, "DROP TRIGGER sync_control_edit_insert")
	exec(t, s, "CREATE DEFINER = dba@localhost TRIGGER sync_control_edit_insert AFTER INSERT ON sync_control "+
		"FOR EACH ROW SET @x = 1")
	exec(t, s, "DROP USER dba@localhost")
	got, err := s.OrphanedTriggers(testContext(t))
	if err != nil || !slices.Equal(got, []string{"sync_control_edit_insert on sync_control (dba@localhost)"}) {
		t.Errorf("got %v, %v", got, err)
	}
	exec(t, s, "DROP TRIGGER sync_control_edit_insert")
	var ran []string
	if err := s.Migrate(testContext(t), func(name string) { ran = append(ran, name) }); err != nil {
		t.Fatal(err)
	}
	equal(t, "run again", strings.Join(ran, ","), "0016_sync_control_edit_insert")
	exec(t, s, "INSERT INTO sync_control (sync_table, sync_type, sync_user) VALUES ('t', 'upload', 'server')")
}

func TestOpenRefusesWhatWouldLoseRows(t *testing.T) {
	dsn := localdbtest.New(t) // a server for tests, which is fast and not durable
	_, err := Open(testContext(t), Options{DSN: dsn})
	if !errors.Is(err, ErrUnsafe) {
		t.Fatalf("got %v", err)
	}
	for _, name := range []string{"innodb_flush_log_at_trx_commit is 0", "innodb_doublewrite is OFF"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not told in %v", name, err)
		}
	}
	s := openDSN(t, dsn)
	exec(t, s, "ALTER TABLE sync_quarantine ENGINE = MyISAM")
	facts, err := s.Facts(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(facts.Unsafe(), ";"), "sync_quarantine is MyISAM") {
		t.Error(facts.Unsafe())
	}
	if facts.Version == "" || facts.MaxPacket < 1<<20 || len(facts.Grants) == 0 ||
		facts.Skew.Abs() > time.Minute || facts.Variables["sql_mode"] == "" || facts.User == "" ||
		facts.Database == "" {
		t.Errorf("%+v", facts)
	}
}

// The session is what Open says, whatever the server and the DSN say.
func TestSessionIsSet(t *testing.T) {
	dsn := localdbtest.New(t)
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ParseTime, cfg.MultiStatements, cfg.ClientFoundRows = true, true, false
	cfg.Params = map[string]string{"sql_mode": "''", "time_zone": "'+09:00'", "autocommit": "0"}
	s := openDSN(t, cfg.FormatDSN())
	equal(t, "session", one(t, s, "SELECT CONCAT_WS(' ', IF(@@autocommit, 'ON', 'OFF'), @@character_set_client, "+
		"@@character_set_connection, @@character_set_results)"),
		"ON utf8mb4 utf8mb4 utf8mb4")
	for _, mode := range []string{"STRICT_ALL_TABLES", "NO_AUTO_VALUE_ON_ZERO"} {
		if !strings.Contains(one(t, s, "SELECT @@sql_mode"), mode) {
			t.Errorf("%s is not in sql_mode", mode)
		}
	}
	equal(t, "isolation", one(t, s, "SELECT @@tx_isolation"), "READ-COMMITTED")
	if _, err := s.db.Exec("DO 1; DO 2"); err == nil {
		t.Error("two statements in one")
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("+02:00", 2*3600))
	equal(t, "stamp", stamp(at), "2026-01-02 01:04:05")
}
