CREATE TABLE IF NOT EXISTS sync_sequence (
    sync_table VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'Table whose changes are numbered, as rules name it',
    next_seq BIGINT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'Number of the next change; locked while changes are numbered',
    complete_from BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'A reader that stands below it has missed changes and loads the table anew',
    missed BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'Changes that a trigger could not write into the change table',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When the change table was made',
    PRIMARY KEY (sync_table)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The numbers of the changes of each table that has a change table'
