CREATE TABLE IF NOT EXISTS sync_stream (
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point that uploads',
    epoch BIGINT UNSIGNED NOT NULL COMMENT 'First half of its request ids: the table in one database of the point',
    sync_table VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The table',
    seq BIGINT UNSIGNED NOT NULL COMMENT 'Second half of the last request that was applied; only the next one is applied',
    hash BINARY(32) NOT NULL COMMENT 'SHA-256 of that request',
    reply LONGTEXT NOT NULL COMMENT 'What was answered, as JSON; sent again when that request comes again',
    state MEDIUMBLOB NULL COMMENT 'What the point reads on from, as its agent encodes it',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When the stream began',
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'When the last request was applied',
    PRIMARY KEY (point_no, epoch)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The ledger of uploads that carry their state: a row is changed together with the rows of each upload'
