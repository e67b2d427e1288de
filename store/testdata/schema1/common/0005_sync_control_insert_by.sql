-- optional: needs the TRIGGER privilege, and SUPER or log_bin_trust_function_creators=1 under a binary log
CREATE TRIGGER sync_control_insert_by BEFORE INSERT ON sync_control
FOR EACH ROW SET NEW.updated_by = COALESCE(NEW.updated_by, USER())
