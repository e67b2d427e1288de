CREATE TABLE IF NOT EXISTS sync_conflict (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'Primary key',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When the conflict was found',
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point whose row met another version',
    rule_id BIGINT UNSIGNED NOT NULL COMMENT 'sync_control.id of the rule that applied the row',
    sync_table VARCHAR(129) NOT NULL COMMENT 'The table',
    settled VARCHAR(16) NOT NULL COMMENT 'Option of the rule that settled it: centre, point or newest',
    kept_row LONGTEXT NULL COMMENT 'The version that stayed, as JSON; NULL: the row was deleted',
    kept_origin VARCHAR(64) NULL COMMENT 'Where it came from; NULL: this database',
    kept_at TIMESTAMP(6) NULL COMMENT 'When it was changed',
    lost_row LONGTEXT NULL COMMENT 'The version that lost, as JSON; NULL: the row was deleted',
    lost_origin VARCHAR(64) NULL COMMENT 'Where it came from; NULL: this database',
    lost_at TIMESTAMP(6) NULL COMMENT 'When it was changed',
    row_key LONGTEXT NOT NULL COMMENT 'The key of both, as JSON',
    taken_at TIMESTAMP(6) NULL COMMENT 'When a person put the version that lost into the table',
    PRIMARY KEY (id),
    KEY sync_table (sync_table, created_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Rows that two sides changed at once, and which version lost'
