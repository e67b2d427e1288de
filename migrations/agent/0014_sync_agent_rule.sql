CREATE TABLE IF NOT EXISTS sync_agent_rule (
    {fetched columns},
    fetched_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was fetched',
    PRIMARY KEY (id),
    KEY sync_agent_rule_lookup (sync_table, sync_type)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The rows of sync_control this point was given by the centre; a local row wins over them'
