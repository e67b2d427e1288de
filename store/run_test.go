package store

import (
	"errors"
	"strings"
	"testing"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

func TestRowsFitTheRule(t *testing.T) {
	p := &rule.Plan{Fields: []string{"id", "Url"}}
	for _, tc := range []struct {
		columns []string
		values  []any
		says    string // of the mismatch; "" when there is none
	}{
		{[]string{"id", "url"}, []any{1, 2}, ""},
		{[]string{"URL", "ID"}, []any{2, 1}, ""},
		{[]string{"", ""}, []any{1, 2, 3, 4}, ""},
		{nil, nil, ""},
		{[]string{"id", "url"}, nil, ""},
		{[]string{"id"}, []any{1}, `"Url" is a field of the rule and not`},
		{[]string{"id", "url", "id"}, []any{1, 2, 3}, `"id" comes twice`},
		{[]string{"plate", "id", "url"}, []any{3, 1, 2}, ""},
		{[]string{"id", "plate"}, []any{1, 2}, `"Url" is a field of the rule and not`},
		{[]string{"id", "url", "sync_deleted"}, []any{1, 2, 1}, "does not delete rows"},
		{[]string{""}, []any{1, 2}, "1 values a row, the rule has 2 fields"},
		{[]string{"", "", ""}, []any{1, 2, 3}, ""}, // the original did not look behind the fields
		{nil, []any{1, 2, 3}, "3 values, the rule has 2 fields a row"},
	} {
		rows, _, err := fit(rowset.Rows{Columns: tc.columns, Values: tc.values}, p)
		var mismatch *MismatchError
		switch {
		case tc.says == "" && err != nil:
			t.Errorf("%q: %v", tc.columns, err)
		case tc.says == "" && rows.Len() > 0 && (rows.Row(0)[0] != 1 || rows.Row(0)[1] != 2):
			t.Errorf("%q: the first row is %v", tc.columns, rows.Row(0))
		case tc.says != "" && (!errors.As(err, &mismatch) || !errors.Is(err, ErrMismatch) ||
			!strings.Contains(mismatch.Reason, tc.says)):
			t.Errorf("%q: %v, want %q", tc.columns, err, tc.says)
		}
	}
}
