CREATE TABLE IF NOT EXISTS sync_change_reader (
    sync_table VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'sync_sequence.sync_table',
    reader VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point that reads; *: the centre',
    seq BIGINT UNSIGNED NOT NULL COMMENT 'It has every change up to this number',
    seen_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it last read',
    PRIMARY KEY (sync_table, reader)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'How far each reader of changes has come: what all have passed may be forgotten'
