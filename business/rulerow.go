package business

import (
	"syncgate/protocol"
	"syncgate/rule"
)

// ruleRow is a row of sync_control as it travels: columns by name, flags as 0 and 1.
func ruleRow(r *rule.Row) protocol.RuleRow {
	flag := func(b bool) any {
		if b {
			return int64(1)
		}
		return int64(0)
	}
	return protocol.RuleRow{
		{Name: "id", Value: int64(r.ID)},
		{Name: "sync_table", Value: r.Table},
		{Name: "sync_type", Value: r.Type},
		{Name: "sync_user", Value: r.User},
		{Name: "sync_point_no", Value: r.PointNo},
		{Name: "sync_field", Value: r.Field},
		{Name: "sync_range", Value: r.Range},
		{Name: "sync_range_value", Value: r.RangeValue},
		{Name: "sync_operation_type", Value: r.OperationType},
		{Name: "sync_sql", Value: r.SQL},
		{Name: "sync_patch_field", Value: r.PatchField},
		{Name: "sync_patch_field_value", Value: r.PatchFieldValue},
		{Name: "sync_is_carry_state", Value: flag(r.CarryState)},
		{Name: "sync_is_use_state_carry_data", Value: flag(r.UseCarriedState)},
		{Name: "sync_is_update_state", Value: flag(r.UpdateState)},
		{Name: "sync_is_update_time", Value: flag(r.UpdateTime)},
		{Name: "enabled", Value: flag(r.Enabled)},
		{Name: "note", Value: r.Note},
		{Name: "updated_at", Value: r.UpdatedAt},
		{Name: "updated_by", Value: r.UpdatedBy},
	}
}
