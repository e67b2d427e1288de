// Package store is MySQL: connections whose session is set and not inherited, transactions, a plan run over a batch
// of rows, the request ledger that makes an upload happen once, rules, points, schema facts, migrations. The centre
// and the points use it alike. It is tried on MariaDB 10.11 and keeps to what MySQL 8 knows too.
//
// # One upload's life
//
//	START TRANSACTION
//	INSERT INTO sync_request (point, epoch, seq, hash, reply) …    the reply it will most likely have
//	    duplicate key ──> ROLLBACK; SELECT hash, reply
//	                      same hash: the stored outcome, Duplicate    another hash: ErrReused
//	SELECT … FROM sync_request_floor                               at or below it: ErrReused
//	INSERT INTO t VALUES (…), (…), … 1,024, 768, 512, … rows       the first operation of the chain
//	    a row's own error ──> this chunk row by row:
//	        insert ──refused──> update ──refused or no match──> sync_quarantine, or with all-or-nothing *RowError
//	update_state                                                   when the rule has one
//	UPDATE sync_request SET reply = …                              when it is not what was expected
//	COMMIT
//	                                                               only now the outcome is returned
//
// A chunk needs no savepoint: a statement that fails is undone by InnoDB as a whole.
//
// Whatever ends the transaction ends all of it, the ledger row with it. After a deadlock, a lock wait, a lost
// connection it is run again from the top, within bounds; when it had been committed after all, and only the answer was
// lost, the ledger says so. So every step may be the last one before a crash:
//
//	before COMMIT     nothing is kept, nothing was answered, the point sends it again
//	after COMMIT      all is kept; the point sends it again and is given the stored outcome
//
// # Several uploads in one transaction
//
// Small uploads that Apply is given together go as one: their ledger rows in one INSERT, rows of the same statement
// in one INSERT, one COMMIT. When anything fails or a row would be put aside, all is rolled back and each is run in
// a transaction of its own, so that none takes a neighbour with it.
//
// # The floor
//
// An upload says up to where its point has seen acknowledgements. Run raises sync_request_floor to that, commits, and
// then deletes the ledger below it. A request at or below the floor is refused and never run.
//
// # Values
//
// A SQL value is nil, int64, uint64 (above MaxInt64), float64, string or []byte. Everything is read and written by
// prepared statements, so that a FLOAT is the same FLOAT at the other end, and no value is ever part of a statement's
// text. DECIMAL, temporal types, JSON, ENUM and SET are MySQL's own text. The session is strict and keeps zero
// dates, and 0 in an AUTO_INCREMENT column, as they are. A TIMESTAMP is text in the session's zone, +00:00 unless
// Options.TimeZone says otherwise; NOW() in a rule is in that zone too.
package store
