// Package business does what points ask for: one request in, one reply out.
//
//	            Submit                take                   Find              Apply, Read
//	message ───────────> Pool ───────────────────> Handler ────────> Registry
//	            false:    │ lanes: one point's        │ fields, limits,   ↑ every second: what changed,
//	            BUSY      │ uploads of one table,     │ hash              │ compiled, prepared, swapped in
//	                      │ in order                  │                 sync_control
//	                      │ downloads apart           ↓
//	reply <─── Replier <──────────────────────── Store: one upload, one transaction, ledger row first
//
// A request is one of a point that protocol has authenticated. Pool decides when it runs, and never makes its caller
// wait: a request that there is no room for is refused at once. Handler finds the rule in force, sees that the request
// fits it, has Store run the plan, and names what went wrong by a number; status.go is the one place where errors get
// their numbers. What leaves for the client never holds SQL or the database's words; the log has them, in one line a
// refused request, under the same request id.
//
// Registry holds the rules. A DBA's edit is in force a second later, alone: a row that does not compile keeps its last
// good version, other rows do not notice, and when the database is away everything stays as it is. A row of a point's own
// counts before the row of every point (`*`) even when it is switched off, so that one point can be left out.
//
// Store, RuleSource and StatusSink are what business needs of a store.Store.
package business
