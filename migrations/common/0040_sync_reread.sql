CREATE TABLE IF NOT EXISTS sync_reread (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'A reader that has passed it has read these times again',
    sync_table VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'Table in which rows were committed with times that had been read already',
    first_time VARCHAR(32) NOT NULL COMMENT 'The earliest of these times, as the column shows it',
    last_time VARCHAR(32) NOT NULL COMMENT 'The latest of them',
    found_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When they were found',
    PRIMARY KEY (id),
    KEY sync_table (sync_table, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Times that every reader of a table reads again'
