CREATE TABLE IF NOT EXISTS sync_rule_warning (
    rule_id BIGINT UNSIGNED NOT NULL COMMENT 'sync_control.id',
    warnings TEXT NOT NULL COMMENT 'What the rule can miss or do wrong, a line each',
    PRIMARY KEY (rule_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Warnings about rules; written by syncgate, read through sync_control_status'
