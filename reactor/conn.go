package reactor

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// state is how far a connection's life has gone; doc.go draws it.
type state uint8

const (
	open      state = iota // frames are read and delivered
	finishing              // nothing more is delivered; what is in flight is answered and flushed
	lingering              // our FIN is sent; what still comes is thrown away until the peer's FIN
	doomed                 // to be torn down at the end of the turn
	dead                   // descriptor closed, slot free
)

// flags are facts about a connection that outlive a turn.
type flags uint16

const (
	readable    flags = 1 << iota // the kernel may have bytes: no read has come up short since the last edge
	hungUp                        // the peer's FIN has arrived; it is met by reading up to it
	ended                         // … and has been met: nothing more can come
	blocked                       // a write met EAGAIN and no edge has come since
	established                   // Establish was called
	pinged                        // the Idle hook was called in this silence
	touched                       // in the loop's list of connections to settle
	queued                        // in the loop's list of connections to go on with
	unopened                      // the handler's Open failed, so it is told of no Close
)

// Conn is one connection, and belongs to its loop: every field but outstanding and rare, and every method but ID, is
// for the loop alone, which is to say for a Handler during a call. Everybody else holds the ConnID.
//
// There may be many that do nothing, so a Conn is kept small: what few of them need is in rare, and neighbours in the
// wheel are named by slot.
type Conn struct {
	Data any // the handler's own

	from *source
	id   ConnID
	in   *chunk               // received and not delivered; starts at a frame's start
	out  *chunk               // written and not taken by the kernel: the last of a ring, whose next is the first
	rare atomic.Pointer[rare] // nil for most

	outstanding atomic.Int32 // outbound bytes: those in out as of the last settling, and those in the inbox

	fd       int32
	pending  int32 // bytes in out
	shown    int32 // bytes of out that outstanding counts
	held     int32 // bytes that the reactor's total counts
	maxFrame int32
	inFlight int32

	sooner, later uint32 // neighbours in the wheel's bucket
	filedAt       tick   // under which the wheel has it
	timerAt       tick   // SetTimer
	limitAt       tick   // Establish, or in lingering the peer's FIN, is due
	frameAt       tick   // the frame in in must be complete
	stallAt       tick   // the peer must have taken some of out
	heardAt       tick   // when bytes last came

	address [16]byte
	port    uint16
	flags   flags
	state   state
	pauses  Pause
}

// rare is what only some connections need, and only at times.
type rare struct {
	err     error                // why the connection ends
	unacked int                  // bytes in the kernel's send queue when the peer was last seen to take some
	gate    atomic.Pointer[gate] // where SendWait waits for outstanding to fall
}

// gate is closed when a connection's outbound bytes have fallen, or when it is gone.
type gate chan struct{}

// source is a listener as one loop's connections know it.
type source struct {
	*listener
	loop *EventLoop
}

func (c *Conn) is(f flags) bool { return c.flags&f != 0 }
func (c *Conn) set(f flags)     { c.flags |= f }
func (c *Conn) clear(f flags)   { c.flags &^= f }

// uncommon returns c's rare part, made if need be.
func (c *Conn) uncommon() *rare {
	r := c.rare.Load()
	if r == nil {
		r = new(rare)
		if !c.rare.CompareAndSwap(nil, r) {
			r = c.rare.Load()
		}
	}
	return r
}

// why is the reason c ends for.
func (c *Conn) why() error {
	if r := c.rare.Load(); r != nil {
		return r.err
	}
	return nil
}

func (c *Conn) loop() *EventLoop { return c.from.loop }

// reading tells whether frames are delivered now.
func (c *Conn) reading() bool { return c.state == open && c.pauses == 0 }

// ID is valid on any goroutine.
func (c *Conn) ID() ConnID { return c.id }

// Remote is the peer's address; an IPv4 address is given as one, whatever the listener's family.
func (c *Conn) Remote() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(c.address).Unmap(), c.port)
}

// Listener is the index in Options.Listeners of the one that accepted the connection.
func (c *Conn) Listener() int { return c.from.index }

// Established tells whether Establish was called.
func (c *Conn) Established() bool { return c.is(established) }

// InFlight is how many frames were begun and are not done.
func (c *Conn) InFlight() int { return int(c.inFlight) }

// Write appends a copy of b to what leaves at the end of the turn, in one system call with everything else written by
// then. It cannot fail: a connection that is closing or has more than MaxOutbound bytes waiting throws b away, and the
// latter is then closed with ErrOverflow.
func (c *Conn) Write(b []byte) {
	if c.state >= lingering || len(b) == 0 {
		return
	}
	if len(b) >= maxBytes || !c.loop().fits(c.pending, len(b)) {
		c.Close(ErrOverflow)
		return
	}
	c.loop().append(c, b)
	if int(c.pending) > c.loop().opts.HighWater {
		c.loop().pause(c, PauseOutbound) // until the end of the turn at least
	}
	c.loop().touch(c)
}

// SetMaxFrame sets the largest body from the next frame on.
func (c *Conn) SetMaxFrame(n int) { c.maxFrame = int32(min(max(n, 0), maxBytes)) }

// Establish takes the connection out of the unauthenticated ones, with their cap and their deadline.
func (c *Conn) Establish() {
	if !c.is(established) && c.state < doomed {
		c.set(established)
		c.loop().reactor.door.establish()
		if c.state != lingering {
			c.limitAt = 0
		}
	}
}

// SetTimer has Handler.Timer called once after d, or up to 32 ms (a second, when d is above 16 s) later. It replaces
// the timer set before; 0 or less removes it.
func (c *Conn) SetTimer(d time.Duration) {
	c.timerAt = 0
	if d > 0 {
		c.timerAt = c.loop().deadline(min(d, maxTimeout))
		c.loop().touch(c)
	}
}

// Begin counts one more frame in flight. At the listener's MaxInFlight no further frame is delivered until one is done.
// The connection is not idle, and outlives the peer's half-close, until every frame begun is done.
func (c *Conn) Begin() {
	if c.inFlight++; int(c.inFlight) >= c.from.MaxInFlight {
		c.loop().pause(c, PauseInFlight)
	}
}

// Done ends one Begin, as Send does with done set. One Done too many is ignored.
func (c *Conn) Done() {
	if c.inFlight == 0 {
		return
	}
	c.inFlight--
	c.heardAt = c.loop().tick
	c.loop().resume(c, PauseInFlight)
	c.loop().touch(c)
}

// CloseAfterFlush delivers nothing more, waits until everything in flight is done and everything written has left,
// sends FIN, and closes when the peer has done so too or LingerTimeout has passed: a close with bytes unread would
// reset the connection and could take the last reply with it. err is what Handler.Close receives.
func (c *Conn) CloseAfterFlush(err error) {
	if c.state == open {
		c.state, c.frameAt = finishing, 0
		c.uncommon().err = err
		c.loop().touch(c)
	}
}

// Close ends the connection at the end of the turn, without flushing. err is what Handler.Close receives, unless the
// connection was ending for another reason already.
func (c *Conn) Close(err error) {
	if c.state >= doomed {
		return
	}
	if c.state == open {
		c.uncommon().err = err
	}
	c.state = doomed
	c.loop().touch(c)
}
