ALTER TABLE sync_migration COMMENT = 'The migrations that this database of the server has had'
