ALTER TABLE sync_agent_owner
    ADD COLUMN point_no VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'The point that this database belongs to; agents of other points refuse it' AFTER owner,
    ADD COLUMN process VARCHAR(255) NOT NULL DEFAULT '' COMMENT 'Process and host of the agent that last took the lock' AFTER point_no
