// Package gateway is the server: it carries frames of the reactor to business as messages of protocol, and the replies
// back. reactor and business know nothing of each other.
//
//	          loop                                  worker                        loop
//	reactor ───────> handler.Frame ──> session ──> Pool.Submit ··· Replier.Reply ──> session.Send ──> reactor.Send
//	 frame           one a listener    message     or the clerk     reply, parts     sealed           written
//
// Nothing on a loop waits: a request goes to the pool, or, when it needs no database, to the clerk, one goroutine that
// seals short answers. A session seals under its own lock and hands the frame to the reactor before it lets the lock
// go, so that the counters of records and the order of bytes agree. A part of a download waits for its client before it
// takes the lock.
//
// Starting: keys and rules are read, then connections are let in. Stopping: listeners close, every client is told
// GOAWAY, what was accepted is finished, what was answered is flushed; what the drain deadline cuts is said.
package gateway
