package reactor

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// SplitFunc finds the first whole frame at the front of buf. It returns the frame's length, 0 when more bytes are
// needed, or an error, which closes the connection. max is the largest body the connection may send at present, so
// that a length over it is refused from the header alone. It runs on a loop, must not block and must not keep buf.
type SplitFunc func(buf []byte, max int) (n int, err error)

// Handler receives what happens on connections. Every method runs on the connection's loop: calls for one connection
// never overlap, and a call that blocks holds up every other connection of that loop.
type Handler interface {
	// Open reports an accepted connection. An error closes it, and Close is then not called.
	Open(c *Conn) error
	// Frame hands over one whole frame, which is valid only during the call. An error closes the connection.
	Frame(c *Conn, frame []byte) error
	// Timer reports that the time given to Conn.SetTimer has passed.
	Timer(c *Conn)
	// Close is the last call for a connection, made exactly once after an Open without error. err says why, and Reason
	// names it in one word. The connection's id is dead by now: a reply sent to it gives ErrConnGone.
	Close(c *Conn, err error)
}

// Listener is one address served, with the framing and the handler of its connections.
type Listener struct {
	// Address is host:port with a literal address; an empty host means every address of both families, port 0 any port.
	Address string
	Split   SplitFunc
	Handler Handler

	// FirstFrameMax is the largest body before SetMaxFrame is called; 512 when 0.
	FirstFrameMax int
	// Overhead is how many bytes a frame may have beside its body; 256 when 0. Body limit and Overhead together bound
	// what the connection may have buffered.
	Overhead int
	// MaxInFlight is how many frames may be begun and not done before reading pauses; 16 when 0. 1 makes a connection
	// strictly request, reply, request, reply.
	MaxInFlight int
	// HandshakeTimeout is from accept to Establish on this listener; Options.HandshakeTimeout when 0.
	HandshakeTimeout time.Duration
	// Refusal, when set, is sent in one attempt to a connection turned away at a cap, before it is closed.
	Refusal []byte

	// Idle, when set, is called on the loop once half of IdleTimeout has passed in silence: the place for a ping.
	Idle func(*Conn)
	// Drain, when set, is called on the loop for every connection when Reactor.Drain begins, before the connection
	// stops being read: the place for a farewell.
	Drain func(*Conn)
}

// Options configure a Reactor. A zero number takes the default named beside it, a negative one is refused.
type Options struct {
	Loops     int // event loops; GOMAXPROCS, at most 256
	Listeners []Listener
	Observer  Observer // may be nil

	MaxConns         int // connections in all; 10,000
	MaxUnestablished int // connections that have not called Establish; 1,000
	MaxPerAddress    int // connections from one IPv4 address or one IPv6 /64; 512

	MaxBuffered int64 // bytes held for all connections in both directions: over it, nothing is read; 256 MiB
	HighWater   int   // outbound bytes of one connection over which it is not read and SendWait waits; 256 KiB
	MaxOutbound int   // outbound bytes of one connection over which Send fails and closes it; 8 MiB
	TurnBytes   int   // bytes one connection may have delivered before the others have their turn; 256 KiB

	HandshakeTimeout time.Duration // from accept to Establish; 5 s
	FrameTimeout     time.Duration // from a frame's first byte to its last; 30 s
	StallTimeout     time.Duration // for a peer that takes no byte of what waits for it; 10 s
	IdleTimeout      time.Duration // silence with nothing in flight; 90 s
	LingerTimeout    time.Duration // from our FIN to the peer's; 1 s
}

const (
	maxLoops   = 1 << 8
	maxPerLoop = 1 << 24
	maxBytes   = 1 << 29 // largest byte limit of one connection: its counters are 32 bits wide
	maxTimeout = 24 * time.Hour
)

// withDefaults returns o complete, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	number := func(name string, v *int, def, most int) {
		if *v == 0 {
			*v = def
		}
		if *v < 0 || *v > most {
			errs = append(errs, fmt.Errorf("reactor: %s %d is not between 1 and %d", name, *v, most))
		}
	}
	period := func(name string, v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
		if *v < 0 || *v > maxTimeout {
			errs = append(errs, fmt.Errorf("reactor: %s %v is not between 0 and %v", name, *v, maxTimeout))
		}
	}
	number("Loops", &o.Loops, min(runtime.GOMAXPROCS(0), maxLoops), maxLoops)
	number("MaxConns", &o.MaxConns, 10_000, maxPerLoop)
	number("MaxUnestablished", &o.MaxUnestablished, 1_000, maxPerLoop)
	number("MaxPerAddress", &o.MaxPerAddress, 512, maxPerLoop)
	number("HighWater", &o.HighWater, 256<<10, maxBytes)
	number("MaxOutbound", &o.MaxOutbound, 8<<20, maxBytes)
	number("TurnBytes", &o.TurnBytes, 256<<10, maxBytes)
	period("HandshakeTimeout", &o.HandshakeTimeout, 5*time.Second)
	period("FrameTimeout", &o.FrameTimeout, 30*time.Second)
	period("StallTimeout", &o.StallTimeout, 10*time.Second)
	period("IdleTimeout", &o.IdleTimeout, 90*time.Second)
	period("LingerTimeout", &o.LingerTimeout, time.Second)
	if o.MaxBuffered == 0 {
		o.MaxBuffered = 256 << 20
	}
	if o.MaxBuffered < 0 {
		errs = append(errs, fmt.Errorf("reactor: MaxBuffered %d is negative", o.MaxBuffered))
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	if len(o.Listeners) == 0 {
		errs = append(errs, errors.New("reactor: no Listeners"))
	}
	o.Listeners = append([]Listener(nil), o.Listeners...)
	for i := range o.Listeners {
		ln := &o.Listeners[i]
		number("FirstFrameMax", &ln.FirstFrameMax, 512, maxBytes)
		number("Overhead", &ln.Overhead, 256, maxBytes)
		number("MaxInFlight", &ln.MaxInFlight, 16, maxBytes)
		period("Listener.HandshakeTimeout", &ln.HandshakeTimeout, o.HandshakeTimeout)
		if ln.Split == nil || ln.Handler == nil {
			errs = append(errs, fmt.Errorf("reactor: listener %q lacks Split or Handler", ln.Address))
		}
	}
	return o, errors.Join(errs...)
}
