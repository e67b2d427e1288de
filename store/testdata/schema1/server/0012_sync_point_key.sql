CREATE TABLE IF NOT EXISTS sync_point_key (
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'sync_point.point_no',
    key_id INT UNSIGNED NOT NULL COMMENT 'Number of the key, from 1; never given twice to one point',
    wrapped VARBINARY(255) NOT NULL COMMENT 'The key, sealed under the master key of the gateway',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was made',
    revoked_at TIMESTAMP(6) NULL COMMENT 'Set: the key is refused',
    last_used_at TIMESTAMP(6) NULL COMMENT 'When a session last began under it',
    PRIMARY KEY (point_no, key_id),
    CONSTRAINT sync_point_key_point FOREIGN KEY (point_no) REFERENCES sync_point (point_no)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Keys of the points; two may live at once, so that one is changed without an outage'
