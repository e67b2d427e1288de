ALTER TABLE sync_migration COMMENT = 'The migrations that this database of an agent has had'
