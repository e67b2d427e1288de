package reactor

import "context"

// post is what a goroutine asks of a loop: bytes for a connection, the end of one, or anything else as a function.
type post struct {
	id    ConnID
	data  []byte
	done  bool
	close bool
	err   error
	do    func(*EventLoop)
}

const largestInbox = 1 << 10 // posts for which an inbox keeps its memory

// post puts p into the inbox and wakes the loop if it sleeps, once for however many posts. False: the loop has ended.
func (l *EventLoop) post(p post) bool {
	l.mu.Lock()
	ok := !l.ended
	if ok {
		l.inbox = append(l.inbox, p)
	}
	l.mu.Unlock()
	if ok {
		l.rouse()
	}
	return ok
}

// rouse wakes the loop if it sleeps. The count keeps a loop that ends meanwhile from closing the eventfd under the write.
func (l *EventLoop) rouse() {
	if l.asleep.Load() {
		l.rousing.Add(1)
		if l.asleep.CompareAndSwap(true, false) {
			l.poller.wake()
		}
		l.rousing.Add(-1)
	}
}

func (l *EventLoop) mail() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inbox) > 0
}

// send posts bytes for a connection, if they fit. With patient set it instead returns a gate to wait at while more than
// HighWater bytes are before them.
func (l *EventLoop) send(id ConnID, data []byte, done, patient bool) (*gate, error) {
	l.mu.Lock()
	c := l.table.find(id)
	if c == nil || l.ended {
		l.mu.Unlock()
		return nil, ErrConnGone
	}
	if patient && l.congested(c) {
		rare := c.uncommon()
		g := rare.gate.Load()
		if g == nil {
			g = new(gate)
			*g = make(gate)
			rare.gate.Store(g)
		}
		// The loop may have flushed everything between the look and the gate, and then would not look at the gate.
		if l.congested(c) {
			l.mu.Unlock()
			return g, nil
		}
	}
	p := post{id: id, data: data, done: done}
	var err error
	if len(data) >= maxBytes || !patient && !l.fits(c.outstanding.Load(), len(data)) {
		p = post{id: id, close: true, err: ErrOverflow}
		err = ErrOverflow
	}
	c.outstanding.Add(int32(len(p.data)))
	l.reactor.buffered.Add(int64(len(p.data)))
	l.inbox = append(l.inbox, p)
	l.mu.Unlock()
	l.rouse()
	return nil, err
}

// congested tells whether SendWait has to wait: for HighWater, or, when the memory of all is short, for this
// connection's own bytes to leave. A connection with nothing outstanding may always send, so that all make progress.
func (l *EventLoop) congested(c *Conn) bool {
	n := c.outstanding.Load()
	return n > int32(l.opts.HighWater) || n > 0 && l.reactor.crowded()
}

// fits tells whether n more bytes may wait behind those that do. A single message may be larger than MaxOutbound.
func (l *EventLoop) fits(waiting int32, n int) bool {
	return waiting == 0 || int(waiting)+n <= l.opts.MaxOutbound
}

// openGate lets those who wait at c's gate look again.
func (l *EventLoop) openGate(c *Conn) {
	if r := c.rare.Load(); r != nil {
		if g := r.gate.Swap(nil); g != nil {
			close(*g)
		}
	}
}

// handle does what a post asks.
func (l *EventLoop) handle(p *post) {
	if p.do != nil {
		p.do(l)
		return
	}
	n := len(p.data)
	l.reactor.buffered.Add(-int64(n))
	c := l.table.find(p.id)
	if c == nil {
		return
	}
	c.shown += int32(n) // these outstanding counts already
	if p.close {
		c.Close(p.err)
		return
	}
	if c.state < lingering && n > 0 {
		if n < ownReply {
			l.append(c, p.data)
		} else {
			c.push(l.pool.wrap(p.data))
		}
	}
	if p.done {
		c.Done()
	}
	l.touch(c)
}

// Send gives b to a connection to be written, and takes it over: the caller must not touch b again. done ends one
// Begin. It never blocks; nil means handed over, and says nothing of the peer. ErrConnGone: there is no such
// connection any more. ErrOverflow: MaxOutbound bytes wait already; the connection is then closed, since a reply left
// out would make what follows it wrong.
func (r *Reactor) Send(id ConnID, b []byte, done bool) error {
	l := r.loopOf(id)
	if l == nil {
		return ErrConnGone
	}
	_, err := l.send(id, b, done, false)
	return err
}

// SendWait is Send for long answers: it waits while more than HighWater bytes are outstanding. It ends with ErrConnGone
// when the connection does (a peer that takes nothing is closed after StallTimeout), or with ctx's error. It must not
// be called on a loop, which would wait for itself.
func (r *Reactor) SendWait(ctx context.Context, id ConnID, b []byte, done bool) error {
	l := r.loopOf(id)
	if l == nil {
		return ErrConnGone
	}
	for {
		g, err := l.send(id, b, done, true)
		if g == nil {
			return err
		}
		select {
		case <-*g:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close has a connection closed without flushing; err is what its Handler.Close receives.
func (r *Reactor) Close(id ConnID, err error) {
	if l := r.loopOf(id); l != nil {
		l.post(post{id: id, close: true, err: err})
	}
}

// Each has f called for every connection, on its loop, soon after Each has returned.
func (r *Reactor) Each(f func(*Conn)) {
	for _, l := range r.loops {
		l.post(post{do: func(l *EventLoop) { l.each(f) }})
	}
}

func (l *EventLoop) each(f func(*Conn)) {
	for _, c := range l.table.conns {
		if c != nil {
			f(c)
			l.touch(c)
		}
	}
}

func (r *Reactor) loopOf(id ConnID) *EventLoop {
	if i := id.loop(); id != 0 && i < len(r.loops) {
		return r.loops[i]
	}
	return nil
}
