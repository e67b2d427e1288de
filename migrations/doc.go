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
// The statements keep to what MySQL 8 and MariaDB 10.11 both know. Each can be run twice, because DDL commits by
// itself: a crash between a statement and the note that it was run leaves it to be run again.
package migrations
