CREATE TABLE IF NOT EXISTS sync_log (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'Number of the line',
    at DATETIME(3) NOT NULL COMMENT 'When it happened, UTC',
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point',
    sync_table VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The table',
    sync_type VARCHAR(16) NOT NULL COMMENT 'upload, download, or the name of another request that failed',
    row_count BIGINT UNSIGNED NOT NULL COMMENT 'Rows that moved in this second',
    batches BIGINT UNSIGNED NOT NULL COMMENT 'Requests of this second that moved them or failed; 0: a line of a run that somebody asked for',
    ms BIGINT UNSIGNED NOT NULL COMMENT 'Milliseconds that these took together',
    status SMALLINT UNSIGNED NOT NULL COMMENT 'Number of the outcome, 0: done; syncgate explain-error tells what it means',
    message VARCHAR(1000) NOT NULL COMMENT 'What happened, in words',
    PRIMARY KEY (id),
    KEY sync_log_at (at),
    KEY sync_log_point (point_no, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'What moved and what failed: a row a second for each point, table and direction, and the lines of runs that were asked for'
