package gateway

import "sync"

// clerk does what an event loop should not: seal a short message, for which the session's lock may have to be waited
// for. What it has to do is bounded by the frames in flight, since whatever asks for it holds one, and by a notice a
// connection.
type clerk struct {
	mu     sync.Mutex
	more   sync.Cond
	chores []func()
	closed bool
}

func newClerk() *clerk {
	c := &clerk{}
	c.more.L = &c.mu
	return c
}

// do has f called soon, in the order of the calls. After close it is not.
func (c *clerk) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chores = append(c.chores, f)
	c.more.Signal()
}

func (c *clerk) run() {
	for {
		c.mu.Lock()
		for len(c.chores) == 0 && !c.closed {
			c.more.Wait()
		}
		chores := c.chores
		c.chores = nil
		c.mu.Unlock()
		if len(chores) == 0 {
			return
		}
		for _, f := range chores {
			f()
		}
	}
}

// close ends run when everything there was to do is done.
func (c *clerk) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.more.Signal()
}
