// Package reactor moves whole frames between sockets and a Handler, and owns every descriptor.
//
// A Reactor is a few event loops, each one goroutine over an edge-triggered epoll. A loop owns its connections: only
// the loop touches them, so they need no locks. Other goroutines hold a ConnID and submit bytes with Send.
//
//	    accept            epoll                 inbox + eventfd
//	       │                │                         │
//	first loop ──fd──> one of the loops <──bytes── any goroutine
//	                    │          ▲
//	          Handler.Frame      Conn.Write            one write for all the replies of a turn
//
// # The path of a request
//
//  1. EventLoop.await: epoll reports that a descriptor is readable.
//  2. EventLoop.dispatch: the event's ConnID finds the connection; readable is set.
//  3. EventLoop.read: bytes go from the socket into the loop's scratch buffer.
//  4. EventLoop.deliver: Listener.Split finds whole frames, and Handler.Frame gets each. The handler answers with
//     Conn.Write, or calls Begin and gives the request to a worker. EventLoop.keep stores an incomplete frame.
//  5. EventLoop.flushState, when Frame has returned: it writes the output and files the next deadline.
//  6. EventLoop.runQueued: a connection that has used up its turn, or whose pause has ended, continues at 3.
//  7. EventLoop.send, on the worker's goroutine: the reply goes into the inbox; the loop is woken if it sleeps.
//  8. EventLoop.drainInbox: the reply is appended to the connection's output, which leaves as at 5.
//  9. EventLoop.expire: a deadline that passes meanwhile ends the connection, or calls Handler.Timer or Listener.Idle.
//
// Handlers, replies and deadlines change and mark a connection; only flushState closes it. So a handler may close its
// connection at any point, and the rest of that call finds the connection as it was.
//
// # A connection's states
//
//	     accepted, Handler.Open
//	              │
//	              ▼            a frame begun is done,
//	┌─────────> open ────┐     the peer reads, memory is free
//	│             │      │                │
//	└── paused <──┼──────┘ MaxInFlight, HighWater, the ledger
//	      │       │
//	      │       │ the peer's FIN · CloseAfterFlush · Drain
//	      │       ▼
//	      ├── finishing      no frame is delivered; frames in flight are answered, output leaves
//	      │       │
//	      │       │ nothing in flight, nothing to write; if the peer's FIN was read: straight to closing
//	      │       ▼
//	      ├── lingering      our FIN is sent; bytes that come are thrown away
//	      │       │
//	      │       │ the peer's FIN · LingerTimeout
//	      ▼       ▼
//	   closing ──> closed    Handler.Close, once
//	      ▲
//	      └ from any state: Close, an error from the handler or the socket, a deadline
//
// A paused connection is open and not read. The kernel's buffer fills, then its window closes, then the peer waits.
// When the pause ends, the frames already received are delivered first, since no event will come for those.
//
// The peer's FIN means that it sends no more, not that it reads no more. Frames sent before the FIN are delivered, and
// frames in flight are answered, before we close too. A reset, in contrast, ends both directions at once.
//
// Lingering protects the last reply. When a socket is closed with unread bytes, or gets some afterwards, the kernel
// sends a reset, which may overtake and destroy bytes that the peer has not read yet. A known client of a listener with
// Overrun may be sending a large frame still: while its bytes come, lingering goes on, for FrameTimeout at most.
//
// # Edge triggers
//
// A descriptor is registered once, for everything, and epoll_ctl is not called again. A flag keeps an edge until a
// system call shows that it no longer holds: readable until a read comes up short, a listener's ready until accept
// returns EAGAIN, blocked until the next edge for writing. That leaves three ways to lose an edge, and each is
// closed:
//
//   - A loop stops reading early, at the end of a budget or in a pause, and waits for an event that was already given.
//     Therefore a connection that stops early is queued at once (enqueue) or when the pause ends (resume).
//   - An event for a closed connection is taken for one of its successor on the same descriptor. Therefore events carry
//     the ConnID, whose generation then does not match.
//   - A loop sleeps although a command has just been submitted. EventLoop.await prevents it.
//
// # Limits
//
// Options.Limits has the default and the bounds of each. At a limit the reactor does this, and the observer sees that
// error or Pause:
//
//	MaxConns, MaxPerAddress                     refused at accept   ErrConnLimit, ErrAddressLimit
//	MaxUnestablished                            the oldest is closed for the new one; an address with more than its
//	                                            share is refused   ErrUnestablishedLimit
//	descriptors of the process or the system    accepting pauses for 0.1 to 1 s, then goes on with the backlog   EMFILE
//	SetMaxFrame + frameOverhead                 closed, before memory is taken   SplitFunc's error or ErrFrameTooLarge
//	MaxInFlight                                 not read            PauseInFlight
//	HighWater                                   not read, SendWait waits   PauseOutbound
//	MaxOutbound                                 closed              ErrOverflow
//	the holder's share of the ledger            not read            PauseMemory
//	HandshakeTimeout, FrameTimeout              closed              ErrHandshakeTimeout, ErrFrameTimeout
//	StallTimeout                                closed when the kernel's send queue has not shrunk either   ErrStalled
//	IdleTimeout                                 Listener.Idle at half of it, then closed   ErrIdle
//
// The ledger (package account) is charged for incomplete frames and for output: before a connection is established to
// its address, then to its holder. A large frame is charged in full before it is read, so connections never wait for
// each other with half a frame each. One of unknown length is charged 4 MiB first, and behind them all that it may
// have. Listener.Overrun has the last word to a known client where a limit on its frames ends the connection.
// PauseMemory ends without help: bytes are held for incomplete frames, which FrameTimeout ends, for frames in flight,
// which the workers end, and for peers that do not read, which StallTimeout ends.
//
// # Costs
//
// An idle connection is a Conn of 160 bytes, a slot of 12 and its share of the maps; it has no buffer and no goroutine.
// Its deadlines are one entry in a timing wheel that moves when it falls due, not when bytes come.
package reactor
