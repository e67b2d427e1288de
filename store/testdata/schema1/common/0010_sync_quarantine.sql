CREATE TABLE IF NOT EXISTS sync_quarantine (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'Number of the row; syncgate quarantine show takes it',
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point the row came from',
    rule_id BIGINT UNSIGNED NOT NULL COMMENT 'sync_control.id of the rule that was to apply it',
    sync_table VARCHAR(129) NOT NULL COMMENT 'The table it was meant for',
    epoch BIGINT UNSIGNED NOT NULL COMMENT 'Request it came in',
    seq BIGINT UNSIGNED NOT NULL COMMENT 'Request it came in',
    row_no INT UNSIGNED NOT NULL COMMENT 'Its place in that request, from 0',
    row_values LONGTEXT NOT NULL COMMENT 'Field and value as a JSON object; bytes as {"base64": ...}',
    error_code INT UNSIGNED NOT NULL COMMENT 'Error number of the database',
    error_text TEXT NOT NULL COMMENT 'What the database said',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was put here',
    edited_at TIMESTAMP(6) NULL COMMENT 'When its values were last edited',
    PRIMARY KEY (id),
    KEY sync_quarantine_of (rule_id, id),
    CONSTRAINT `row_values must be a JSON object` CHECK (JSON_VALID(row_values))
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Rows no operation of their rule could take, with the reason'
