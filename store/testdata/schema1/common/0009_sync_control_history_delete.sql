-- optional: needs the TRIGGER privilege, and SUPER or log_bin_trust_function_creators=1 under a binary log
CREATE TRIGGER sync_control_history_delete AFTER DELETE ON sync_control
FOR EACH ROW INSERT INTO sync_control_history (control_id, action, changed_by, row_before, row_after)
VALUES (OLD.id, 'delete', USER(),
    JSON_OBJECT('id', OLD.id,
        'sync_table', OLD.sync_table,
        'sync_type', OLD.sync_type,
        'sync_user', OLD.sync_user,
        'sync_point_no', OLD.sync_point_no,
        'sync_field', OLD.sync_field,
        'sync_range', OLD.sync_range,
        'sync_range_value', OLD.sync_range_value,
        'sync_operation_type', OLD.sync_operation_type,
        'sync_sql', OLD.sync_sql,
        'sync_patch_field', OLD.sync_patch_field,
        'sync_patch_field_value', OLD.sync_patch_field_value,
        'sync_is_carry_state', OLD.sync_is_carry_state,
        'sync_is_use_state_carry_data', OLD.sync_is_use_state_carry_data,
        'sync_is_update_state', OLD.sync_is_update_state,
        'sync_is_update_time', OLD.sync_is_update_time,
        'enabled', OLD.enabled,
        'note', OLD.note),
    NULL)
