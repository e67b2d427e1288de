// Package business does what points ask for: one request in, one reply out.
//
//	            Submit                take                   Find              Apply, Read
//	message ───────────> Pool ───────────────────> Handler ────────> ruleset.Set
//	            false:    │ queues: one point's       │ fields, limits,
//	            BUSY      │ uploads of one table,     │ hash
//	                      │ in order                  │
//	                      │ downloads apart           ↓
//	reply <─── Client <───────────────────────── Store: one upload, one transaction, ledger row first
//
// protocol has authenticated the point of each request. Pool decides when a request runs. It never blocks its caller:
// it refuses a request at once when it has no room. Handler finds the rule in force, compares the request with it, lets
// Store run the plan, and gives an error its number. status.go is the only place where errors get their numbers. An
// answer to a client never holds SQL or the database's own text. The log has this text, in one line for each refused
// request, under the same request id.
package business
