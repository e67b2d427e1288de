CREATE TABLE IF NOT EXISTS sync_migration (
    name VARCHAR(64) NOT NULL COMMENT 'File name of the migration',
    hash CHAR(64) NOT NULL COMMENT 'SHA-256 of the file',
    applied_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was run',
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The migrations this database has had'
