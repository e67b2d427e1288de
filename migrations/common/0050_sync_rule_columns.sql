CREATE TABLE IF NOT EXISTS sync_rule_columns (
    rule_id BIGINT UNSIGNED NOT NULL COMMENT 'sync_control.id',
    peer VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The other end: a point, or at a point the centre',
    missing_here TEXT NULL COMMENT 'Columns that the peer has and this end lacks; their values are left out',
    missing_there TEXT NULL COMMENT 'Columns that this end has and the peer lacks',
    since TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'When this was found',
    PRIMARY KEY (rule_id, peer)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Where the columns of a table differ between the two ends; read through sync_control_status'
