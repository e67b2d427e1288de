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

	unsettled    []*Conn     // to settle before the turn goes on
	queue, spare []*Conn     // to go on with in the next turn
	starved      []*Conn     // under PauseMemory
	due          []*Conn     // for expire
	taken        []post      // for collect
	listeners    []*listener // those this loop accepts for
	sources      []*source   // all of them, as this loop's connections know them

	conns    int
	draining bool
	stopping error // why the loop must end now

	// From here on other goroutines take part.
	turns    atomic.Uint64
	assigned atomic.Int64 // connections here or on their way here
	asleep   atomic.Bool  // the loop is about to block, or does: whoever clears it writes the eventfd
	rousing  atomic.Int32 // how many are about to

	mu    sync.Mutex
	table table
	inbox []post
	ended bool // nothing is taken into the inbox any more
}

// run is the whole event loop. Each turn handles, in this order,
//
//	what the kernel has ready, one connection at a time: error, write, read, half-close (see dispatch);
//	connections that gave way to others at the end of their budget, which are now behind those just handled;
//	what other goroutines handed in: replies, closes, new connections;
//	deadlines, last, so that bytes which came in time are seen before the clock is.
//
// Whatever a connection was given to write leaves when it is settled, before the next one is looked at.
func (l *EventLoop) run() (err error) {
	defer l.end()
	for l.stopping == nil && !(l.draining && l.conns == 0) {
		n, err := l.await()
		if err != nil {
			l.stopping = ErrStopped
			return err
		}
		l.begin(n)
		for i := range n {
			l.dispatch(l.poller.event(i))
		}
		l.proceed()
		l.collect()
		l.expire()
		l.finish()
	}
	return nil
}

// await polls, lets other goroutines have the processor, polls again, and only then blocks: a poll that returns at once
// costs less than telling the scheduler of a call that may not, and an answer that is on its way is met without sleep.
//
// Declaring itself asleep and then looking into the inbox once more pairs with post, which fills the inbox and then
// looks whether the loop is asleep: one of the two sees the other, so no wake-up is lost, and none is sent to a loop
// that is at work.
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
	if l.mail() {
		return l.poller.poll()
	}
	return l.poller.sleep(l.patience())
}

// dispatch handles one connection's events.
//
//  1. Error or full hang-up first: nobody is left to answer, so nothing else is worth doing.
//  2. Room to write before reading: memory leaves before more comes in, and the reading that a full outbound queue
//     had paused can resume in this very turn.
//  3. Reading.
//  4. The peer's half-close last, and not by itself: it is met as the end of what was read, so that every frame sent
//     before it is delivered.
//
// An event for a connection gone meanwhile finds another generation in its slot, or nobody.
func (l *EventLoop) dispatch(k key, events uint32) {
	if k.internal() {
		if k != wakeKey {
			l.listenerReady(k)
		}
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
			c.set(hungUp)
		}
		if events&(unix.EPOLLIN|unix.EPOLLRDHUP) != 0 {
			c.set(readable)
		}
		if c.out != nil {
			l.settle(c)
		}
		if c.is(readable) && !c.is(queued) {
			l.read(c)
		}
	}
	l.touch(c)
	l.settleAll()
}

// proceed goes on with the connections that queued up in the turn before, or since.
func (l *EventLoop) proceed() {
	l.acceptMore()
	l.feed()
	l.queue, l.spare = l.spare[:0], l.queue
	for i, c := range l.spare {
		l.spare[i] = nil
		c.clear(queued)
		l.read(c)
		l.touch(c)
		l.settleAll()
	}
}

// collect does what other goroutines asked for. The replies of one turn leave together, one write a connection.
func (l *EventLoop) collect() {
	l.mu.Lock()
	l.inbox, l.taken = l.taken[:0], l.inbox
	l.mu.Unlock()
	for i := range l.taken {
		l.handle(&l.taken[i])
	}
	clear(l.taken)
	if cap(l.taken) > largestInbox {
		l.taken = nil
	}
	l.settleAll()
}

// expire ends or tells the connections whose deadline has passed.
func (l *EventLoop) expire() {
	l.due = l.wheel.advance(l.tick, l.due[:0])
	for i, c := range l.due {
		l.due[i] = nil
		l.timeUp(c)
		l.touch(c)
	}
	l.settleAll()
}

// begin takes the time, finish tells how long the turn took.
func (l *EventLoop) begin(events int) {
	l.turns.Add(1)
	l.turn = Turn{Loop: l.index, Events: events}
	l.began = time.Since(l.reactor.start)
	l.tick = tickAt(l.began)
}

func (l *EventLoop) finish() {
	if l.turn != (Turn{Loop: l.index}) {
		l.turn.Lag = time.Since(l.reactor.start) - l.began
		l.opts.Observer.Turned(l.turn)
	}
}

// busy tells that there is work for which no event will come.
func (l *EventLoop) busy() bool {
	if len(l.queue) > 0 {
		return true
	}
	for _, ln := range l.listeners {
		if ln.ready && ln.restTo == 0 {
			return true
		}
	}
	return false
}

// patience is how many milliseconds the loop may sleep.
func (l *EventLoop) patience() int {
	until := never
	sooner := func(d time.Duration) {
		if until == never || d < until {
			until = d
		}
	}
	start := l.began / tickLength * tickLength
	if ticks, ok := l.wheel.wait(); ok {
		sooner(start + time.Duration(ticks)*tickLength)
	}
	for _, ln := range l.listeners {
		if ln.restTo != 0 {
			sooner(start + time.Duration(ln.restTo-l.tick)*tickLength)
		}
	}
	if until != never {
		until = max(0, until-time.Since(l.reactor.start))
	}
	if len(l.starved) > 0 {
		sooner(starvedWait)
	}
	if until == never {
		return -1
	}
	return int((until + time.Millisecond - 1) / time.Millisecond)
}
