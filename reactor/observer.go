package reactor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Errors for which a connection is closed, or refused, or a call fails. Handler.Close and Observer receive these, the
// handler's own error, or the system's (unix.Errno).
var (
	ErrPeerClosed         = errors.New("reactor: closed by the peer")
	ErrTruncated          = errors.New("reactor: closed by the peer inside a frame")
	ErrHandshakeTimeout   = errors.New("reactor: handshake not finished in time")
	ErrFrameTimeout       = errors.New("reactor: frame not complete in time")
	ErrFrameTooLarge      = errors.New("reactor: frame larger than allowed")
	ErrIdle               = errors.New("reactor: idle for too long")
	ErrStalled            = errors.New("reactor: peer does not read")
	ErrOverflow           = errors.New("reactor: too many outbound bytes")
	ErrDraining           = errors.New("reactor: draining")
	ErrStopped            = errors.New("reactor: stopped")
	ErrConnGone           = errors.New("reactor: no such connection")
	ErrConnLimit          = errors.New("reactor: too many connections")
	ErrUnestablishedLimit = errors.New("reactor: too many unauthenticated connections")
	ErrAddressLimit       = errors.New("reactor: too many connections from one address")
)

// Reason gives err one of a fixed set of words, fit for the label of a metric.
func Reason(err error) string {
	for _, known := range []struct {
		err  error
		word string
	}{
		{ErrPeerClosed, "peer_closed"}, {ErrTruncated, "truncated"}, {ErrHandshakeTimeout, "handshake_timeout"},
		{ErrFrameTimeout, "frame_timeout"}, {ErrFrameTooLarge, "frame_too_large"}, {ErrIdle, "idle"},
		{ErrStalled, "stalled"}, {ErrOverflow, "overflow"}, {ErrDraining, "draining"}, {ErrStopped, "stopped"},
		{ErrConnLimit, "conn_limit"}, {ErrUnestablishedLimit, "unestablished_limit"}, {ErrAddressLimit, "address_limit"},
		{unix.EMFILE, "descriptors"}, {unix.ENFILE, "descriptors"}, {unix.ECONNRESET, "reset"}, {unix.EPIPE, "reset"},
	} {
		if errors.Is(err, known.err) {
			return known.word
		}
	}
	if errno := unix.Errno(0); errors.As(err, &errno) {
		return "network"
	}
	return "handler"
}

// Observer receives what the reactor does, for metrics. The loops call its methods, several loops at once; a method must
// neither block nor call the reactor.
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
	Loop     int
	Events   int           // events the kernel had ready
	Frames   int           // frames delivered
	BytesIn  int           // bytes read from sockets
	BytesOut int           // bytes written to sockets
	Lag      time.Duration // how long the turn took: the longest an event that came during it has waited
}

// Pause is a reason for which a connection is not read.
type Pause uint8

// The reasons combine: reading goes on when none is left.
const (
	PauseInFlight Pause = 1 << iota // MaxInFlight frames are begun and not done
	PauseOutbound                   // more than HighWater bytes wait for the peer to read
	PauseMemory                     // more than MaxBuffered bytes are held for all connections
)

// String is the pause in one word, fit for the label of a metric.
func (p Pause) String() string {
	switch p {
	case PauseInFlight:
		return "in_flight"
	case PauseOutbound:
		return "outbound"
	case PauseMemory:
		return "memory"
	}
	return "several"
}

type noObserver struct{}

func (noObserver) Opened(int)         {}
func (noObserver) Closed(int, error)  {}
func (noObserver) Refused(int, error) {}
func (noObserver) Paused(Pause)       {}
func (noObserver) Turned(Turn)        {}
