package reactor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Reactor serves its listeners. All methods may be called from any goroutine.
type Reactor struct {
	opts      Options
	listeners []*listener
	loops     []*EventLoop
	door      door
	start     time.Time
	buffered  atomic.Int64

	mu      sync.Mutex
	begun   bool          // Run was called, or Drain before it
	done    chan struct{} // closed when Run has returned, or never will be
	drained atomic.Bool
	cut     cut
}

// New checks the options and binds the listeners, so that Addrs is known and a port in use is found out at once.
// Nothing runs before Run.
func New(o Options) (*Reactor, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Reactor{opts: o, done: make(chan struct{})}
	r.door = door{opts: &r.opts, from: make(map[netip.Addr]int)}
	for i, opts := range o.Listeners {
		ln, err := listen(i, opts)
		if err != nil {
			r.unlisten()
			return nil, err
		}
		r.listeners = append(r.listeners, ln)
	}
	for i := range o.Loops {
		r.loops = append(r.loops, &EventLoop{reactor: r, opts: &r.opts, index: i})
	}
	return r, nil
}

// Addrs are the addresses served, in the order of Options.Listeners.
func (r *Reactor) Addrs() []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, ln := range r.listeners {
		addrs = append(addrs, ln.bound)
	}
	return addrs
}

// ErrRun is Run's answer to being called twice.
var ErrRun = errors.New("reactor: Run was called before")

// Run serves until Drain has finished or ctx ends, which cuts every connection off, and returns when every goroutine
// of the reactor has ended. An error means that a loop could not go on.
func (r *Reactor) Run(ctx context.Context) error {
	if !r.begin() {
		return ErrRun
	}
	defer close(r.done)
	defer r.unlisten()
	r.start = time.Now()
	if err := r.open(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, r.stop)
	defer stop()
	errs := make([]error, len(r.loops))
	var loops sync.WaitGroup
	for i, l := range r.loops {
		loops.Go(func() {
			if errs[i] = l.run(); errs[i] != nil {
				r.stop()
			}
		})
	}
	loops.Wait()
	for _, l := range r.loops {
		l.poller.close()
	}
	return errors.Join(errs...)
}

func (r *Reactor) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := !r.begun
	r.begun = true
	return first
}

// open makes the loops ready: their pollers, and the listeners in the first one's.
func (r *Reactor) open() (err error) {
	for i, l := range r.loops {
		if err = l.open(); err != nil {
			for _, opened := range r.loops[:i] {
				opened.poller.close()
			}
			return err
		}
	}
	first := r.loops[0]
	for _, ln := range r.listeners {
		if err = first.poller.add(ln.fd, listenerKey(ln.index)); err != nil {
			break
		}
	}
	first.listeners = r.listeners
	if err != nil {
		for _, l := range r.loops {
			l.poller.close()
		}
	}
	return err
}

func (r *Reactor) unlisten() {
	for _, ln := range r.listeners {
		ln.close()
	}
}

// stop ends every loop now.
func (r *Reactor) stop() {
	for _, l := range r.loops {
		l.post(post{do: func(l *EventLoop) { l.stopping = ErrStopped }})
	}
}

// CutError is what Drain left undone.
type CutError struct {
	Conns    int   // connections closed before they were through
	InFlight int   // frames begun on them and not done
	Bytes    int64 // bytes written to them that had not left
	Err      error // why Drain did not wait longer
}

func (e *CutError) Error() string {
	return fmt.Sprintf("reactor: drain cut off %d connections with %d frames in flight and %d bytes unsent: %v",
		e.Conns, e.InFlight, e.Bytes, e.Err)
}

func (e *CutError) Unwrap() error { return e.Err }

type cut struct {
	conns, inFlight, bytes atomic.Int64
}

// Drain stops accepting, calls each Listener's Drain hook, delivers no further frame, waits until what is in flight is
// answered and flushed, and closes; then Run returns. When ctx ends first, the rest is cut off and a *CutError says how
// much that was. On a reactor that was never run it releases the listeners.
func (r *Reactor) Drain(ctx context.Context) error {
	if r.begin() {
		r.unlisten()
		close(r.done)
		return nil
	}
	if r.drained.CompareAndSwap(false, true) {
		for _, l := range r.loops {
			l.post(post{do: (*EventLoop).drain})
		}
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	r.stop()
	<-r.done
	if n := r.cut.conns.Load(); n > 0 {
		return &CutError{Conns: int(n), InFlight: int(r.cut.inFlight.Load()), Bytes: r.cut.bytes.Load(), Err: ctx.Err()}
	}
	return nil
}

// Load is what the reactor holds at this moment.
type Load struct {
	Conns         int   // connections
	Unestablished int   // … that have not called Establish
	Buffered      int64 // bytes held for them in both directions
}

// Load is for gauges.
func (r *Reactor) Load() Load {
	r.door.mu.Lock()
	defer r.door.mu.Unlock()
	return Load{r.door.conns, r.door.strangers, r.buffered.Load()}
}

// Progress is each loop's count of turns, for a watchdog. It also wakes the loops, so a count that has not moved by the
// next look, however idle the reactor, is a loop that is stuck.
func (r *Reactor) Progress() []uint64 {
	turns := make([]uint64, len(r.loops))
	for i, l := range r.loops {
		turns[i] = l.turns.Load()
		l.post(post{do: func(*EventLoop) {}})
	}
	return turns
}

// crowded tells whether as much is buffered as may be.
func (r *Reactor) crowded() bool { return r.buffered.Load() > r.opts.MaxBuffered }
