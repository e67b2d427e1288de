CREATE TABLE IF NOT EXISTS sync_agent_epoch (
    id TINYINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'Always 1: there is one outbox',
    epoch BIGINT UNSIGNED NOT NULL COMMENT 'Random number made with the outbox; the first half of every request id',
    next_seq BIGINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'The next batch gets this number',
    confirmed BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Every batch up to here was seen acknowledged',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When this epoch began',
    PRIMARY KEY (id),
    CONSTRAINT `there is one epoch at a time` CHECK (id = 1)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Where the numbering of the outbox stands'
