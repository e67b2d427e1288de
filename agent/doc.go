// Package agent is the field side of syncgate: it keeps the tables of one detection
// point in step with the centre, over a network that may be gone for a week.
//
//	local tables ──collect──> sync_outbox ──upload loop──┐            ┌── one TCP connection
//	               one tx:                 one batch of  ├── link ────┤   many requests in flight
//	               rows + watermark        a table at    │            └── reconnects for ever
//	                                       a time        │
//	local tables <──one tx: rows + state── download loop ┘
//
// Nothing is lost. Rows leave the local tables for the outbox in the transaction that
// moves the rule's watermark, and leave the outbox in the transaction that follows the
// server's acknowledgement. Downloaded rows are applied in the transaction that stores
// the state to go on from. So a kill at any instant finds the database either before or
// after a step, never inside one.
//
// Nothing comes twice. A batch is numbered (epoch, sequence) when it enters the outbox
// and keeps its number however often it is sent; the server's ledger answers a repetition
// with the first reply. The epoch is a random number made with the outbox. A database
// restored from an old copy hands out numbers that the server has seen with other rows;
// the server says REQUEST_ID_REUSED, and that batch and all later ones are numbered in a
// new epoch.
//
// Order. Two batches of one table may hold the same key, and the server works on the
// requests of one connection concurrently, so a table has one batch in flight: the next
// leaves when the reply is there. The next payload is read, and the acknowledged one
// deleted, while the server works, which keeps the server busy all the time; tables do
// not wait for each other. A batch that is refused for good (no rule, fields that do not
// fit) stays, is named in the log, and is tried again after a while or as soon as the
// server's rules change; the other tables go on, also when the outbox is full.
//
// The parts: a loop does one thing again and again, such as reading a table into the
// outbox, sending its batches, downloading a table, or looking after the rules; link owns
// the connection and lends it to whichever loop has a request; session is one connection's
// life; book is the rules in force; outbox is the box of the picture; claim keeps a second
// agent off the database; Agent starts and joins them.
package agent
