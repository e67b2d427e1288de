ALTER TABLE sync_rule_status
    MODIFY state ENUM('ok', 'stale', 'broken', 'elsewhere') NOT NULL DEFAULT 'ok' COMMENT 'ok: in force as it stands; stale: the last good version is in force; broken: nothing is in force; elsewhere: a rule of the server in the database of a point, which does not run it'
