CREATE OR REPLACE SQL SECURITY INVOKER VIEW sync_control_status AS
SELECT c.id,
       c.sync_table,
       c.sync_type,
       c.sync_user,
       c.sync_point_no,
       c.enabled,
       CASE WHEN c.enabled = 0 THEN 'disabled'
            WHEN s.state = 'broken' OR p.broken > 0 THEN 'broken'
            WHEN p.failing > 0 THEN 'failing'
            WHEN s.state = 'stale' OR p.stale > 0 THEN 'stale'
            ELSE COALESCE(s.state, 'new') END AS state,
       COALESCE(s.error_code, p.error_code) AS error_code,
       COALESCE(s.error_column, IF(s.error_code IS NULL, p.error_column, NULL)) AS error_column,
       s.error_section,
       COALESCE(s.error_line, IF(s.error_code IS NULL, p.error_line, NULL)) AS error_line,
       s.error_position,
       COALESCE(s.error_text, p.error_text) AS error_text,
       w.warnings,
       s.checked_at,
       COALESCE(s.last_run_at, p.last_success_at) AS last_run_at,
       COALESCE(s.runs, 0) AS runs,
       IF(c.sync_user = 'client' AND COALESCE(s.runs, 0) = 0, COALESCE(p.rows_moved, 0), COALESCE(s.rows_moved, 0)) AS rows_moved,
       IF(c.sync_user = 'client' AND COALESCE(s.runs, 0) = 0, COALESCE(p.failures, 0), COALESCE(s.failures, 0)) AS failures,
       s.last_failure,
       s.last_failure_at,
       (SELECT GROUP_CONCAT(CONCAT_WS(', ', CONCAT(d.peer, ' has ', d.missing_here, ', missing here'),
                                      CONCAT(d.peer, ' lacks ', d.missing_there)) ORDER BY d.peer SEPARATOR '; ')
        FROM sync_rule_columns d WHERE d.rule_id = c.id) AS columns_differ,
       (SELECT COUNT(*) FROM sync_quarantine q WHERE q.rule_id = c.id) AS quarantined,
       (SELECT COUNT(*) FROM sync_conflict f WHERE f.rule_id = c.id AND f.taken_at IS NULL) AS conflicts,
       COALESCE(p.points, 0) AS points_reporting,
       COALESCE(p.broken + p.failing + p.stale, 0) AS points_in_trouble,
       p.lag_ms,
       p.backlog_rows,
       p.backlog_bytes,
       p.quarantined AS quarantined_at_points,
       p.last_success_at,
       p.reported_at,
       c.updated_at,
       c.updated_by
FROM sync_control c
LEFT JOIN sync_rule_status s ON s.rule_id = c.id
LEFT JOIN sync_rule_warning w ON w.rule_id = c.id
LEFT JOIN (
    SELECT r.id,
           COUNT(*) AS points,
           SUM(r.state = 'broken') AS broken,
           SUM(r.state = 'failing') AS failing,
           SUM(r.state = 'stale') AS stale,
           MIN(r.error_code) AS error_code,
           MIN(r.error_column) AS error_column,
           MIN(r.error_line) AS error_line,
           MIN(CONCAT('at ', r.point_no, ': ', r.error_text)) AS error_text,
           MAX(r.last_success_at) AS last_success_at,
           MAX(r.lag_ms) AS lag_ms,
           SUM(r.backlog_rows) AS backlog_rows,
           SUM(r.backlog_bytes) AS backlog_bytes,
           SUM(r.quarantined) AS quarantined,
           SUM(r.rows_moved) AS rows_moved,
           SUM(r.failures) AS failures,
           MAX(r.reported_at) AS reported_at
    FROM (SELECT rule_id AS id, t.* FROM sync_point_status t WHERE rule_id IS NOT NULL
          UNION ALL
          SELECT client_rule_id AS id, t.* FROM sync_point_status t WHERE client_rule_id IS NOT NULL) r
    GROUP BY r.id) p ON p.id = c.id
