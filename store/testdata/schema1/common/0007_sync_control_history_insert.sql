-- optional: needs the TRIGGER privilege, and SUPER or log_bin_trust_function_creators=1 under a binary log
CREATE TRIGGER sync_control_history_insert AFTER INSERT ON sync_control
FOR EACH ROW INSERT INTO sync_control_history (control_id, action, changed_by, row_before, row_after)
VALUES (NEW.id, 'insert', COALESCE(NEW.updated_by, USER()),
    NULL,
    JSON_OBJECT('id', NEW.id,
        'sync_table', NEW.sync_table,
        'sync_type', NEW.sync_type,
        'sync_user', NEW.sync_user,
        'sync_point_no', NEW.sync_point_no,
        'sync_field', NEW.sync_field,
        'sync_range', NEW.sync_range,
        'sync_range_value', NEW.sync_range_value,
        'sync_operation_type', NEW.sync_operation_type,
        'sync_sql', NEW.sync_sql,
        'sync_patch_field', NEW.sync_patch_field,
        'sync_patch_field_value', NEW.sync_patch_field_value,
        'sync_is_carry_state', NEW.sync_is_carry_state,
        'sync_is_use_state_carry_data', NEW.sync_is_use_state_carry_data,
        'sync_is_update_state', NEW.sync_is_update_state,
        'sync_is_update_time', NEW.sync_is_update_time,
        'enabled', NEW.enabled,
        'note', NEW.note))
