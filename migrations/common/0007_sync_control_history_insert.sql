-- optional: needs the TRIGGER privilege, and SUPER or log_bin_trust_function_creators=1 under a binary log
CREATE /*M! OR REPLACE */ TRIGGER sync_control_history_insert AFTER INSERT ON sync_control
FOR EACH ROW INSERT INTO sync_control_history (control_id, action, changed_by, row_before, row_after)
VALUES (NEW.id, 'insert', COALESCE(NEW.updated_by, USER()), NULL, JSON_OBJECT({new row}))
