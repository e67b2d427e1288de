// Package reactor moves whole frames between sockets and a Handler, and owns every descriptor.
//
// A Reactor is a few event loops, each one goroutine over an edge-triggered epoll. A loop owns its connections: it alone
// touches them, so they need no locks. Other goroutines hold a ConnID and hand bytes in with Send.
//
//	    accept            epoll                 inbox + eventfd
//	       │                │                         │
//	first loop ──fd──> one of the loops <──bytes── any goroutine
//	                    │          ▲
//	          Handler.Frame      Conn.Write            one write for all the replies of a turn
//
// # A connection's states
//
//	     accepted, Handler.Open
//	              │
//	              ▼            a frame begun is done,
//	┌─────────> open ────┐     the peer reads, memory is free
//	│             │      │                │
//	└── paused <──┼──────┘ MaxInFlight, HighWater, MaxBuffered
//	      │       │
//	      │       │ the peer's FIN · CloseAfterFlush · Drain
//	      │       ▼
//	      ├── finishing      no frame is delivered; what is in flight is answered, what is written leaves
//	      │       │
//	      │       │ nothing in flight, nothing to write; the peer's FIN was met: straight to closed
//	      │       ▼
//	      ├── lingering      our FIN is sent; what comes is thrown away
//	      │       │
//	      │       │ the peer's FIN · LingerTimeout
//	      ▼       ▼
//	   closing ──> closed     Handler.Close, once
//	      ▲
//	      └ from any state: Close, an error from the handler or the socket, a deadline
//
// A paused connection is open and not read. The kernel's buffer fills, then its window closes, then the peer waits:
// back-pressure costs nothing to hold up. Reading goes on first with the frames already received, since no event will
// come for those, and then with the socket.
//
// The peer's FIN says that it sends no more, not that it reads no more. What it sent before is delivered, and what is in
// flight is answered, before we close too. A reset, in contrast, ends both directions at once.
//
// Lingering is there for the last reply. Closing a socket that has unread bytes, or gets some afterwards, makes the
// kernel send a reset, and that may overtake and destroy what the peer has not read yet.
//
// # The order of things
//
// Within one connection's events: error and hang-up, room to write, reading, and the half-close as the end of reading.
// EventLoop.dispatch gives the reasons. Within a loop's turn: events, connections that gave way, what others handed in,
// deadlines. EventLoop.run gives the reasons.
//
// Nothing is torn down in the middle of anything. Handlers, replies and deadlines only mark a connection, and it is
// settled (settle.go) when the call that marked it has returned: written out, moved on, and buried if it is closing. So a
// handler may close its connection at any point, and the rest of that call finds it as it was.
//
// # Edge triggers
//
// A descriptor is registered once, for everything, and epoll_ctl is not called again. What an edge said is kept in a flag
// until a system call has found it no longer true: readable until a read came up short, a listener's ready until
// accept said EAGAIN, blocked until the next edge for writing. That leaves three ways to lose an edge, and each is shut:
//
//   - to stop early, at the end of a budget or in a pause, and wait for an event that was already given: who stops early
//     queues up (enqueue) or is queued up when the pause ends (resume);
//   - to take an event for a connection that is gone for one of its successor on the same descriptor: events carry the
//     ConnID, and the generation in it does not match;
//   - to sleep although somebody has just handed something in: see EventLoop.await.
//
// # Limits
//
// Every limit is an Option with a default. What happens at each, and which error or Pause the observer sees:
//
//	MaxConns, MaxUnestablished, MaxPerAddress   refused at accept   ErrConnLimit, ErrUnestablishedLimit, ErrAddressLimit
//	descriptors of the process or the system    accepting rests 0.1 to 1 s, then goes on with the backlog
//	SetMaxFrame + Overhead                      closed, before memory is taken   SplitFunc's error or ErrFrameTooLarge
//	MaxInFlight                                 not read            PauseInFlight
//	HighWater                                   not read, SendWait waits   PauseOutbound
//	MaxOutbound                                 closed              ErrOverflow
//	MaxBuffered                                 nobody is read      PauseMemory
//	HandshakeTimeout, FrameTimeout              closed              ErrHandshakeTimeout, ErrFrameTimeout
//	StallTimeout                                closed when the kernel's send queue has not shrunk either   ErrStalled
//	IdleTimeout                                 Listener.Idle at half of it, then closed   ErrIdle
//
// PauseMemory resolves itself: bytes are held for incomplete frames, which FrameTimeout ends, for frames in flight, which
// the workers end, and for peers that do not read, which StallTimeout ends.
//
// # Costs
//
// An idle connection is a Conn of 144 bytes, a slot of 12 and its share of the maps; it has no buffer and no goroutine.
// Its deadlines are one entry in a timing wheel that moves when it falls due, not when bytes come.
package reactor
