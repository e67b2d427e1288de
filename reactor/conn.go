package reactor

import (
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"

	"syncgate/internal/account"
)

// state is how far a connection's life has gone; doc.go draws it.
type state uint8

const (
	open      state = iota // frames are read and delivered
	finishing              // nothing more is delivered; frames in flight are answered and the replies flushed
	lingering              // our FIN is sent; bytes that still come are thrown away until the peer's FIN
	closing                // torn down as soon as the call that set it returns
	closed                 // descriptor closed, slot free
)

// flags are facts about a connection that outlive a turn.
type flags uint16

const (
	readable    flags = 1 << iota // the kernel may have bytes: no read has come up short since the last edge
	peerFIN                       // the kernel has the peer's FIN, perhaps behind unread bytes
	eof                           // the peer's FIN was read: nothing more can come
	blocked                       // a write met EAGAIN and no edge has come since
	established                   // Establish was called
	pinged                        // the Idle hook was called in this silence
	dirty                         // in EventLoop.dirty
	queued                        // in EventLoop.queue
	unopened                      // the handler's Open failed, so its Close is not called
	peeked                        // the Peek hook was called
	waited                        // the incomplete frame has waited for memory
)

// Conn is one connection, and belongs to its loop: every field but outstanding and extra, and every method but ID, is
// for the loop alone, that is, for a Handler during a call. Other goroutines hold the ConnID.
//
// Most connections are idle, so a Conn is small: fields that few connections need are in extra, and the neighbours in
// the wheel are named by slot.
type Conn struct {
	Data any // the handler's own

	from   *source
	holder *account.Holder // is charged for the bytes; other goroutines read it under EventLoop.mu
	id     ConnID
	in     *chunk                // received and not delivered; starts at a frame's start
	out    *chunk                // written and not taken by the kernel: the last of a ring, whose next is the first
	extra  atomic.Pointer[extra] // nil for most

	outstanding atomic.Int32 // outbound bytes: those in out at the last flushState, and those in the inbox

	fd        int32
	pending   int32 // bytes in out
	shown     int32 // bytes of out that outstanding counts
	held      int32 // bytes that holder is charged for
	frameLen  int32 // length of the incomplete frame in in; 0: not known
	reserved  int32 // bytes of it that holder was charged for before they came
	frameStep int32 // bytes of it at which its clock starts anew
	maxFrame  int32
	inFlight  int32

	sooner, later uint32 // neighbours in the wheel's bucket
	filedAt       tick   // where the wheel has it
	timerAt       tick   // SetTimer
	limitAt       tick   // Establish is due; in lingering: the peer's FIN
	frameAt       tick   // frameStep bytes of the frame in in must have come
	stallAt       tick   // the peer must have taken some of out
	heardAt       tick   // when bytes last came

	address [16]byte
	port    uint16
	flags   flags
	state   state
	pauses  Pause
}

// extra is the part of a connection that only some need, and only at times.
type extra struct {
	err     error                       // why the connection ends
	unacked int                         // bytes in the kernel's send queue when the peer was last seen to take some
	waiter  atomic.Pointer[writeWaiter] // SendWait waits here for outstanding to fall
}

// writeWaiter is closed when a connection's outbound bytes have fallen, and when the connection is gone.
type writeWaiter chan struct{}

// source is a listener as one loop's connections know it.
type source struct {
	*listener
	loop *EventLoop
}

func (c *Conn) is(f flags) bool { return c.flags&f != 0 }
func (c *Conn) set(f flags)     { c.flags |= f }
func (c *Conn) clear(f flags)   { c.flags &^= f }

// ensureExtra returns c's extra and makes it first if c has none.
func (c *Conn) ensureExtra() *extra {
	x := c.extra.Load()
	if x == nil {
		x = new(extra)
		if !c.extra.CompareAndSwap(nil, x) {
			x = c.extra.Load()
		}
	}
	return x
}

// err is why c ends.
func (c *Conn) err() error {
	if x := c.extra.Load(); x != nil {
		return x.err
	}
	return nil
}

func (c *Conn) loop() *EventLoop { return c.from.loop }

// mostHeld is how many bytes of an incomplete frame there may be.
func (c *Conn) mostHeld() int { return int(c.maxFrame) + frameOverhead }

// reading tells whether frames are delivered now.
func (c *Conn) reading() bool { return c.state == open && c.pauses == 0 }

// ID is valid on any goroutine.
func (c *Conn) ID() ConnID { return c.id }

// Remote is the peer's address. An IPv4 peer has an IPv4 address on every listener.
func (c *Conn) Remote() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(c.address).Unmap(), c.port)
}

// Write appends a copy of b to the bytes that leave at the end of the turn, all in one system call. It cannot fail: a
// closing connection throws b away, and so does one with more than MaxOutbound bytes waiting, which is then closed with
// ErrOverflow.
func (c *Conn) Write(b []byte) {
	if c.state >= lingering || len(b) == 0 {
		return
	}
	if len(b) >= maxBytes || !c.loop().fits(c, c.pending, len(b)) {
		c.Close(ErrOverflow)
		return
	}
	c.loop().append(c, b)
	if int(c.pending) > c.loop().opts.HighWater {
		c.loop().pause(c, PauseOutbound) // until the end of the turn at least
	}
	c.loop().markDirty(c)
}

// SetMaxFrame sets the largest body from the next frame on.
func (c *Conn) SetMaxFrame(n int) { c.maxFrame = int32(min(max(n, 0), maxBytes)) }

// SetHolder has h charged for the connection's bytes from now on. The connection closes h when it ends.
func (c *Conn) SetHolder(h *account.Holder) {
	c.holder.Add(-int64(c.held))
	h.Add(int64(c.held))
	l := c.loop()
	l.mu.Lock()
	h, c.holder = c.holder, h
	l.mu.Unlock()
	h.Close()
}

// Holder is who is charged for the connection's bytes.
func (c *Conn) Holder() *account.Holder { return c.holder }

// Establish ends the connection's handshake: MaxUnestablished and HandshakeTimeout no longer apply to it. A connection
// whose holder is a stranger still is charged to its address as to a point.
func (c *Conn) Establish() {
	if !c.is(established) && c.state < closing {
		c.set(established)
		r := c.loop().reactor
		r.admission.establish(c)
		if c.holder.Stranger() {
			c.SetHolder(r.ledger.Point(account.Source(c.Remote().Addr()).String()))
		}
		if c.state != lingering {
			c.limitAt = 0
		}
	}
}

// Extend gives a connection that is not established d from now on for its handshake.
func (c *Conn) Extend(d time.Duration) {
	if c.limitAt != 0 && c.state == open {
		c.limitAt = c.loop().tick.after(d)
		c.loop().markDirty(c)
	}
}

// SetTimer has Handler.Timer called once after d, or up to 32 ms (a second, when d is above 16 s) later. It replaces
// the timer set before; 0 or less removes it.
func (c *Conn) SetTimer(d time.Duration) {
	c.timerAt = 0
	if d > 0 {
		c.timerAt = c.loop().tick.after(min(d, maxTimeout))
		c.loop().markDirty(c)
	}
}

// Begin counts one more frame in flight. At the listener's MaxInFlight no further frame is delivered until one is done.
// Until every frame begun is done, the connection is not idle and stays open after the peer's half-close.
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
	c.loop().markDirty(c)
}

// CloseAfterFlush delivers nothing more, waits until every frame in flight is done and every byte written has left,
// sends FIN, and closes when the peer has done so too or LingerTimeout has passed: a close with bytes unread would
// reset the connection, and the last reply could be lost with it. Handler.Close receives err.
func (c *Conn) CloseAfterFlush(err error) {
	if c.state == open {
		c.state, c.frameAt = finishing, 0
		c.ensureExtra().err = err
		c.loop().markDirty(c)
	}
}

// overrun ends the connection at a bound. A client that is known gets the listener's answer.
func (c *Conn) overrun(err error) {
	var answer []byte
	if c.from.Overrun != nil && c.state == open && c.flags&(established|peeked) != 0 {
		answer = c.from.Overrun(c, err)
	}
	if answer == nil {
		c.Close(err)
		return
	}
	c.limitAt = 0
	c.Write(answer)
	c.CloseAfterFlush(err)
}

// Close ends the connection when the call in progress has returned, without flushing. Handler.Close receives err,
// unless the connection was ending for another reason already.
func (c *Conn) Close(err error) {
	if c.state >= closing {
		return
	}
	if c.state == open {
		c.ensureExtra().err = err
	}
	c.state = closing
	c.loop().markDirty(c)
}

const (
	smallestBuffer = 1 << 10
	bufferClasses  = 9        // 1 KiB … keptBuffer, each twice the one before
	replyBuffer    = 16 << 10 // what a first Write takes: room for a turn's small replies
	keptBuffer     = 256 << 10
	keptBuffers    = 4 << 20
)

// chunk holds bytes of a connection: the start of an incomplete frame, or output that the kernel has not taken. Idle
// connections have none.
type chunk struct {
	next *chunk
	data []byte // the bytes that wait
	room []byte // the whole buffer, when it is the pool's; nil when data is the sender's own
	size int    // bytes of memory that it occupies
}

// pool lends buffers to the connections of one loop, without locks. The last one returned is lent next, since it is in
// the processor's cache: in the usual turn a single buffer serves every connection.
type pool struct {
	free [bufferClasses]*chunk
	kept int // bytes in free
}

func bufferClass(n int) int {
	return bits.Len(uint(max(n, smallestBuffer)-1)) - bits.Len(smallestBuffer-1)
}

// get lends an empty chunk with room for n bytes.
func (p *pool) get(n int) *chunk {
	if n <= keptBuffer {
		class := bufferClass(n)
		if b := p.free[class]; b != nil {
			p.free[class], b.next = b.next, nil
			p.kept -= len(b.room)
			return b
		}
		n = smallestBuffer << class
	}
	return &chunk{room: make([]byte, n), size: n}
}

// put takes a chunk back; nil is none. A buffer over keptBuffer, or over keptBuffers in all, is left to the garbage
// collector, and so are bytes of Send's caller.
func (p *pool) put(b *chunk) {
	if b == nil {
		return
	}
	b.data = nil
	if n := len(b.room); n > 0 && n <= keptBuffer && p.kept+n <= keptBuffers {
		class := bufferClass(n)
		b.next, p.free[class] = p.free[class], b
		p.kept += n
	}
}
