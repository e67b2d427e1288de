// Package gateway is the server. It carries frames of the reactor to business as messages of protocol, and carries the
// replies back. reactor and business do not know each other.
//
//	          loop                                  worker                        loop
//	reactor ───────> handler.Frame ──> session ──> Pool.Submit ··· session.Reply ──> session.Send ──> reactor.Send
//	 frame           one a listener    message     or   turns       reply, parts     sealed           written
//
// Nothing on a loop waits. A request goes to the pool. A request that needs no database goes to the reply queue, whose
// one goroutine seals short answers. A session seals a frame and hands it to the reactor under one lock, so that record
// counters and bytes have the same order. A part of a download waits for its client before it takes the lock.
//
// What was answered goes three ways: into sync_log, second by second (log.go); to those who watch (tap.go); and, for an
// upload, to the clients that download the table (news.go).
//
// At the start the gateway reads keys and rules and then accepts connections. To stop, it closes the listeners, sends
// GOAWAY to every client, finishes the accepted requests and flushes their answers. Run's error counts the requests
// that the drain deadline cuts.
package gateway
