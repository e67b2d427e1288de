package reactor

import (
	"cmp"
	"time"

	"golang.org/x/sys/unix"
)

const (
	memoryRetry    = 20 * time.Millisecond // between two looks whether memory is free again
	memoryPatience = 4                     // times FrameTimeout that a frame may wait for memory
)

// markDirty has flushState called for c before the turn goes on.
func (l *EventLoop) markDirty(c *Conn) {
	if !c.is(dirty) && c.state != closed {
		c.set(dirty)
		l.dirty = append(l.dirty, c)
	}
}

// flushDirty calls flushState for the dirty connections, and for those that become dirty meanwhile.
func (l *EventLoop) flushDirty() {
	for i := 0; i < len(l.dirty); i++ {
		c := l.dirty[i]
		l.dirty[i] = nil
		c.clear(dirty)
		l.flushState(c)
	}
	l.dirty = l.dirty[:0]
}

// flushState writes what waits, moves c to its next state if it is ready for that, and files its next deadline.
func (l *EventLoop) flushState(c *Conn) {
	if c.state < closing {
		l.flush(c)
	}
	if c.state == finishing && c.inFlight == 0 && c.out == nil {
		l.shutdownWrite(c)
	}
	if c.state >= closing {
		if c.state == closing {
			l.teardown(c)
		}
		return
	}
	if c.state != open {
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

// account publishes the bytes that c holds, and wakes SendWait when few are left. In the usual turn nothing is left
// over and no counter changes.
func (l *EventLoop) account(c *Conn) {
	held := 0
	if c.in != nil {
		held = c.in.size
	}
	held = max(held, int(c.reserved))
	if last := c.out; last != nil {
		for b := last.next; ; b = b.next {
			if held += b.size; b == last {
				break
			}
		}
	}
	if held := int32(held); held != c.held {
		c.holder.Add(int64(held - c.held))
		c.held = held
	}
	if c.pending != c.shown {
		c.outstanding.Add(c.pending - c.shown)
		c.shown = c.pending
	}
	if c.pending <= int32(l.opts.HighWater/2) {
		l.wakeWaiters(c)
	}
}

// shutdownWrite ends c when every reply has left: at once if the peer's FIN was read, else with our FIN and
// LingerTimeout for the peer's.
func (l *EventLoop) shutdownWrite(c *Conn) {
	if c.is(eof) || unix.Shutdown(int(c.fd), unix.SHUT_WR) != nil {
		c.state = closing
		return
	}
	c.state = lingering
	c.frameAt, c.timerAt = 0, 0
	c.limitAt = l.tick.after(l.opts.LingerTimeout)
	if c.from.Overrun != nil && c.flags&(established|peeked) != 0 {
		c.frameAt = l.tick.after(l.opts.FrameTimeout) // for a client that sends on before it reads
	}
	l.enqueue(c)
}

// hangUp closes c with the error that its socket reports.
func (l *EventLoop) hangUp(c *Conn) {
	errno, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if errno != 0 {
		err = unix.Errno(errno)
	}
	c.Close(cmp.Or(err, ErrPeerClosed))
}

// teardown frees everything c has and calls the handler's Close. The id becomes invalid before the descriptor is
// closed, so that no reply finds this connection once the kernel can give the number to another.
func (l *EventLoop) teardown(c *Conn) {
	c.state = closed
	l.wheel.drop(c)
	l.remove(c)
	unix.Close(int(c.fd))
	l.wakeWaiters(c)
	l.pool.put(c.in)
	c.in = nil
	for c.out != nil {
		l.pool.put(c.shift())
	}
	c.holder.Add(-int64(c.held))
	c.holder.Close()
	l.reactor.admission.release(c.id, c.from.index, c.Remote().Addr())
	l.assigned.Add(-1)
	l.conns--
	if !c.is(unopened) {
		c.from.Handler.Close(c, c.err())
	}
	l.opts.Observer.Closed(c.from.index, c.err())
}

// remove makes c's id invalid.
func (l *EventLoop) remove(c *Conn) {
	l.mu.Lock()
	l.table.remove(c)
	l.mu.Unlock()
}

// enqueue has runQueued read on from c in the next turn.
func (l *EventLoop) enqueue(c *Conn) {
	if !c.is(queued) {
		c.set(queued)
		l.queue = append(l.queue, c)
	}
}

// pause stops the reading of c for one more reason. The peer can't complete its frame meanwhile, so the frame's clock
// stops; except under PauseMemory, where incomplete frames may be just what fills the memory.
func (l *EventLoop) pause(c *Conn, why Pause) {
	if c.pauses&why == 0 {
		c.pauses |= why
		if why != PauseMemory {
			c.frameAt = 0
		}
		l.opts.Observer.Paused(why)
	}
}

// resume takes a reason away. With the last of them gone c is queued: first come the whole frames it may hold already,
// for which no event would come, then the socket.
func (l *EventLoop) resume(c *Conn, why Pause) {
	if c.pauses&why != 0 {
		if c.pauses &^= why; c.pauses == 0 && (c.in != nil || c.is(readable)) {
			l.enqueue(c)
		}
	}
}

// pauseForMemory stops the reading of c until its holder may have more.
func (l *EventLoop) pauseForMemory(c *Conn) {
	l.pause(c, PauseMemory)
	l.memoryPaused = append(l.memoryPaused, c)
}

// resumeMemoryPaused resumes the connections under PauseMemory whose holders may have more, the longest paused first.
// Another loop, or a worker, may be the one to free the memory, so while there are such connections the loop wakes
// every memoryRetry. Resuming takes nothing yet: the connections resumed are read in this order and ask again.
func (l *EventLoop) resumeMemoryPaused() {
	rest := l.memoryPaused[:0]
	for _, c := range l.memoryPaused {
		switch {
		case c.state == closed:
		case c.holder.MayTake(1):
			l.resume(c, PauseMemory)
		default:
			rest = append(rest, c)
		}
	}
	clear(l.memoryPaused[len(rest):])
	l.memoryPaused = rest
}

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

// idleAt is when c's silence calls for the Idle hook, or, after that, for closing. While a reply is due to the peer, or
// the peer is not read, its silence means nothing.
func (l *EventLoop) idleAt(c *Conn) tick {
	if c.state != open || c.inFlight > 0 || c.pauses != 0 || c.out != nil {
		return 0
	}
	if c.from.Idle != nil && !c.is(pinged) {
		return c.heardAt.after(l.opts.IdleTimeout / 2)
	}
	return c.heardAt.after(l.opts.IdleTimeout)
}

// timeUp acts on those of c's deadlines that have passed. If they have all moved since the wheel's entry was made, none
// has passed, and flushState files c again.
func (l *EventLoop) timeUp(c *Conn) {
	passed := func(at tick) bool { return at != 0 && !l.tick.before(at) }
	if passed(c.stallAt) {
		if x, left := c.ensureExtra(), unacked(c); left < x.unacked {
			x.unacked, c.stallAt = left, l.tick.after(l.opts.StallTimeout)
		}
	}
	switch {
	case passed(c.limitAt):
		c.overrun(ErrHandshakeTimeout) // in lingering, c keeps the reason that it has
	case passed(c.frameAt):
		c.overrun(ErrFrameTimeout)
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
