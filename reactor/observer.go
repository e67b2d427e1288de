package reactor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

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
