CREATE TABLE IF NOT EXISTS sync_control_history (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'Number of the edit',
    control_id BIGINT UNSIGNED NOT NULL COMMENT 'sync_control.id',
    action ENUM('insert', 'update', 'delete') NOT NULL COMMENT 'What was done to the row',
    changed_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When',
    changed_by VARCHAR(384) NOT NULL COMMENT 'Who: the account and host of the session that did it',
    row_before JSON NULL COMMENT 'The row before the edit; none for an insert',
    row_after JSON NULL COMMENT 'The row after the edit; none for a delete',
    PRIMARY KEY (id),
    KEY sync_control_history_of (control_id, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'Every edit of sync_control, kept by triggers where the deployment allows them'
