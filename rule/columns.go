package rule

import "syncgate/internal/rowset"

// ControlColumn is one column of sync_control.
type ControlColumn struct {
	Name    string
	Type    string           // SQL type, NULL and default in sync_control
	Fetched string           // the same in the agent's sync_agent_rule; empty: Type
	Field   func(r *Row) any // where a Row keeps it: *uint64, *string or *bool
	Comment string           // shown by a DBA's client
}

// Columns are the columns of sync_control in the order of the table. Every list of them is made from one value of this
// type: the tables and triggers, the statements that read and write rules, the history, and the rows of a RULES reply.
type Columns []ControlColumn

// ControlColumns declares sync_control. A new column is one line here, beside its field in Row: the next migration
// adds it to the tables. A column whose type changes needs a migration of its own for sync_control and sync_agent_rule.
func ControlColumns() Columns {
	const (
		flag    = "TINYINT(1) NOT NULL DEFAULT 0"
		pointNo = "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
		word    = "VARCHAR(16)"
	)
	return Columns{
		{"id", "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT", "BIGINT UNSIGNED NOT NULL", func(r *Row) any { return &r.ID },
			"Number of the rule; diagnostics, the status view and the history name it"},
		{"sync_table", "VARCHAR(129) NOT NULL", "VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL",
			func(r *Row) any { return &r.Table }, "The table the rule is about"},
		{"sync_type", "ENUM('upload', 'download') NOT NULL", word + " NOT NULL", func(r *Row) any { return &r.Type },
			"upload: point to centre; download: centre to point"},
		{"sync_user", "ENUM('server', 'client') NOT NULL", word + " NOT NULL", func(r *Row) any { return &r.User },
			"Whose rule it is: server is run by the gateway, client by the agent at the point"},
		{"sync_point_no", pointNo + " DEFAULT '*'", pointNo, func(r *Row) any { return &r.PointNo },
			"The detection point; * is every point without a row of its own for this table and type"},
		{"sync_field", "TEXT NULL", "", func(r *Row) any { return &r.Field },
			"Fields in wire order; empty means every column in the order of the table"},
		{"sync_range", "ENUM('', 'period') NULL", word + " NULL", func(r *Row) any { return &r.Range },
			"Empty, or period: the statement reads from :since until :until"},
		{"sync_range_value", word + " NULL", "", func(r *Row) any { return &r.RangeValue },
			"Length of the period: hour:6, day:3, week:1 or month:2 (a month is 30 days)"},
		{"sync_operation_type", "TEXT NULL", "", func(r *Row) any { return &r.OperationType },
			"For each phase a chain of insert, update, delete, replace, select, file, joined by |"},
		{"sync_sql", "MEDIUMTEXT NULL", "", func(r *Row) any { return &r.SQL },
			"For each phase one statement an operation; empty lets syncgate write them from the table itself"},
		{"sync_patch_field", "MEDIUMTEXT NULL", "", func(r *Row) any { return &r.PatchField },
			"For each phase and operation the fields that fill the placeholders"},
		{"sync_patch_field_value", "MEDIUMTEXT NULL", "", func(r *Row) any { return &r.PatchFieldValue },
			"For each of those where its value comes from: transfer, carry or fixed"},
		{"sync_is_carry_state", flag, "", func(r *Row) any { return &r.CarryState },
			"1: a download request carries state read at the point"},
		{"sync_is_use_state_carry_data", flag, "", func(r *Row) any { return &r.UseCarriedState },
			"1: the upside statement of the server is bound to the carried state"},
		{"sync_is_update_state", flag, "", func(r *Row) any { return &r.UpdateState },
			"1: run the update_state phase after success"},
		{"sync_is_update_time", flag, "", func(r *Row) any { return &r.UpdateTime },
			"1: update_time becomes now when the row is applied"},
		{"enabled", "TINYINT(1) NOT NULL DEFAULT 1", "", func(r *Row) any { return &r.Enabled },
			"0 switches the rule off and keeps it"},
		{"note", "VARCHAR(1000) NULL", "", func(r *Row) any { return &r.Note }, "Why the rule is as it is"},
		{"updated_at", "TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)",
			"VARCHAR(32) NULL", func(r *Row) any { return &r.UpdatedAt }, "When the row was last changed"},
		{"updated_by", "VARCHAR(384) NULL", "", func(r *Row) any { return &r.UpdatedBy },
			"Who changed it last, where triggers are allowed"},
	}
}

// Edited reports whether a DBA edits the column. The database numbers and stamps the row by itself.
func (c *ControlColumn) Edited() bool {
	return c.Name != "id" && c.Name != "updated_at" && c.Name != "updated_by"
}

// Value is the column of a row as SQL and the wire have it: int64, 0 or 1 for a flag, or string.
func (c *ControlColumn) Value(r *Row) any {
	switch field := c.Field(r).(type) {
	case *uint64:
		return int64(*field)
	case *bool:
		if *field {
			return int64(1)
		}
		return int64(0)
	default:
		return *field.(*string)
	}
}

// Items is a row as it travels: each column by name with its Value.
func (cs Columns) Items(r *Row) []rowset.StateItem {
	items := make([]rowset.StateItem, len(cs))
	for i := range cs {
		items[i] = rowset.StateItem{Name: cs[i].Name, Value: cs[i].Value(r)}
	}
	return items
}
