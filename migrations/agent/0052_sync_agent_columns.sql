CREATE TABLE IF NOT EXISTS sync_agent_columns (
    rule_key VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The rule, as in sync_agent_state',
    known MEDIUMTEXT NOT NULL COMMENT 'Columns of the last rows that both ends have, as a JSON list',
    unknown MEDIUMTEXT NOT NULL COMMENT 'Columns of the last rows that the receiving end does not have, as a JSON list',
    read_again INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Above 0: the table is to be read from its beginning, for a column that both ends have got',
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'When the columns last changed',
    PRIMARY KEY (rule_key)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Which columns of each table travel'
