package reactor

import (
	"context"

	"syncgate/internal/account"
)

// command is what a goroutine asks of a loop: bytes for a connection, or anything else as a function.
type command struct {
	id    ConnID
	payer *account.Holder // is charged for data
	data  []byte
	done  bool
	do    func(*EventLoop)
}

// on is the command to call f for a connection, if it is there then.
func on(id ConnID, f func(*Conn)) command {
	return command{do: func(l *EventLoop) {
		if c := l.table.find(id); c != nil {
			f(c)
			l.markDirty(c)
		}
	}}
}

const largestInbox = 1 << 10 // commands; a larger inbox is not kept for the next turn

// submit puts cmd into the inbox and wakes the loop if it sleeps. It returns false when the loop has ended.
func (l *EventLoop) submit(cmd command) bool {
	l.mu.Lock()
	ok := !l.ended
	if ok {
		l.inbox = append(l.inbox, cmd)
	}
	l.mu.Unlock()
	l.wake()
	return ok
}

// wake wakes the loop if it sleeps, once for any number of commands. A loop that ends waits for wakers to be 0, so that
// the eventfd is not closed under the write.
func (l *EventLoop) wake() {
	if l.asleep.Load() {
		l.wakers.Add(1)
		if l.asleep.CompareAndSwap(true, false) {
			l.poller.wake()
		}
		l.wakers.Add(-1)
	}
}

func (l *EventLoop) inboxPending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inbox) > 0
}

// send submits bytes for a connection, if they fit. With more than most bytes outstanding it submits nothing and
// returns a writeWaiter instead; most may be anyMost.
func (l *EventLoop) send(id ConnID, data []byte, done bool, most int32) (*writeWaiter, error) {
	wait := most != anyMost

	l.mu.Lock()
	c := l.table.find(id)
	if c == nil || l.ended {
		l.mu.Unlock()
		return nil, ErrConnGone
	}
	if wait && l.congested(c, most) {
		x := c.ensureExtra()
		w := x.waiter.Load()
		if w == nil {
			w = new(writeWaiter)
			*w = make(writeWaiter)
			x.waiter.Store(w)
		}
		// The loop may have flushed everything before it could see the waiter; then it would never wake it.
		if l.congested(c, most) {
			l.mu.Unlock()
			return w, nil
		}
	}
	cmd := command{id: id, payer: c.holder, data: data, done: done}
	var err error
	if len(data) >= maxBytes || !wait && !l.fits(c, c.outstanding.Load(), len(data)) {
		cmd, err = on(id, func(c *Conn) { c.Close(ErrOverflow) }), ErrOverflow
	}
	c.outstanding.Add(int32(len(cmd.data)))
	if n := len(cmd.data); n > 0 {
		cmd.payer.Add(int64(n))
	}
	l.inbox = append(l.inbox, cmd)
	l.mu.Unlock()
	l.wake()
	return nil, err
}

// anyMost bytes may be outstanding.
const anyMost = -1

// congested tells whether SendWait has to wait: for most, or, when the holder has its share, for this connection's own
// bytes to leave. A connection with nothing outstanding may always send, so that all make progress.
func (l *EventLoop) congested(c *Conn, most int32) bool {
	n := c.outstanding.Load()
	return n > most || n > 0 && !c.holder.MayTake(int64(n))
}

// fits tells whether n more bytes may wait behind those that do. A single message may be larger than MaxOutbound, and
// a small one is not refused for what its holder has elsewhere.
func (l *EventLoop) fits(c *Conn, waiting int32, n int) bool {
	return waiting == 0 || int(waiting)+n <= l.opts.MaxOutbound && (n < account.Floor || c.holder.MayTake(int64(n)))
}

// wakeWaiters has every SendWait that waits for c look again.
func (l *EventLoop) wakeWaiters(c *Conn) {
	if x := c.extra.Load(); x != nil {
		if w := x.waiter.Swap(nil); w != nil {
			close(*w)
		}
	}
}

// execute does what a command asks.
func (l *EventLoop) execute(cmd *command) {
	if cmd.do != nil {
		cmd.do(l)
		return
	}
	n := len(cmd.data)
	if n > 0 {
		cmd.payer.Add(-int64(n))
	}
	c := l.table.find(cmd.id)
	if c == nil {
		return
	}
	c.shown += int32(n) // outstanding counts these already
	if c.state < lingering && n > 0 {
		if n < zeroCopySize {
			l.append(c, cmd.data)
		} else {
			c.push(&chunk{data: cmd.data, size: cap(cmd.data)})
		}
	}
	if cmd.done {
		c.Done()
	}
	l.markDirty(c)
}

// Send gives b to a connection to be written, and takes it over: the caller must not touch b again. done ends one
// Begin. Send never blocks; nil means that the loop has b, not that the peer has. ErrConnGone: there is no such
// connection any more. ErrOverflow: MaxOutbound bytes wait already; the connection is then closed, since a reply left
// out would make what follows it wrong.
func (r *Reactor) Send(id ConnID, b []byte, done bool) error {
	_, err := r.loopOf(id).send(id, b, done, anyMost)
	return err
}

// SendWait is Send for long answers: it waits while more than most bytes, or HighWater bytes, are outstanding. It
// returns ErrConnGone when the connection ends (a peer that takes nothing is closed after StallTimeout), or ctx's
// error. It must not be called on a loop, which would wait for itself.
func (r *Reactor) SendWait(ctx context.Context, id ConnID, b []byte, done bool, most int) error {
	l := r.loopOf(id)
	for {
		w, err := l.send(id, b, done, int32(min(most, l.opts.HighWater)))
		if w == nil {
			return err
		}
		select {
		case <-*w:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close has a connection closed without flushing; its Handler.Close receives err.
func (r *Reactor) Close(id ConnID, err error) {
	r.Do(id, func(c *Conn) { c.Close(err) })
}

// Do has f called for a connection on its loop, soon after Do has returned, if the connection is there then.
func (r *Reactor) Do(id ConnID, f func(*Conn)) {
	r.loopOf(id).submit(on(id, f))
}

// Each has f called for every connection, on its loop, soon after Each has returned.
func (r *Reactor) Each(f func(*Conn)) {
	for _, l := range r.loops {
		l.submit(command{do: func(l *EventLoop) { l.each(f) }})
	}
}

func (l *EventLoop) each(f func(*Conn)) {
	for _, c := range l.table.conns {
		if c != nil {
			f(c)
			l.markDirty(c)
		}
	}
}

// loopOf is the loop that has id, if a loop has it.
func (r *Reactor) loopOf(id ConnID) *EventLoop { return r.loops[id.loop()%len(r.loops)] }
