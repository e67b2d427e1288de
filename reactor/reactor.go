package reactor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"syncgate/internal/account"
)

// Reactor serves its listeners. All methods may be called from any goroutine.
type Reactor struct {
	opts      Options
	listeners []*listener
	loops     []*EventLoop
	admission admission
	start     time.Time
	ledger    *account.Ledger

	begun atomic.Bool                                   // Run was called, or Drain before it
	done  chan struct{}                                 // closed when Run has returned, or never will be
	cut   struct{ conns, inFlight, bytes atomic.Int64 } // for CutError
}

// New checks the options and binds the listeners, so that Addrs is known and a port in use is an error at once.
// Nothing runs before Run.
func New(o Options) (*Reactor, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Reactor{opts: o, ledger: o.Ledger, done: make(chan struct{})}
	r.admission.init(&r.opts)
	for i, opts := range o.Listeners {
		ln, err := listen(i, opts)
		if err != nil {
			r.release()
			return nil, err
		}
		r.listeners = append(r.listeners, ln)
	}
	for i := range o.Loops {
		r.loops = append(r.loops, newEventLoop(r, i))
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

// ErrRun is returned by every Run but the first.
var ErrRun = errors.New("reactor: Run was called before")

// Run serves until Drain has finished, or until ctx ends, which cuts every connection off. It returns when every
// goroutine of the reactor has ended. An error means that a loop could not go on.
func (r *Reactor) Run(ctx context.Context) error {
	if r.begun.Swap(true) {
		return ErrRun
	}
	defer close(r.done)
	defer r.release()
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
	return errors.Join(errs...)
}

// open opens the loops' pollers and puts the listeners into the first.
func (r *Reactor) open() error {
	for _, l := range r.loops {
		if err := l.poller.open(); err != nil {
			return err
		}
	}
	first := r.loops[0]
	for _, ln := range r.listeners {
		if err := first.poller.add(ln.fd, listenerKey(ln.index)); err != nil {
			return err
		}
	}
	first.listeners = r.listeners
	return nil
}

// release closes the listeners and the pollers.
func (r *Reactor) release() {
	for _, ln := range r.listeners {
		ln.close()
	}
	for _, l := range r.loops {
		l.poller.close()
	}
}

// stop ends every loop now.
func (r *Reactor) stop() {
	for _, l := range r.loops {
		l.submit(command{do: func(l *EventLoop) { l.stopping = true }})
	}
}

// CutError reports the connections that Drain closed before they were finished.
type CutError struct {
	Conns    int   // connections cut off
	InFlight int   // frames begun on them and not done
	Bytes    int64 // bytes written to them that had not left
	Err      error // why Drain did not wait longer
}

func (e *CutError) Error() string {
	return fmt.Sprintf("reactor: drain cut off %d connections with %d frames in flight and %d bytes unsent: %v",
		e.Conns, e.InFlight, e.Bytes, e.Err)
}

func (e *CutError) Unwrap() error { return e.Err }

// Drain stops accepting, calls each Listener's Drain hook, delivers no further frame, waits until every frame in flight
// is answered and the answer flushed, and closes; then Run returns. When ctx ends first, the remaining connections are
// cut off and a *CutError counts them. On a reactor that was never run it releases the listeners.
func (r *Reactor) Drain(ctx context.Context) error {
	if !r.begun.Swap(true) {
		r.release()
		close(r.done)
		return nil
	}
	for _, l := range r.loops {
		l.submit(command{do: (*EventLoop).drain})
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
	Buffered      int64 // bytes that the ledger counts
}

// Load returns the figures of this moment.
func (r *Reactor) Load() Load {
	r.admission.mu.Lock()
	defer r.admission.mu.Unlock()
	return Load{r.admission.conns, r.admission.unestablished, r.ledger.Used()}
}

// Progress is each loop's count of turns, for a watchdog. It also wakes the loops, so that even in an idle reactor a
// count that is the same at the next call is that of a loop that is stuck.
func (r *Reactor) Progress() []uint64 {
	turns := make([]uint64, len(r.loops))
	for i, l := range r.loops {
		turns[i] = l.turns.Load()
		l.submit(command{do: func(*EventLoop) {}})
	}
	return turns
}
