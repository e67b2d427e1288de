CREATE TABLE IF NOT EXISTS sync_rule_status (
    rule_id BIGINT UNSIGNED NOT NULL COMMENT 'sync_control.id',
    state ENUM('ok', 'stale', 'broken') NOT NULL DEFAULT 'ok' COMMENT 'ok: in force as it stands; stale: the last good version is in force; broken: nothing is in force',
    error_code VARCHAR(16) NULL COMMENT 'SG number of the first error; syncgate explain-error tells more',
    error_column VARCHAR(64) NULL COMMENT 'Column of sync_control that holds the error',
    error_section VARCHAR(64) NULL COMMENT 'Phase within that column',
    error_line INT UNSIGNED NULL COMMENT 'Line within the section, from 1',
    error_position INT UNSIGNED NULL COMMENT 'Character within the line, from 1',
    error_text TEXT NULL COMMENT 'What is wrong and what would cure it',
    checked_at TIMESTAMP(6) NULL COMMENT 'When the rule was last compiled',
    last_run_at TIMESTAMP(6) NULL COMMENT 'When it last moved rows or tried to',
    runs BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'How often it ran',
    rows_moved BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Rows moved by it in all',
    failures BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Runs that failed',
    last_failure TEXT NULL COMMENT 'Why the last failing run failed',
    last_failure_at TIMESTAMP(6) NULL COMMENT 'When that was',
    PRIMARY KEY (rule_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'What syncgate found out about each rule; written by syncgate, read through sync_control_status'
