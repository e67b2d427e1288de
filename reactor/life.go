package reactor

import "runtime"

// open and end are the loop's first and last acts.
func (l *EventLoop) open() error {
	l.scratch = make([]byte, scratchSize)
	l.tick = tickAt(0)
	l.wheel.now, l.wheel.table = l.tick, &l.table
	for _, ln := range l.reactor.listeners {
		l.sources = append(l.sources, &source{ln, l})
	}
	return l.poller.open()
}

func (l *EventLoop) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.collect()
	for _, c := range l.table.conns {
		if c != nil {
			l.reactor.cut.conns.Add(1)
			l.reactor.cut.inFlight.Add(int64(c.inFlight))
			l.reactor.cut.bytes.Add(int64(c.pending))
			c.Close(l.stopping)
			l.touch(c)
		}
	}
	l.settleAll()
	for l.rousing.Load() > 0 {
		runtime.Gosched()
	}
}

// drain begins the loop's part of Reactor.Drain.
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
