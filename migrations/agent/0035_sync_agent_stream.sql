CREATE TABLE IF NOT EXISTS sync_agent_stream (
    sync_table VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'Table that is uploaded without an outbox',
    epoch BIGINT UNSIGNED NOT NULL COMMENT 'Random number; the first half of the request ids',
    seq BIGINT UNSIGNED NOT NULL COMMENT 'Last request that is known to be acknowledged; sync_agent_state is what stands behind it',
    next_generation BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'First sequence of the generation that is being begun; 0: none is',
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'When it was last written',
    PRIMARY KEY (sync_table)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'How far the uploads of each table are acknowledged; the centre knows it to the last batch'
