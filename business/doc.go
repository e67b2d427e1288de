// Package business does what points ask for: one request in, one reply out.
//
//	            Submit                take                   Find              Apply, Read
//	message ───────────> Pool ───────────────────> Handler ────────> Registry
//	            false:    │ queues: one point's       │ fields, limits,   ↑ every second: what changed,
//	            BUSY      │ uploads of one table,     │ hash              │ compiled, prepared, swapped in
//	                      │ in order                  │                 sync_control
//	                      │ downloads apart           ↓
//	reply <─── Client <───────────────────────── Store: one upload, one transaction, ledger row first
//
// protocol has authenticated the point of each request. Pool decides when a request runs. It never blocks its caller:
// it refuses a request at once when it has no room. Handler finds the rule in force, compares the request with it, lets
// Store run the plan, and gives an error its number. status.go is the only place where errors get their numbers. An
// answer to a client never holds SQL or the database's own text. The log has this text, in one line for each refused
// request, under the same request id.
//
// Registry holds the rules. A DBA's edit is in force a second later and affects no other row. A row that does not
// compile keeps its last good version. When the database is away, all rules stay in force. A row for one point wins
// over the row for every point (`*`), even when it is switched off, so that one point can be excluded.
//
// Store, RuleSource and StatusSink are the methods of store.Store that business uses.
package business
