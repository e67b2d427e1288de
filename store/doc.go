// Package store is MySQL: connections with a session of known settings, transactions, a plan that runs over a batch of
// rows, the request ledger that applies an upload exactly once, rules, points, schema facts, migrations. The centre and
// the points use it alike. It is tested on MariaDB 10.11 and uses only SQL that MySQL 8 knows too.
//
// # The steps of one upload
//
//	START TRANSACTION
//	INSERT INTO sync_request (point, epoch, seq, hash, reply) …    insertLedger: with the expected reply
//	    duplicate key ──> ROLLBACK; SELECT hash, reply             lookupLedger
//	                      same hash: the stored outcome, Duplicate    another hash: ErrReused
//	SELECT … FROM sync_request_floor                               aboveFloor: at or below it: ErrReused
//	INSERT INTO t VALUES (…), (…), … 1,000, 750, 500, … rows       the first operation of the chain
//	    an error of one row ──> this chunk row by row:
//	        insert ──refused──> update ──refused or no match──> sync_quarantine; *RowError
//	update_state                                                   when the rule has one
//	UPDATE sync_request SET reply = …                              updateReply: when it is not the expected one
//	COMMIT
//	return the outcome
//
// A chunk needs no savepoint: InnoDB undoes a failing statement as a whole.
//
// An error rolls back the whole transaction with its ledger row. After a deadlock, a lock wait or a lost connection the
// transaction runs again from the top, within limits. When the server had committed it and only the answer was lost,
// the ledger has its outcome. A crash may follow any step:
//
//	before COMMIT     nothing is kept and nothing was answered; the point sends the upload again
//	after COMMIT      all is kept; the point sends the upload again and gets the stored outcome
//
// An upload that carries its state changes a row of sync_stream instead of the INSERT and the floor: see ledger.go.
//
// # Several uploads in one transaction
//
// Apply runs small uploads in one transaction: one INSERT for their ledger rows, one INSERT for the rows of the same
// statement, one COMMIT. When a statement fails or a row must go to the quarantine, the transaction is rolled back and
// each upload runs in a transaction of its own, so that no upload fails because of another.
//
// # The floor
//
// An upload carries the number up to which its point has seen acknowledgements. Run raises sync_request_floor to that
// number, commits, and then deletes the ledger rows below it. The store refuses a request at or below the floor.
//
// # Values
//
// A SQL value is nil, int64, uint64 (above MaxInt64), float64, string or []byte. Everything is read and written by
// prepared statements, so that a FLOAT is the same FLOAT at the other end, and no value is ever part of a statement's
// text. DECIMAL, temporal types, JSON, ENUM and SET are MySQL's own text. The session is strict and keeps zero
// dates, and 0 in an AUTO_INCREMENT column, as they are. A TIMESTAMP is read and given as text in UTC; see zone.go.
package store
