package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"syncgate/rule"
	"syncgate/store/localdb/localdbtest"
)

// Whatever types the original's sync_control has, Migrate adopts it, its rows read as they are meant, and an edit can
// be undone from the history.
func TestMigrateAdoptsTheOriginal(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, Options{DSN: localdbtest.New(t), AcceptUnsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, q := range []string{
		`CREATE TABLE sync_control (sync_type CHAR(20), sync_table TEXT, id INT PRIMARY KEY AUTO_INCREMENT,
			sync_user VARCHAR(20), sync_point_no INT,
			sync_field TEXT, sync_range TEXT, sync_range_value TEXT, sync_operation_type TEXT, sync_sql TEXT,
			sync_patch_field TEXT, sync_patch_field_value TEXT,
			sync_is_carry_state TEXT, sync_is_use_state_carry_data TEXT, sync_is_update_state TEXT,
			sync_is_update_time TEXT) ENGINE = MyISAM CHARSET = latin1`,
		`INSERT INTO sync_control VALUES ('Upload ', 'T ', 4, 'SERVER', 7, NULL, 'Period', 'day: 3', NULL, 'x',
			NULL, NULL, 'True', '0', '', NULL),
			(NULL, NULL, 5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '1', 'False', '0', 'None')`,
	} {
		if _, err := s.db.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	if original, err := s.Original(ctx); err != nil || !original {
		t.Fatalf("%v, %v", original, err)
	}
	for range 2 {
		if err := s.Migrate(ctx, nil); err != nil {
			t.Fatal(err)
		}
	}
	if original, err := s.Original(ctx); err != nil || original {
		t.Fatalf("%v, %v", original, err)
	}
	rows, err := s.Rules(ctx)
	if err != nil {
		t.Fatal(err)
	}
	first := rule.Row{ID: 4, Type: "upload", Table: "T", User: "server", PointNo: "7", Range: "period",
		RangeValue: "day: 3", SQL: "x", CarryState: true, Enabled: true}
	want := []rule.Row{first, {ID: 5, CarryState: true, Enabled: true}}
	for i := range rows {
		rows[i].UpdatedAt, rows[i].UpdatedBy = "", ""
	}
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if _, err := s.db.ExecContext(ctx, "UPDATE sync_control SET sync_sql = 'y', enabled = 0 WHERE id = 4"); err != nil {
		t.Fatal(err)
	}
	edits, err := s.History(ctx, 4, 1)
	if err != nil || len(edits) != 1 || edits[0].Before.SQL != "x" || !edits[0].Before.CarryState ||
		edits[0].Before.PointNo != "7" || edits[0].After.Enabled {
		t.Fatalf("%+v, %v", edits, err)
	}
	if _, err := s.SaveRule(ctx, *edits[0].Before); err != nil {
		t.Fatal(err)
	}
	if rows, err = s.Rules(ctx); err != nil || rows[0].SQL != "x" || !rows[0].Enabled || !rows[0].CarryState {
		t.Errorf("%+v, %v", rows, err)
	}
	var columns int
	if err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'sync_control'
		AND extra NOT LIKE '%INVISIBLE%'`).Scan(&columns); err != nil || columns != 16 {
		t.Errorf("SELECT * gives %d columns, %v", columns, err)
	}
}
