package reactor

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// EventLoop is one goroutine that owns a poller and the connections registered with it.
type EventLoop struct {
	reactor *Reactor
	opts    *Options
	index   int

	poller  poller
	began   time.Duration // of this turn, since the reactor's start
	tick    tick          // the same
	turn    Turn
	wheel   wheel
	pool    pool
	scratch []byte
	iovec   [maxIovec]unix.Iovec

	dirty        []*Conn     // for flushDirty
	queue, spare []*Conn     // for runQueued in the next turn; spare is the queue of the turn before, for its memory
	memoryPaused []*Conn     // under PauseMemory
	due          []*Conn     // for expire
	commands     []command   // for drainInbox
	listeners    []*listener // those this loop accepts for
	sources      []*source   // all of them, as this loop's connections know them

	conns    int
	draining bool
	stopping bool // the loop must end now

	// Other goroutines use the fields from here on.
	turns    atomic.Uint64
	assigned atomic.Int64 // connections here or on their way here
	asleep   atomic.Bool  // the loop blocks or is about to: the goroutine that clears it writes the eventfd
	wakers   atomic.Int32 // goroutines that may be about to write the eventfd

	mu    sync.Mutex
	table table
	inbox []command
	ended bool // nothing is taken into the inbox any more
}

func newEventLoop(r *Reactor, index int) *EventLoop {
	l := &EventLoop{reactor: r, opts: &r.opts, index: index, tick: firstTick, scratch: make([]byte, scratchSize)}
	l.poller.epoll, l.poller.wakeup = -1, -1
	l.wheel.now, l.wheel.table = l.tick, &l.table
	for _, ln := range r.listeners {
		l.sources = append(l.sources, &source{ln, l})
	}
	return l
}

// run is the whole event loop. Each turn handles, in this order,
//
//  1. the events that the kernel has ready, one connection at a time;
//  2. connections that stopped early in the turn before or in this one, which are now behind those just handled;
//  3. commands from other goroutines: replies, closes, new connections;
//  4. deadlines, last, so that bytes which came in time are seen before the clock is.
//
// A connection's output leaves in flushState, before the next connection is looked at.
func (l *EventLoop) run() (err error) {
	defer l.end()
	for !l.stopping && !(l.draining && l.conns == 0) {
		n, err := l.await()
		if err != nil {
			l.stopping = true
			return err
		}
		l.beginTurn(n)
		for i := range n {
			l.dispatch(l.poller.event(i))
		}
		l.runQueued()
		l.drainInbox()
		l.expire()
		l.endTurn()
	}
	return nil
}

// await polls, lets other goroutines have the processor, polls again, and only then blocks: a poll that returns at
// once costs less than telling the scheduler of a call that may not, and a reply that is nearly done arrives without
// a sleep.
//
// await sets asleep and then looks into the inbox once more; submit fills the inbox and then looks at asleep. One of
// the two sees the other, so no wake-up is lost, and a loop that is at work gets none.
func (l *EventLoop) await() (int, error) {
	for look := range 2 {
		if look > 0 {
			runtime.Gosched()
		}
		if n, err := l.poller.poll(); n > 0 || err != nil || l.busy() {
			return n, err
		}
	}
	l.asleep.Store(true)
	defer l.asleep.Store(false)
	if l.inboxPending() {
		return l.poller.poll()
	}
	return l.poller.sleep(l.pollTimeout())
}

// busy tells that there is work for which no event will come.
func (l *EventLoop) busy() bool {
	if len(l.queue) > 0 {
		return true
	}
	for _, ln := range l.listeners {
		if ln.ready && ln.retryAt == 0 {
			return true
		}
	}
	return false
}

// pollTimeout is how many milliseconds the loop may sleep, -1 for ever.
func (l *EventLoop) pollTimeout() int {
	const forever = time.Duration(1<<63 - 1)
	ticks, ok := l.wheel.wait()
	for _, ln := range l.listeners {
		if ln.retryAt != 0 && (!ok || ln.retryAt-l.tick < ticks) {
			ticks, ok = ln.retryAt-l.tick, true
		}
	}
	timeout := forever
	if ok {
		at := l.began.Truncate(tickLength) + time.Duration(ticks)*tickLength
		timeout = max(0, at-time.Since(l.reactor.start))
	}
	if len(l.memoryPaused) > 0 {
		timeout = min(timeout, memoryRetry)
	}
	if timeout == forever {
		return -1
	}
	return int((timeout + time.Millisecond - 1) / time.Millisecond)
}

// beginTurn takes the time, endTurn reports how long the turn took.
func (l *EventLoop) beginTurn(events int) {
	l.turns.Add(1)
	l.turn = Turn{Events: events}
	l.began = time.Since(l.reactor.start)
	l.tick = tickAt(l.began)
}

func (l *EventLoop) endTurn() {
	if l.turn != (Turn{}) {
		l.turn.Lag = time.Since(l.reactor.start) - l.began
		l.opts.Observer.Turned(l.turn)
	}
}

// dispatch handles one connection's events, in this order:
//
//  1. An error or a full hang-up ends the connection: no reply can reach the peer.
//  2. Room to write comes before reading: memory is freed before more is taken, and the reading that a full outbound
//     queue had paused can resume in this very turn.
//  3. Reading.
//  4. The peer's half-close is last, and read finds it at the end of the bytes, so that every frame sent before it is
//     delivered.
//
// An event for a connection gone meanwhile finds another generation in its slot, or an empty slot.
func (l *EventLoop) dispatch(k key, events uint32) {
	if k.internal() {
		l.listenerReady(k) // finds none for wakeKey
		return
	}
	c := l.table.find(ConnID(k))
	if c == nil {
		return
	}
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		l.hangUp(c)
	} else {
		if events&unix.EPOLLOUT != 0 {
			c.clear(blocked)
		}
		if events&unix.EPOLLRDHUP != 0 {
			c.set(peerFIN)
		}
		if events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
			c.set(readable)
		}
		if c.out != nil {
			l.flushState(c)
		}
		if c.is(readable) && !c.is(queued) {
			l.read(c)
		}
	}
	l.markDirty(c)
	l.flushDirty()
}

// runQueued accepts connections, and reads on from those that are queued.
func (l *EventLoop) runQueued() {
	l.acceptReady()
	l.resumeMemoryPaused()
	l.queue, l.spare = l.spare[:0], l.queue
	for i, c := range l.spare {
		l.spare[i] = nil
		c.clear(queued)
		l.read(c)
		l.markDirty(c)
		l.flushDirty()
	}
}

// drainInbox executes what other goroutines asked for. The replies of one turn leave together, one write a connection.
func (l *EventLoop) drainInbox() {
	l.mu.Lock()
	l.inbox, l.commands = l.commands[:0], l.inbox
	l.mu.Unlock()
	for i := range l.commands {
		l.execute(&l.commands[i])
	}
	clear(l.commands)
	if cap(l.commands) > largestInbox {
		l.commands = nil
	}
	l.flushDirty()
}

// expire acts on the deadlines that have passed.
func (l *EventLoop) expire() {
	l.due = l.wheel.advance(l.tick, l.due[:0])
	for i, c := range l.due {
		l.due[i] = nil
		l.timeUp(c)
		l.markDirty(c)
	}
	l.flushDirty()
}

// drain begins the loop's part of Reactor.Drain. A second call finds no connection open.
func (l *EventLoop) drain() {
	l.draining = true
	for _, ln := range l.listeners {
		ln.close()
	}
	l.each(func(c *Conn) {
		if c.from.Drain != nil && c.state == open {
			c.from.Drain(c)
		}
		c.CloseAfterFlush(ErrDraining)
	})
}

// end closes the connections that are left and takes no more commands.
func (l *EventLoop) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.drainInbox()
	for _, c := range l.table.conns {
		if c != nil {
			l.reactor.cut.conns.Add(1)
			l.reactor.cut.inFlight.Add(int64(c.inFlight))
			l.reactor.cut.bytes.Add(int64(c.pending))
			c.Close(ErrStopped)
			l.markDirty(c)
		}
	}
	l.flushDirty()
	for l.wakers.Load() > 0 {
		runtime.Gosched()
	}
}
