CREATE TABLE IF NOT EXISTS sync_agent_state (
    rule_key VARCHAR(191) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The rule whose state it is, as the agent names it',
    state MEDIUMBLOB NOT NULL COMMENT 'Names and values the next page starts from, as the agent encodes them',
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'When it last moved',
    PRIMARY KEY (rule_key)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'How far each rule has read or received'
