CREATE TABLE IF NOT EXISTS sync_control (
    {columns},
    PRIMARY KEY (id),
    KEY sync_control_lookup (sync_table, sync_type, sync_user, sync_point_no),
    CONSTRAINT `sync_table must not be empty` CHECK (sync_table <> ''),
    CONSTRAINT `sync_type must be upload or download` CHECK (sync_type IN ('upload', 'download')),
    CONSTRAINT `sync_user must be server or client` CHECK (sync_user IN ('server', 'client')),
    CONSTRAINT `sync_point_no must name a point or be *` CHECK (sync_point_no <> ''),
    CONSTRAINT `sync_range_value must look like day:3 or hour:6` CHECK (sync_range_value IS NULL OR sync_range_value = '' OR sync_range_value REGEXP '^(hour|day|week|month):[1-9][0-9]{0,3}$'),
    CONSTRAINT `sync_range period needs a sync_range_value` CHECK (COALESCE(sync_range, '') = '' OR COALESCE(sync_range_value, '') <> '')
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'One row is one rule: for one table, direction, side and point, what to run'
