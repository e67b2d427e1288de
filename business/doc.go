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
// A request comes from a point that protocol has authenticated. Pool decides when it runs, and never makes its caller
// wait: it refuses at once a request that it has no room for. Handler finds the rule in force, has Store run the plan,
// and names what went wrong by a number; status.go is the one place where errors get their numbers. A reply never holds
// SQL or the database's words. The log has them, in one line for each refused request, under the same request id.
package business
