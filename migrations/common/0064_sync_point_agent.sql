CREATE TABLE IF NOT EXISTS sync_point_agent (
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'The point that reports',
    software VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'Name and version of the agent',
    database_version VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'Version of the point''s database',
    clock_ahead_ms BIGINT NOT NULL DEFAULT 0 COMMENT 'The point''s clock minus that of the centre, give or take the way of the report',
    disk_free BIGINT UNSIGNED NULL COMMENT 'Bytes that are free where the agent keeps its data; NULL: not known',
    memory BIGINT UNSIGNED NULL COMMENT 'Bytes of memory that the agent holds; NULL: not known',
    started_at TIMESTAMP(3) NULL COMMENT 'When the agent was started',
    reported_at TIMESTAMP(3) NOT NULL COMMENT 'When the point last reported',
    PRIMARY KEY (point_no)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'What the agent of each point last reported of itself'
