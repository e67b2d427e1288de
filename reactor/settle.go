package reactor

import (
	"time"

	"golang.org/x/sys/unix"
)

const starvedWait = 20 * time.Millisecond

// Handlers, replies and deadlines only mark what is to become of a connection; settling is where it happens. So a
// handler may close its connection in the middle of anything, and everything written in a turn leaves in one write.

// touch has c settled before the turn goes on.
func (l *EventLoop) touch(c *Conn) {
	if !c.is(touched) && c.state != dead {
		c.set(touched)
		l.unsettled = append(l.unsettled, c)
	}
}

func (l *EventLoop) settleAll() {
	for i := 0; i < len(l.unsettled); i++ {
		c := l.unsettled[i]
		l.unsettled[i] = nil
		c.clear(touched)
		l.settle(c)
	}
	l.unsettled = l.unsettled[:0]
}

// settle writes what waits, takes the connection on to the state it is ripe for, and files its next deadline.
func (l *EventLoop) settle(c *Conn) {
	if c.state < doomed {
		l.flush(c)
	}
	if c.state == finishing && c.inFlight == 0 && c.out == nil {
		l.farewell(c)
	}
	if c.state >= doomed {
		if c.state == doomed {
			l.bury(c)
		}
		return
	}
	if c.state != open && c.in != nil {
		l.pool.put(c.in)
		c.in = nil
	}
	if c.pending > int32(l.opts.HighWater) {
		l.pause(c, PauseOutbound)
	} else if c.pending <= int32(l.opts.HighWater/2) {
		l.resume(c, PauseOutbound)
	}
	l.account(c)
	if at := l.nextDeadline(c); at != 0 {
		l.wheel.file(c, at)
	}
}

// account shows the rest of the program what c holds, and lets SendWait go on when that has become little. In the usual
// turn nothing is left over and nothing has to be said.
func (l *EventLoop) account(c *Conn) {
	held := 0
	if c.in != nil {
		held = c.in.size
	}
	if last := c.out; last != nil {
		for b := last.next; ; b = b.next {
			if held += b.size; b == last {
				break
			}
		}
	}
	if held := int32(held); held != c.held {
		l.reactor.buffered.Add(int64(held - c.held))
		c.held = held
	}
	if c.pending != c.shown {
		c.outstanding.Add(c.pending - c.shown)
		c.shown = c.pending
	}
	if c.pending <= int32(l.opts.HighWater/2) {
		l.openGate(c)
	}
}

// farewell ends c once nothing is owed to the peer: at once when the peer has ended too, else with our FIN and some
// time for the peer's.
func (l *EventLoop) farewell(c *Conn) {
	if c.is(ended) {
		c.state = doomed
		return
	}
	if err := unix.Shutdown(int(c.fd), unix.SHUT_WR); err != nil {
		c.state = doomed
		return
	}
	c.state = lingering
	c.frameAt, c.timerAt = 0, 0
	c.limitAt = l.deadline(l.opts.LingerTimeout)
	l.enqueue(c)
}

// hangUp dooms c for the error its socket reports.
func (l *EventLoop) hangUp(c *Conn) {
	errno, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		c.Close(err)
	case errno != 0:
		c.Close(unix.Errno(errno))
	default:
		c.Close(ErrPeerClosed)
	}
}

// bury frees everything c has and tells the handler. The id dies first and the descriptor next, so that by the time
// the kernel can give the number away no reply finds this connection.
func (l *EventLoop) bury(c *Conn) {
	c.state = dead
	l.wheel.drop(c)
	l.remove(c)
	unix.Close(int(c.fd))
	l.openGate(c)
	l.drop(c.in)
	c.in = nil
	for c.out != nil {
		l.pool.put(c.shift())
	}
	l.reactor.buffered.Add(-int64(c.held))
	l.reactor.door.leave(c.Remote().Addr(), c.is(established))
	l.assigned.Add(-1)
	l.conns--
	if !c.is(unopened) {
		c.from.Handler.Close(c, c.why())
	}
	l.opts.Observer.Closed(c.from.index, c.why())
}

// remove makes c's id that of nobody.
func (l *EventLoop) remove(c *Conn) {
	l.mu.Lock()
	l.table.remove(c)
	l.mu.Unlock()
}

// enqueue has c gone on with in the next turn.
func (l *EventLoop) enqueue(c *Conn) {
	if !c.is(queued) {
		c.set(queued)
		l.queue = append(l.queue, c)
	}
}

// pause stops the reading of c for one more reason. It is then not the peer who keeps a frame from being complete, so
// the frame's clock stops; except under PauseMemory, where incomplete frames may be just what fills the memory.
func (l *EventLoop) pause(c *Conn, why Pause) {
	if c.pauses&why == 0 {
		c.pauses |= why
		if why != PauseMemory {
			c.frameAt = 0
		}
		l.opts.Observer.Paused(why)
	}
}

// resume takes a reason away. With the last of them gone c is gone on with: first with the whole frames it may hold
// already, for which no event would come, then with the socket.
func (l *EventLoop) resume(c *Conn, why Pause) {
	if c.pauses&why != 0 {
		if c.pauses &^= why; c.pauses == 0 && (c.in != nil || c.is(readable)) {
			l.enqueue(c)
		}
	}
}

// starve keeps c unread until memory is free again.
func (l *EventLoop) starve(c *Conn) {
	l.pause(c, PauseMemory)
	l.starved = append(l.starved, c)
}

// feed goes on with the starved connections. What they wait for may be freed by another loop, so while there are any
// the loop looks every starvedWait.
func (l *EventLoop) feed() {
	if len(l.starved) == 0 || l.reactor.crowded() {
		return
	}
	for i, c := range l.starved {
		l.starved[i] = nil
		l.resume(c, PauseMemory)
	}
	l.starved = l.starved[:0]
}

// deadline is the tick at which d from now has certainly passed.
func (l *EventLoop) deadline(d time.Duration) tick { return l.tick.after(d) }

// nextDeadline is the earliest of c's deadlines, 0 when it has none.
func (l *EventLoop) nextDeadline(c *Conn) tick {
	at := tick(0)
	for _, t := range [...]tick{c.timerAt, c.limitAt, c.frameAt, c.stallAt, l.idleAt(c)} {
		if t != 0 && (at == 0 || t.before(at)) {
			at = t
		}
	}
	return at
}

// idleAt is when c's silence is to be acted upon: first by the Idle hook, then by closing. While we owe the peer
// something, or do not read it, its silence means nothing.
func (l *EventLoop) idleAt(c *Conn) tick {
	if c.state != open || c.inFlight > 0 || c.pauses != 0 || c.out != nil {
		return 0
	}
	if c.from.Idle != nil && !c.is(pinged) {
		return c.heardAt.after(l.opts.IdleTimeout / 2)
	}
	return c.heardAt.after(l.opts.IdleTimeout)
}

// timeUp acts on those of c's deadlines that have passed. The wheel's entry may well be older than what c has done
// since; then nothing has passed, and settling files c again.
func (l *EventLoop) timeUp(c *Conn) {
	passed := func(at tick) bool { return at != 0 && !l.tick.before(at) }
	if passed(c.stallAt) {
		if r, left := c.uncommon(), unacked(c); left < r.unacked {
			r.unacked, c.stallAt = left, l.deadline(l.opts.StallTimeout)
		}
	}
	switch {
	case passed(c.limitAt) && c.state == lingering:
		c.Close(nil)
	case passed(c.limitAt):
		c.Close(ErrHandshakeTimeout)
	case passed(c.frameAt):
		c.Close(ErrFrameTimeout)
	case passed(c.stallAt):
		c.Close(ErrStalled)
	case passed(l.idleAt(c)):
		if c.from.Idle != nil && !c.is(pinged) {
			c.set(pinged)
			c.from.Idle(c)
		} else {
			c.Close(ErrIdle)
		}
	}
	if c.state < lingering && passed(c.timerAt) {
		c.timerAt = 0
		c.from.Handler.Timer(c)
	}
}
