CREATE TABLE IF NOT EXISTS sync_resync (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'Number of the comparison',
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point that compares its rows with those of the centre',
    sync_table VARCHAR(129) NOT NULL COMMENT 'The table, as rules name it',
    sync_type VARCHAR(16) NOT NULL COMMENT 'Which side is right; upload: the point, download: the centre',
    row_condition TEXT NOT NULL COMMENT 'Which rows are compared; empty: all',
    dry_run TINYINT(1) NOT NULL DEFAULT 0 COMMENT '1: nothing is sent',
    state ENUM('asked', 'running', 'done', 'failed') NOT NULL DEFAULT 'asked' COMMENT 'asked: the point has not begun',
    requested_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was asked for',
    reported_at TIMESTAMP(6) NULL COMMENT 'When the point last reported',
    compared BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Rows of the point that were compared',
    missing_there BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Rows that the centre did not have',
    missing_here BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Rows that the point did not have',
    different BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Rows that both had with different values',
    note TEXT NULL COMMENT 'The first keys that differ, or why it failed',
    PRIMARY KEY (id),
    KEY sync_resync_of (point_no, state, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Comparisons of a table at a point with the centre, as syncgate rules resync asks for them'
