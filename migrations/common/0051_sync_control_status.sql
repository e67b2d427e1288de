CREATE OR REPLACE SQL SECURITY INVOKER VIEW sync_control_status AS
SELECT c.id,
       c.sync_table,
       c.sync_type,
       c.sync_user,
       c.sync_point_no,
       c.enabled,
       COALESCE(s.state, 'new') AS state,
       s.error_code,
       s.error_column,
       s.error_section,
       s.error_line,
       s.error_position,
       s.error_text,
       w.warnings,
       s.checked_at,
       s.last_run_at,
       COALESCE(s.runs, 0) AS runs,
       COALESCE(s.rows_moved, 0) AS rows_moved,
       COALESCE(s.failures, 0) AS failures,
       s.last_failure,
       s.last_failure_at,
       (SELECT GROUP_CONCAT(CONCAT_WS(', ', CONCAT(d.peer, ' has ', d.missing_here, ', missing here'),
                                      CONCAT(d.peer, ' lacks ', d.missing_there)) ORDER BY d.peer SEPARATOR '; ')
        FROM sync_rule_columns d WHERE d.rule_id = c.id) AS columns_differ,
       (SELECT COUNT(*) FROM sync_quarantine q WHERE q.rule_id = c.id) AS quarantined,
       (SELECT COUNT(*) FROM sync_conflict f WHERE f.rule_id = c.id AND f.taken_at IS NULL) AS conflicts,
       c.updated_at,
       c.updated_by
FROM sync_control c
LEFT JOIN sync_rule_status s ON s.rule_id = c.id
LEFT JOIN sync_rule_warning w ON w.rule_id = c.id
