CREATE TABLE IF NOT EXISTS sync_point (
    point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'Name of the detection point',
    note VARCHAR(1000) NULL COMMENT 'Where it is, who looks after it',
    allow_legacy TINYINT(1) NOT NULL DEFAULT 0 COMMENT '1: the seed-era wire stays open to it although it has spoken the modern one',
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was enrolled',
    revoked_at TIMESTAMP(6) NULL COMMENT 'Set: the point is refused',
    modern_seen_at TIMESTAMP(6) NULL COMMENT 'When it last spoke the modern wire',
    legacy_seen_at TIMESTAMP(6) NULL COMMENT 'When it last spoke the seed-era wire',
    PRIMARY KEY (point_no),
    CONSTRAINT `point_no must not be empty or *` CHECK (point_no NOT IN ('', '*')),
    CONSTRAINT `allow_legacy must be 0 or 1` CHECK (allow_legacy IN (0, 1))
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The detection points that may connect'
