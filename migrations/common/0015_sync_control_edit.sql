CREATE TABLE IF NOT EXISTS sync_control_edit (
    slot TINYINT UNSIGNED NOT NULL COMMENT 'One of 64, by the session of the editor: sessions with different slots do not wait for each other',
    edited BIGINT UNSIGNED NOT NULL COMMENT 'Grows with each edit of sync_control; about the microsecond of the last one',
    PRIMARY KEY (slot)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Counts the edits of sync_control, kept by triggers where the deployment allows them'
