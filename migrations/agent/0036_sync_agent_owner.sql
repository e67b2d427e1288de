CREATE TABLE IF NOT EXISTS sync_agent_owner (
    id TINYINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'Always 1',
    owner BIGINT UNSIGNED NOT NULL COMMENT 'Random number of the agent that last took the lock; no other may write',
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'When it took the lock',
    PRIMARY KEY (id),
    CONSTRAINT `one agent owns this database` CHECK (id = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Which agent works on this database'
