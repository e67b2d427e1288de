ALTER TABLE sync_control
    DROP CONSTRAINT `sync_range_value must look like day:3 or hour:6`,
    ADD CONSTRAINT `sync_range_value must look like day:3 or hour:6, blanks apart` CHECK (sync_range_value IS NULL OR sync_range_value = '' OR REPLACE(sync_range_value, ' ', '') REGEXP '^(hour|day|week|month):[1-9][0-9]{0,3}$')
