package rule

import (
	"encoding/json"
	"fmt"
	"slices"

	"syncgate/internal/rowset"
)

// Fit says how rows with these columns go through the downside. Extra are the columns that are no fields of the rule:
// their values are left out. Missing are the fields that do not come. Where SQL was generated, fit is a plan without
// them, so that an insert gives them their default and an update leaves them as they are. Otherwise fit is p, and the
// rows do not fit. The error says why no plan can be made.
func (p *Plan) Fit(columns []string) (fit *Plan, extra, missing []string, err error) {
	for _, col := range columns {
		if !contains(p.Fields, col) && col != rowset.Deleted && col != rowset.ChangedAt {
			extra = append(extra, col)
		}
	}
	var rest []string
	for _, f := range p.Fields {
		if contains(columns, f) {
			rest = append(rest, f)
		} else {
			missing = append(missing, f)
		}
	}
	if len(missing) == 0 || p.Form != Generated || len(p.Downside) == 0 {
		return p, extra, missing, nil
	}
	list, err := json.Marshal(rest)
	if err != nil {
		return nil, extra, missing, err
	}
	row := p.Row
	row.Field = string(list)
	fit, ds := Compile(row, p.Table)
	if fit == nil {
		return nil, extra, missing, fmt.Errorf("%s", firstError(ds).Message)
	}
	fit.Row = p.Row
	return fit, extra, missing, nil
}

// Altered reports whether the table has got other columns since its facts were read. columns are what SELECT * gives.
func (t *Table) Altered(columns []string) bool {
	return !slices.Equal(columns, t.names(func(col *Column) bool { return !col.Invisible }))
}

// fieldsOf are the fields of a rule without SQL of its own: those of sync_field that the table has, or all columns that
// can be written.
func (r *Row) fieldsOf(t *Table, listed []string) []string {
	if len(listed) == 0 {
		return t.names(func(col *Column) bool { return !col.Generated })
	}
	var fields []string
	for _, n := range listed {
		if col := t.Column(n); col != nil && !(col.Generated && r.mainPhase() == downside) {
			fields = append(fields, n)
		}
	}
	return fields
}
