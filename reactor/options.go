package reactor

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"syncgate/internal/account"
	"syncgate/internal/limit"
)

// SplitFunc finds the first frame at the front of buf. It returns the frame's length, also when buf does not have all
// of it yet, 0 when the bytes do not tell it yet, or an error, which closes the connection. max is the largest body the
// connection may send at present, so that a length over it is refused from the header alone. It runs on a loop, must
// not block and must not keep buf.
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
	// Close is the last call for a connection, made exactly once after an Open without error. err is why the
	// connection ended; Reason names it in one word. The connection's id is no longer valid: Send to it returns
	// ErrConnGone.
	Close(c *Conn, err error)
}

// Listener is one address served, with the framing and the handler of its connections.
type Listener struct {
	// Address is host:port with a literal address; an empty host means every address of both families, port 0 any port.
	Address string
	Split   SplitFunc
	Handler Handler

	FirstFrameMax    int           // largest body before SetMaxFrame is called
	MaxInFlight      int           // frames begun and not done before reading pauses; 1: request, reply, request, reply
	HandshakeTimeout time.Duration // from accept to Establish; Options.HandshakeTimeout when 0

	// Peek, when set, is called once for a connection that is not established and has sent unknownPart bytes of a frame
	// whose length is not known: the place to see whether these can be a client's, and to call SetHolder. An error
	// closes the connection.
	Peek func(c *Conn, part []byte) error
	// Refusal, when set, makes what is sent in one attempt to a connection refused at a cap, before it is closed.
	Refusal func(err error) []byte
	// Overrun, when set, is called when a bound ends an open connection that is established or was let through by Peek:
	// Split's error, a frame that is too large, a timeout. What it returns is sent before the connection is closed.
	Overrun func(c *Conn, err error) []byte
	// Idle, when set, is called on the loop after half of IdleTimeout without a byte: the place for a ping.
	Idle func(*Conn)
	// Drain, when set, is called on the loop for every connection when Reactor.Drain begins, before the connection
	// stops being read: the place to say goodbye.
	Drain func(*Conn)
}

// Options configure a Reactor. A zero number takes its default. Limits has the defaults and the bounds.
type Options struct {
	Loops     int // event loops
	Listeners []Listener
	Observer  Observer        // may be nil
	Ledger    *account.Ledger // counts the bytes held; nil: one of MaxBuffered of the reactor's own

	MaxConns         int // connections in all
	MaxUnestablished int // connections of one listener that have not called Establish
	MaxPerAddress    int // connections from one IPv4 address or one IPv6 /64

	MaxBuffered int64 // bytes held for all clients; see package account
	HighWater   int   // outbound bytes of one connection over which it is not read and SendWait waits
	MaxOutbound int   // outbound bytes of one connection over which Send fails and closes it
	TurnBytes   int   // bytes one connection may have delivered before the others have their turn

	HandshakeTimeout time.Duration // from accept to Establish
	FrameTimeout     time.Duration // from a frame's first byte to its last, or, once established, for 1 KiB of it
	StallTimeout     time.Duration // for a peer that takes no byte of what waits for it
	IdleTimeout      time.Duration // without a byte and without a frame in flight
	LingerTimeout    time.Duration // from our FIN to the peer's
}

const (
	maxPerLoop = 1 << 24 // connections, as many as a ConnID has slots
	maxBytes   = 1 << 29 // largest byte limit of one connection: its counters are 32 bits wide
	minTimeout = time.Millisecond
	maxTimeout = 24 * time.Hour
)

// Limits are the defaults and bounds of o's numbers.
func (o *Options) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Count("Loops", &o.Loops, min(runtime.GOMAXPROCS(0), 256), 1, 256),
		limit.Count("MaxConns", &o.MaxConns, 10_000, 1, maxPerLoop),
		limit.Count("MaxUnestablished", &o.MaxUnestablished, 1_000, 1, maxPerLoop),
		limit.Count("MaxPerAddress", &o.MaxPerAddress, 512, 1, maxPerLoop),
		limit.Bytes("MaxBuffered", &o.MaxBuffered, 256<<20, 1<<20, 1<<40),
		limit.Bytes("HighWater", &o.HighWater, 1<<20, 1, maxBytes),
		limit.Bytes("MaxOutbound", &o.MaxOutbound, 8<<20, 1<<20, maxBytes),
		limit.Bytes("TurnBytes", &o.TurnBytes, 256<<10, 1, maxBytes),
		limit.Time("HandshakeTimeout", &o.HandshakeTimeout, 5*time.Second, minTimeout, maxTimeout),
		limit.Time("FrameTimeout", &o.FrameTimeout, 30*time.Second, minTimeout, maxTimeout),
		limit.Time("StallTimeout", &o.StallTimeout, 10*time.Second, minTimeout, maxTimeout),
		limit.Time("IdleTimeout", &o.IdleTimeout, 90*time.Second, minTimeout, maxTimeout),
		limit.Time("LingerTimeout", &o.LingerTimeout, time.Second, minTimeout, maxTimeout),
	}
}

// limits are those of one listener, where handshake is the default of its HandshakeTimeout.
func (ln *Listener) limits(handshake time.Duration) []limit.Limit {
	return []limit.Limit{
		limit.Bytes("FirstFrameMax", &ln.FirstFrameMax, 512, 1, maxBytes),
		limit.Count("MaxInFlight", &ln.MaxInFlight, 16, 1, 1<<16-1),
		limit.Time("HandshakeTimeout", &ln.HandshakeTimeout, handshake, minTimeout, maxTimeout),
	}
}

// withDefaults returns o complete, or an error that names everything wrong with it.
func (o Options) withDefaults() (Options, error) {
	errs := []error{limit.Fill("reactor", o.Limits())}
	if len(o.Listeners) == 0 {
		errs = append(errs, errors.New("reactor: no Listeners"))
	}
	o.Listeners = append([]Listener(nil), o.Listeners...)
	for i := range o.Listeners {
		ln := &o.Listeners[i]
		errs = append(errs, limit.Fill("reactor: listener "+ln.Address, ln.limits(o.HandshakeTimeout)))
		if ln.Split == nil || ln.Handler == nil {
			errs = append(errs, fmt.Errorf("reactor: listener %s lacks Split or Handler", ln.Address))
		}
	}
	o.HighWater = min(o.HighWater, o.MaxOutbound/4) // room for the answers to what was read below it
	if o.Ledger == nil {
		o.Ledger = account.New(o.MaxBuffered)
	}
	if o.Observer == nil {
		o.Observer = noObserver{}
	}
	return o, errors.Join(errs...)
}

// Errors for which a connection is closed, or refused, or a call fails. Handler.Close and Observer receive these, the
// handler's own error, or the system's (unix.Errno).
var (
	ErrPeerClosed         error = &cause{"peer_closed", "closed by the peer"}
	ErrTruncated          error = &cause{"truncated", "closed by the peer inside a frame"}
	ErrHandshakeTimeout   error = &cause{"handshake_timeout", "handshake not finished in time"}
	ErrFrameTimeout       error = &cause{"frame_timeout", "frame not complete in time"}
	ErrFrameTooLarge      error = &cause{"frame_too_large", "frame larger than allowed"}
	ErrIdle               error = &cause{"idle", "idle for too long"}
	ErrStalled            error = &cause{"stalled", "peer does not read"}
	ErrOverflow           error = &cause{"overflow", "too many outbound bytes"}
	ErrDraining           error = &cause{"draining", "draining"}
	ErrStopped            error = &cause{"stopped", "stopped"}
	ErrConnGone           error = &cause{"gone", "no such connection"}
	ErrConnLimit          error = &cause{"conn_limit", "too many connections"}
	ErrUnestablishedLimit error = &cause{"unestablished_limit", "too many unauthenticated connections"}
	ErrAddressLimit       error = &cause{"address_limit", "too many connections from one address"}
)

// cause is an error with the word that Reason gives it.
type cause struct{ word, text string }

func (c *cause) Error() string { return "reactor: " + c.text }

// Reason gives err one of a fixed set of words, fit for the label of a metric.
func Reason(err error) string {
	if own, ok := errors.AsType[*cause](err); ok {
		return own.word
	}
	errno, ok := errors.AsType[unix.Errno](err)
	switch {
	case !ok:
		return "handler"
	case errno == unix.EMFILE || errno == unix.ENFILE:
		return "descriptors"
	case errno == unix.ECONNRESET || errno == unix.EPIPE:
		return "reset"
	}
	return "network"
}

// Observer receives what the reactor does, for metrics. The loops call its methods, several loops at once; a method
// must neither block nor call the reactor.
type Observer interface {
	// Opened reports a connection accepted through the listener of that index.
	Opened(listener int)
	// Closed reports the end of a connection that was Opened; Reason(err) names it.
	Closed(listener int, err error)
	// Refused reports a connection refused at a cap, or an accept that failed (EMFILE: accepting pauses now).
	Refused(listener int, err error)
	// Paused reports that one connection's reading stopped.
	Paused(why Pause)
	// Turned reports a turn of a loop in which something happened.
	Turned(t Turn)
}

// Turn reports one loop's work between two waits.
type Turn struct {
	Events   int           // events the kernel had ready
	Frames   int           // frames delivered
	BytesIn  int           // bytes read from sockets
	BytesOut int           // bytes written to sockets
	Lag      time.Duration // how long the turn took: the longest wait of an event that came meanwhile
}

// Pause is a reason for which a connection is not read.
type Pause uint8

// The reasons combine: reading goes on when none is left.
const (
	PauseInFlight Pause = 1 << iota // MaxInFlight frames are begun and not done
	PauseOutbound                   // more than HighWater bytes wait for the peer to read
	PauseMemory                     // more than MaxBuffered bytes are held for all connections
)

var pauseNames = [...]string{PauseInFlight: "in_flight", PauseOutbound: "outbound", PauseMemory: "memory", 7: ""}

// String is a single reason in one word, fit for the label of a metric.
func (p Pause) String() string { return pauseNames[p&7] }

type noObserver struct{}

func (noObserver) Opened(int)         {}
func (noObserver) Closed(int, error)  {}
func (noObserver) Refused(int, error) {}
func (noObserver) Paused(Pause)       {}
func (noObserver) Turned(Turn)        {}
