// Package agent is the program at the point. It keeps the tables of one detection point in step with the centre, over a
// network that may be down for a week.
//
//	local tables ──sendPages: two pages of a table at once──┐
//	local tables ──collect──> sync_outbox ──upload loop──┤            ┌── one TCP connection
//	               one tx:                 one batch of  ├── link ────┤   many requests in flight
//	               rows + state            a table at    │            └── reconnects for ever
//	                                       a time        │
//	local tables <──one tx: rows + state── download loop ┘
//
// # Nothing is lost
//
// A rule that reads by a cursor sends its pages as they are. The centre keeps the state behind the last applied page in
// the transaction that applies it, and the agent goes on from there: see stream.go. The other rules have the outbox.
//
// Rows enter the outbox in the transaction that moves the rule's state. They leave the outbox in the transaction that
// follows the server's acknowledgement. Downloaded rows are applied in the transaction that saves the new state. So a
// kill at any instant finds the database before or after a step, never inside one.
//
// # Nothing comes twice
//
// A page gets the next number of its table's stream, and the centre applies no other. When a reply is lost, the agent
// asks how far the stream has come, and begins a new generation of it: requests of the earlier one that may still be on
// their way are refused then.
//
// A batch gets its number (epoch, sequence) when it enters the outbox and keeps it however often it is sent. The
// server's ledger answers a repetition with the first reply. The epoch is a random number that is made with the outbox.
// A database that was restored from an old copy hands out numbers that the server has seen with other rows. The server
// then answers REQUEST_ID_REUSED, and that batch and all later ones get numbers in a new epoch.
//
// # Order
//
// Two batches of one table may hold the same key, and the server works on the requests of one connection concurrently.
// The pages of a stream are applied in order or not at all, so two of them are in flight. A table has one batch of the
// outbox in flight, and the next one leaves after the reply. While the server works, the agent reads the next payload
// and deletes the acknowledged batch, so the server never waits. Tables do not wait for each other.
//
// A batch that the server refuses for good (no rule, other fields) stays in the outbox and is named in the log. The
// agent sends it again after a while, or as soon as the server's rules change. The other tables go on, also when the
// outbox is full.
//
// # When a loop works
//
// The centre tells which tables have rows to download, and one query for all tables finds those that have rows to
// upload: see news.go. A person may ask for a turn, see run.go. Without any of these a loop works at intervals.
//
// # Parts
//
// A loop repeats one job, such as reading a table into the outbox, sending its batches, downloading a table, or reading
// the rules. link owns the connection and lends it to the loops. session is one connection. rules are those in
// force. outbox is the outbox in the drawing. agentLock keeps a second agent off the database. Agent starts and joins
// them.
package agent
