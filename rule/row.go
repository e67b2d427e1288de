package rule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"syncgate/internal/rowset"
)

// Row is a row of sync_control as the DBA wrote it. NULL reads as "". The tags are the columns' names.
type Row struct {
	ID              uint64 `json:"id"`
	Table           string `json:"sync_table"`
	Type            string `json:"sync_type"`     // upload or download
	User            string `json:"sync_user"`     // server or client
	PointNo         string `json:"sync_point_no"` // "*" is every point without a row of its own
	Field           string `json:"sync_field"`    // empty is every column in ordinal order
	Range           string `json:"sync_range"`    // empty or "period"
	RangeValue      string `json:"sync_range_value"`
	OperationType   string `json:"sync_operation_type"`
	SQL             string `json:"sync_sql"`
	PatchField      string `json:"sync_patch_field"`
	PatchFieldValue string `json:"sync_patch_field_value"`

	CarryState      bool `json:"sync_is_carry_state"`
	UseCarriedState bool `json:"sync_is_use_state_carry_data"`
	UpdateState     bool `json:"sync_is_update_state"`
	UpdateTime      bool `json:"sync_is_update_time"`
	Enabled         bool `json:"enabled"`

	Note      string `json:"note"`
	UpdatedAt string `json:"updated_at,omitempty"`
	UpdatedBy string `json:"updated_by,omitempty"`
}

// The words of sync_type, sync_user, sync_range, and the point that stands for all.
const (
	Upload   = "upload"
	Download = "download"
	Server   = "server"
	Client   = "client"
	Period   = "period"
	AnyPoint = "*"
)

// Table is what the database says about a table: information_schema's facts.
type Table struct {
	Schema string `json:"schema,omitempty"` // the database in front of the name; empty is the session's own
	Name   string `json:"name"`             // as the database writes it
	Engine string `json:"engine"`
	// NoRollback: the engine keeps what a transaction wrote that is rolled back.
	NoRollback bool     `json:"no_rollback,omitempty"`
	Columns    []Column `json:"columns"` // in ordinal order
	Keys       []Key    `json:"keys"`
	Changes    *Changes `json:"changes,omitempty"` // nil: they are not recorded
	Parents    []string `json:"parents,omitempty"` // the tables that foreign keys refer to, as a rule names them
	// Referred: some table has a foreign key that refers to this one. Known where a second unique key makes it matter.
	Referred bool `json:"referred,omitempty"`
	Unseen   bool `json:"unseen,omitempty"` // the account may not see the transactions of others
}

// Changes says whether a table's changes are recorded.
type Changes struct {
	Name     string   `json:"name"`             // of the change table, quoted
	Sequence string   `json:"sequence"`         // the table's row in sync_sequence
	Faults   []string `json:"faults,omitempty"` // why they are not recorded
}

// Column is one column of a Table.
type Column struct {
	Name       string `json:"name"`
	Type       string `json:"type"`        // data_type in lower case: varchar, datetime
	ColumnType string `json:"column_type"` // column_type: varchar(64), decimal(12,2)
	Nullable   bool   `json:"nullable,omitempty"`
	Auto       bool   `json:"auto,omitempty"`      // auto_increment
	OnUpdate   bool   `json:"on_update,omitempty"` // on update current_timestamp
	Generated  bool   `json:"generated,omitempty"` // computed by the database, cannot be written
	HasDefault bool   `json:"has_default,omitempty"`
	Unsigned   bool   `json:"unsigned,omitempty"`
	Binary     bool   `json:"binary,omitempty"`    // values are bytes, not text
	Invisible  bool   `json:"invisible,omitempty"` // SELECT * leaves it out
	Collation  string `json:"collation,omitempty"`
}

// Key is one index of a Table with its columns in index order.
type Key struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Unique  bool     `json:"unique,omitempty"`
	Primary bool     `json:"primary,omitempty"`
}

// Column finds a column by name; names compare as MySQL compares them, without case.
func (t *Table) Column(name string) *Column {
	if t != nil {
		for i := range t.Columns {
			if sameName(t.Columns[i].Name, name) {
				return &t.Columns[i]
			}
		}
	}
	return nil
}

// names is the columns that are wanted.
func (t *Table) names(wanted func(*Column) bool) (names []string) {
	for i := range t.Columns {
		if wanted(&t.Columns[i]) {
			names = append(names, t.Columns[i].Name)
		}
	}
	return names
}

// primaryKey is the names of the primary key's columns in key order, or nil.
func (t *Table) primaryKey() []string {
	for _, k := range t.Keys {
		if k.Primary {
			return k.Columns
		}
	}
	return nil
}

// hasKeyOn reports whether some index begins with the column.
func (t *Table) hasKeyOn(column string) bool {
	return slices.ContainsFunc(t.Keys, func(k Key) bool { return len(k.Columns) > 0 && sameName(k.Columns[0], column) })
}

// sameName compares names of columns and parameters as MySQL does.
func sameName(a, b string) bool { return strings.EqualFold(a, b) }

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
