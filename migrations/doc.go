// Package migrations holds the schema as embedded SQL: one statement a file, forward only.
//
//	common/  what both sides have: sync_control, its status, its history, the quarantine
//	server/  the centre: points, keys, the request ledger
//	agent/   the detection point: outbox, state, rules fetched from the centre
//
// A set is common/ and one of the other two, in the order of the numbers in front of the names. A file that was once
// released is never edited: its hash is kept in the database, and a different one is refused there. A file whose first
// line is a comment beginning with "-- optional:" may fail without harm: the deployment does without what it makes.
//
// A name in braces stands for a list of the columns of sync_control, which rule declares. Such a statement runs again
// when the list has changed: a table gets the new columns, a trigger is replaced. A column that changes its type or its
// name needs a file of its own. An older program passes over a column that it does not know.
//
// 0000_server and 0000_agent name the set in the database. A database that has had a file of one set is refused to the
// other program.
//
// The statements keep to what MySQL 8 and MariaDB 10.11 both know. Each can be run twice, because DDL commits by
// itself: a crash between a statement and the note that it was run leaves it to be run again.
package migrations
