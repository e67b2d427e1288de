CREATE TABLE IF NOT EXISTS sync_file (
    name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'File that rules write, below the configured directory',
    size BIGINT UNSIGNED NULL COMMENT 'Bytes that are committed; the file may have more behind them of a transaction that was not. NULL: none',
    PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The files of rules: a size is changed in the transaction whose rows the file gets'
