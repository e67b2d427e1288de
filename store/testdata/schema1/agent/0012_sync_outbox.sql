CREATE TABLE IF NOT EXISTS sync_outbox (
    epoch BIGINT UNSIGNED NOT NULL COMMENT 'First half of the request id',
    seq BIGINT UNSIGNED NOT NULL COMMENT 'Second half',
    rule_id BIGINT UNSIGNED NOT NULL COMMENT 'The rule that read the rows',
    sync_table VARCHAR(129) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The table they are for',
    row_count INT UNSIGNED NOT NULL COMMENT 'Rows in the batch',
    payload LONGBLOB NOT NULL COMMENT 'The upload as it will be sent, without what is confirmed',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was read',
    attempts INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'How often it was sent',
    last_status SMALLINT UNSIGNED NULL COMMENT 'Status of the last answer that was not an acknowledgement',
    last_error TEXT NULL COMMENT 'Its text',
    PRIMARY KEY (epoch, seq),
    KEY sync_outbox_rule (rule_id),
    KEY sync_outbox_table (sync_table, epoch, seq)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Batches on their way to the centre; a batch leaves when it is acknowledged'
