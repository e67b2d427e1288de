CREATE TABLE IF NOT EXISTS sync_request_floor (
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point',
    epoch BIGINT UNSIGNED NOT NULL COMMENT 'The outbox of the agent',
    confirmed BIGINT UNSIGNED NOT NULL COMMENT 'Requests up to here are done and forgotten; none of them ever runs again',
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6) COMMENT 'When it last rose',
    PRIMARY KEY (point_no, epoch)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'How far each outbox has seen its acknowledgements; the ledger below is purged'
