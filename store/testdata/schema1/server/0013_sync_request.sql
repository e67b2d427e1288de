CREATE TABLE IF NOT EXISTS sync_request (
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point that sent the request',
    epoch BIGINT UNSIGNED NOT NULL COMMENT 'First half of the request id: the outbox of the agent',
    seq BIGINT UNSIGNED NOT NULL COMMENT 'Second half: the place in that outbox',
    hash BINARY(32) NOT NULL COMMENT 'SHA-256 of the request; the same id with another hash is refused',
    reply LONGTEXT NOT NULL COMMENT 'What was answered, as JSON; sent again when the request comes again',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was run',
    PRIMARY KEY (point_no, epoch, seq)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The ledger that makes an upload happen once: a row is committed together with what it did'
