package ruleset

import (
	"slices"
	"strings"
	"testing"

	"syncgate/rule"
	"syncgate/store"
)

func generated(id uint64) rule.Row {
	return rule.Row{ID: id, Table: "hits", Type: rule.Upload, User: rule.Server, PointNo: "*", Enabled: true}
}

// fit is how an upload with these columns goes through the rule.
func (w *setWorld) fit(columns ...string) Fit {
	w.Helper()
	r, err := w.Find("hits", rule.Upload, "p")
	if err != nil {
		w.Fatal(err)
	}
	f, err := w.Fit(w.Context(), r, columns)
	if err != nil {
		w.Fatal(err)
	}
	return f
}

func TestColumnsThatDiffer(t *testing.T) {
	w := newSetWorld(t, generated(1))
	w.refresh()
	if f := w.fit("URL", "id"); !f.exact() || f.Plan != f.Rule.Plan || w.asked["columns"] != 0 {
		t.Errorf("the rule's own columns: %+v, asked %v", f, w.asked)
	}
	f := w.fit("id", "site")
	if !slices.Equal(f.Extra, []string{"site"}) || !slices.Equal(f.Missing, []string{"url"}) ||
		!slices.Equal(f.Plan.Fields, []string{"id"}) || strings.Contains(f.Plan.Downside[0].SQL, "url") {
		t.Errorf("%+v", f)
	}
	w.RecordFit(&f, "p")
	w.RecordFit(&f, "p")
	w.refresh()
	want := []store.Difference{{RuleID: 1, Peer: "p", Here: "site", There: "url"}}
	if !slices.Equal(w.differences, want) {
		t.Errorf("recorded %+v", w.differences)
	}
	if r, _ := w.Find("hits", rule.Upload, "p"); r != nil {
		if _, err := w.Fit(w.Context(), r, []string{"url"}); err == nil ||
			!strings.Contains(err.Error(), "the fields lack the key's id") {
			t.Errorf("without the key: %v", err)
		}
	}
}

// A column that the rule does not know has the table looked at before its values are left out.
func TestAnAlterIsSeenAtTheFirstRowWithTheColumn(t *testing.T) {
	w := newSetWorld(t, generated(1))
	w.refresh()
	old := w.tables["hits"]
	now := *old
	now.Columns = append(slices.Clone(old.Columns),
		rule.Column{Name: "site", Type: "varchar", ColumnType: "varchar(10)"})
	w.tables["hits"] = &now
	if f := w.fit("id", "url", "site"); !f.exact() || !slices.Equal(f.Plan.Fields, []string{"id", "url", "site"}) {
		t.Errorf("%+v", f)
	}
	w.tables["hits"] = old
	if f := w.fit("id", "url"); !f.exact() || !slices.Equal(f.Plan.Fields, []string{"id", "url"}) {
		t.Errorf("after the column was dropped: %+v", f)
	}
}
