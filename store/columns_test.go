package store

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"syncgate/internal/rowset"
	"syncgate/migrations"
	"syncgate/rule"
	"syncgate/store/localdb/localdbtest"
)

// fullRow has another value in every column.
func fullRow() rule.Row {
	return rule.Row{ID: 7, Table: "t", Type: rule.Download, User: rule.Client, PointNo: "p", Field: "f",
		Range: rule.Period, RangeValue: "day:3", OperationType: "o", SQL: "s", PatchField: "pf", PatchFieldValue: "pv",
		UseCarriedState: true, UpdateTime: true, Note: "n"}
}

// A column that is added to a copy of the declaration is in the tables of a database that was made without it, and in
// every statement: rules are read and saved with it, the history keeps it, it travels, and the point keeps it.
func TestADeclaredColumnIsFollowedEverywhere(t *testing.T) {
	s := open(t, func(o *Options) { o.Set = migrations.Agent })
	for _, table := range []string{"sync_control", "sync_agent_rule"} {
		exec(t, s, "INSERT INTO "+table+` (id, sync_table, sync_type, sync_user, sync_point_no)
			VALUES (1, 'before', 'upload', 'server', '*')`)
	}

	// Row has no fields for the new columns: one borrows that of updated_by, the other has a variable.
	declared := rule.ControlColumns()
	i := slices.IndexFunc(declared, func(c rule.ControlColumn) bool { return c.Name == "note" })
	var flag bool
	s.columns = columns(slices.Insert(declared, i,
		rule.ControlColumn{Name: "sync_extra", Type: "VARCHAR(20) NULL", Comment: "test",
			Field: func(r *rule.Row) any { return &r.UpdatedBy }},
		rule.ControlColumn{Name: "sync_is_extra", Type: "TINYINT(1) NOT NULL DEFAULT 1", Comment: "test",
			Field: func(*rule.Row) any { return &flag }}))
	s.columns = slices.DeleteFunc(s.columns, func(c rule.ControlColumn) bool { return c.Name == "updated_by" })
	if _, err := s.CheckSchema(testContext(t)); err == nil {
		t.Error("the schema without the column is not older")
	}
	for range 2 {
		if err := s.Migrate(testContext(t), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, table := range []string{"sync_control", "sync_agent_rule"} {
		equal(t, table, one(t, s, `SELECT GROUP_CONCAT(column_name ORDER BY ordinal_position)
			FROM information_schema.columns
			WHERE table_schema = DATABASE() AND table_name = ? AND ordinal_position BETWEEN 17 AND 20`, table),
			"enabled,sync_extra,sync_is_extra,note")
	}
	_, err := s.db.Exec("UPDATE sync_control SET sync_is_extra = 2")
	if err == nil || !strings.Contains(err.Error(), "sync_is_extra must be 0 or 1") {
		t.Errorf("a flag of 2: %v", err)
	}

	want := fullRow()
	want.UpdatedBy = "extra"
	flag = false
	if _, err := s.SaveRule(testContext(t), want); err != nil {
		t.Fatal(err)
	}
	equal(t, "saved", one(t, s, "SELECT CONCAT(sync_extra, sync_is_extra) FROM sync_control WHERE id = 7"), "extra0")
	got, err := s.Rules(testContext(t))
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	got[1].UpdatedAt = ""
	equal(t, "read", got[1], want)

	version := rulesVersion(t, s)
	exec(t, s, "UPDATE sync_control SET sync_extra = 'other', sync_is_extra = 1 WHERE id = 7")
	if rulesVersion(t, s) == version {
		t.Error("the version does not see the column")
	}
	edits, err := s.History(testContext(t), 7, 1)
	if err != nil || len(edits) != 1 {
		t.Fatal(edits, err)
	}
	equal(t, "history", edits[0].Before.UpdatedBy+" "+edits[0].After.UpdatedBy, "extra other")
	if _, err := s.SaveRule(testContext(t), *edits[0].Before); err != nil {
		t.Fatal(err)
	}
	equal(t, "undone", one(t, s, "SELECT sync_extra FROM sync_control WHERE id = 7"), "extra")
	if edits, err = s.History(testContext(t), 1, 1); err != nil || len(edits) != 1 || edits[0].After == nil || !flag {
		t.Errorf("an edit from before the column: %+v %v, flag %v", edits, err, flag)
	}

	flag = false
	err = s.InTx(testContext(t), func(tx *Tx) error {
		items := rule.Columns(s.columns).Items(&want)
		return tx.SaveFetchedRules(testContext(t), [][]rowset.StateItem{items, {
			{Name: "id", Value: int64(8)}, {Name: "sync_table", Value: "t"}, {Name: "sync_type", Value: "changes"},
			{Name: "sync_user", Value: "client"}, {Name: "sync_point_no", Value: "*"},
			{Name: "note) --", Value: "not declared"}, {Name: "sync_field", Value: nil}}})
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "at the point", one(t, s, `SELECT GROUP_CONCAT(id, sync_table, COALESCE(sync_extra, '-'),
		sync_is_extra, enabled
		ORDER BY id) FROM sync_agent_rule`), "7textra00,8t-11")
	if got, err = s.FetchedRules(testContext(t)); err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	equal(t, "fetched", got[0], want)
}

// Each column holds what was saved in its field, by a statement that is not made from the declaration.
func TestNoTwoColumnsAreSwitched(t *testing.T) {
	s := open(t)
	if _, err := s.SaveRule(testContext(t), fullRow()); err != nil {
		t.Fatal(err)
	}
	equal(t, "saved", one(t, s, `SELECT CONCAT_WS(',', id, sync_table, sync_type, sync_user, sync_point_no, sync_field,
		sync_range, sync_range_value, sync_operation_type, sync_sql, sync_patch_field, sync_patch_field_value,
		sync_is_carry_state, sync_is_use_state_carry_data, sync_is_update_state, sync_is_update_time, enabled, note)
		FROM sync_control`),
		"7,t,download,client,p,f,period,day:3,o,s,pf,pv,0,1,0,1,0,n")
	got, err := s.Rules(testContext(t))
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	got[0].UpdatedAt, got[0].UpdatedBy = "", ""
	equal(t, "read", got[0], fullRow())
	edits, err := s.History(testContext(t), 7, 1)
	if err != nil || len(edits) != 1 {
		t.Fatal(edits, err)
	}
	equal(t, "history", *edits[0].After, fullRow())
}

// schemaOf describes syncgate's tables and triggers as the database has them, without comments.
func schemaOf(t *testing.T, s *Store) string {
	t.Helper()
	exec(t, s, "SET SESSION group_concat_max_len = 1000000")
	return one(t, s, `SELECT GROUP_CONCAT(CONCAT_WS(' ', table_name, ordinal_position, column_name,
		column_type, is_nullable,
		COALESCE(column_default, '-'), COALESCE(collation_name, '-'), column_key, extra)
		ORDER BY table_name, ordinal_position SEPARATOR '\n')
		FROM information_schema.columns WHERE table_schema = DATABASE()`) + "\n" +
		one(t, s, `SELECT GROUP_CONCAT(trigger_name, ' ', action_statement ORDER BY trigger_name SEPARATOR '\n')
		FROM information_schema.triggers WHERE trigger_schema = DATABASE()`) + "\n" +
		one(t, s, `SELECT GROUP_CONCAT(constraint_name, ' ', check_clause ORDER BY constraint_name SEPARATOR '\n')
		FROM information_schema.check_constraints WHERE constraint_schema = DATABASE()`)
}

// A database of the first schema, testdata/schema1, comes forward with its rules and their history, and is then as one
// that was made today.
func TestMigrateFromTheFirstSchema(t *testing.T) {
	for _, set := range []migrations.Set{migrations.Server, migrations.Agent} {
		dsn := localdbtest.New(t)
		s, err := Open(testContext(t), Options{DSN: dsn, AcceptUnsafe: true, Set: set, MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		firstSchema(t, s, set)
		exec(t, s, `INSERT INTO sync_control (id, sync_table, sync_type, sync_user, sync_sql)
			VALUES (3, 't', 'upload', 'server', 'select "ü"')`)
		exec(t, s, "UPDATE sync_control SET enabled = 0")
		if set == migrations.Agent {
			exec(t, s, `INSERT INTO sync_agent_rule (id, sync_table, sync_type, sync_user, sync_point_no, note)
				VALUES (9, 't', 'upload', 'client', '*', 'kept')`)
		}
		if err := s.Migrate(testContext(t), nil); err != nil {
			t.Fatal(err)
		}
		rules, err := s.Rules(testContext(t))
		if err != nil || len(rules) != 1 || rules[0].SQL != `select "ü"` || rules[0].Enabled {
			t.Error(rules, err)
		}
		exec(t, s, "UPDATE sync_control SET note = 'new'")
		edits, err := s.History(testContext(t), 3, 10)
		if err != nil || len(edits) != 3 {
			t.Fatal(edits, err)
		}
		if edits[0].After.Note != "new" || !edits[1].Before.Enabled || edits[1].After.Enabled {
			t.Errorf("%+v", edits)
		}
		if set == migrations.Agent {
			fetched, err := s.FetchedRules(testContext(t))
			if err != nil || len(fetched) != 1 || fetched[0].Note != "kept" || !fetched[0].Enabled {
				t.Error(fetched, err)
			}
		}
		fresh := open(t, func(o *Options) { o.Set, o.MaxConns = set, 1 })
		equal(t, string(set), schemaOf(t, s), schemaOf(t, fresh))
	}
}

func firstSchema(t *testing.T, s *Store, set migrations.Set) {
	t.Helper()
	const dir = "testdata/schema1"
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	exec(t, s, read(dir+"/sync_migration.sql"))
	for _, part := range []string{"common", string(set)} {
		files, err := filepath.Glob(filepath.Join(dir, part, "*.sql"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			text := read(file)
			exec(t, s, text)
			hash := sha256.Sum256([]byte(text))
			exec(t, s, "INSERT INTO sync_migration (name, hash) VALUES (?, ?)",
				strings.TrimSuffix(filepath.Base(file), ".sql"), hex.EncodeToString(hash[:]))
		}
	}
}
