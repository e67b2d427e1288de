ALTER TABLE sync_quarantine
    ADD COLUMN row_key VARBINARY(32) NULL COMMENT 'SHA-256 of the row''s primary key; a later version of the row takes its place',
    ADD COLUMN waits_until TIMESTAMP(6) NULL COMMENT 'Until then the row is tried again by itself; NULL: it is refused',
    ADD KEY sync_quarantine_key (sync_table, row_key),
    ADD KEY sync_quarantine_waits (waits_until)
