-- optional: needs the TRIGGER privilege, and SUPER or log_bin_trust_function_creators=1 under a binary log
CREATE TRIGGER sync_control_edit_insert AFTER INSERT ON sync_control
FOR EACH ROW INSERT INTO sync_control_edit (slot, edited)
VALUES (CONNECTION_ID() % 64, UNIX_TIMESTAMP(NOW(6)) * 1000000)
ON DUPLICATE KEY UPDATE edited = GREATEST(edited + 1, VALUES(edited))
