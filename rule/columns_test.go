package rule

import (
	"reflect"
	"strings"
	"testing"
)

// The name of each column is the tag of the field that it is kept in, so that two columns can't be switched.
func TestColumnsAreKeptInTheirFields(t *testing.T) {
	columns, row := ControlColumns(), Row{}
	fields := reflect.ValueOf(&row).Elem()
	if len(columns) != fields.NumField() {
		t.Errorf("%d columns for the %d fields of Row", len(columns), fields.NumField())
	}
	for i, c := range columns {
		tag, _, _ := strings.Cut(fields.Type().Field(i).Tag.Get("json"), ",")
		if tag != c.Name || c.Field(&row) != fields.Field(i).Addr().Interface() {
			t.Errorf("column %d is %s, and field %d of Row is for %s", i, c.Name, i, tag)
		}
		if c.Comment == "" || strings.ContainsAny(c.Comment, "'\\") {
			t.Errorf("%s: the comment %q cannot stand in CREATE TABLE", c.Name, c.Comment)
		}
	}
}

func TestItems(t *testing.T) {
	row := Row{ID: 1<<63 - 1, Table: "t", Enabled: true}
	got := map[string]any{}
	for _, item := range ControlColumns().Items(&row) {
		got[item.Name] = item.Value
	}
	for name, want := range map[string]any{
		"id": int64(1<<63 - 1), "sync_table": "t", "enabled": int64(1), "sync_is_carry_state": int64(0), "note": "",
	} {
		if got[name] != want {
			t.Errorf("%s is %v", name, got[name])
		}
	}
}
