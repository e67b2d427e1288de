-- optional: needs the TRIGGER privilege, and SUPER or log_bin_trust_function_creators=1 under a binary log
CREATE TRIGGER sync_control_update_by BEFORE UPDATE ON sync_control
FOR EACH ROW SET NEW.updated_by = IF(NEW.updated_by <=> OLD.updated_by, USER(), NEW.updated_by)
