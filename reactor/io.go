package reactor

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"syncgate/internal/account"
)

const (
	scratchSize   = 64 << 10 // one read; every connection of a loop is read through the same buffer
	smallPart     = 4 << 10  // a partial frame up to this size is copied to the scratch buffer, for a large next read
	zeroCopySize  = 16 << 10 // bytes handed to Send are written from where they are from this size on
	maxIovec      = 64
	frameOverhead = 256     // bytes that a frame may have beside its body
	unknownPart   = 4 << 10 // bytes of a frame of unknown length, after which unknownFrame is reserved
	unknownFrame  = 4 << 20 // bytes of a frame of unknown length, after which all that it may have is reserved
	frameStep     = 1 << 10 // bytes of a frame that a known client has FrameTimeout for
	notSent       = 8 << 10 // bytes that the kernel takes for a connection beside those under way
)

var errBadSplit = errors.New("reactor: SplitFunc answered outside the buffer")

// read delivers the whole frames that c holds, then reads and delivers until the socket is empty, the handler or a
// limit stops it, or the turn's budget is spent; in the last case c is queued behind the others.
//
// Bytes are read into the loop's scratch buffer. Only an incomplete frame left at the end gets a buffer of its own:
// between frames a connection has none.
func (l *EventLoop) read(c *Conn) {
	if c.state == lingering {
		l.discard(c)
		return
	}
	if !c.reading() {
		return
	}
	if c.reserved == 0 && !c.holder.MayTake(1) {
		l.pauseForMemory(c)
		return
	}
	buf, n := l.scratch, 0
	if c.reserved == 0 && !c.holder.MayTake(account.Floor+1) {
		buf = buf[:smallPart] // what is read of a large frame is kept while it waits for memory
	}
	if c.in != nil {
		if n = len(c.in.data); n < smallPart {
			copy(buf, c.in.data)
		} else {
			buf = c.in.room
		}
	}
	for budget := l.opts.TurnBytes; ; {
		if used := l.deliver(c, buf[:n], &budget); used > 0 {
			n = copy(buf, buf[used:n])
		}
		if !c.reading() {
			break
		}
		if budget <= 0 {
			l.enqueue(c)
			break
		}
		if n >= c.mostHeld() {
			c.overrun(ErrFrameTooLarge)
			break
		}
		if n > 0 && !l.reserve(c, buf[:n]) || !c.is(readable) {
			break
		}
		if n == len(buf) {
			l.hold(c, buf, c.room(n))
			buf = c.in.room
		}
		got, ok := l.receive(c, buf[n:])
		if !ok {
			break
		}
		n += got
	}
	l.keep(c, buf, n)
	if c.is(eof) && c.state == open {
		if c.CloseAfterFlush(ErrPeerClosed); n > 0 {
			c.ensureExtra().err = ErrTruncated
		}
	}
}

// receive reads once. A read that comes up short has emptied the socket, and the next byte gives a new edge, so a
// second read, for EAGAIN, is not needed. With peerFIN set it is: the FIN behind the bytes gives no further edge.
func (l *EventLoop) receive(c *Conn, b []byte) (n int, ok bool) {
	n, errno := read(c.fd, b)
	if errno != 0 || n == 0 {
		c.clear(readable)
		if errno == 0 {
			c.set(eof)
		} else if errno != unix.EAGAIN {
			c.Close(errno)
		}
		return 0, false
	}
	if n < len(b) && !c.is(peerFIN) {
		c.clear(readable)
	}
	c.clear(pinged)
	c.heardAt = l.tick
	l.turn.BytesIn += n
	return n, true
}

// deliver gives the handler the whole frames at the front of b and returns their length.
func (l *EventLoop) deliver(c *Conn, b []byte, budget *int) (used int) {
	for used < len(b) && c.reading() && *budget > 0 {
		n, err := c.from.Split(b[used:], int(c.maxFrame))
		if err == nil && (n < 0 || n > c.mostHeld()) {
			err = errBadSplit
		}
		if err != nil {
			c.overrun(err)
			return used
		}
		if n == 0 || n > len(b)-used {
			c.frameLen = int32(n)
			return used
		}
		l.turn.Frames++
		l.unreserve(c)
		if err := c.from.Handler.Frame(c, b[used:used+n:used+n]); err != nil {
			c.Close(err)
		}
		used += n
		*budget -= n
	}
	return used
}

// reserve charges c's holder for all of the frame that part begins, before more of it is read: a frame that may not be
// finished only takes room from others. So connections never wait for each other with half a frame each. Frames up to
// account.Floor are charged as they come.
func (l *EventLoop) reserve(c *Conn, part []byte) bool {
	size := int(c.frameLen)
	if size == 0 && len(part) >= unknownPart {
		if c.from.Peek != nil && c.flags&(peeked|established) == 0 {
			c.set(peeked)
			if err := c.from.Peek(c, part); err != nil {
				c.Close(err)
			}
			if c.state != open {
				return false
			}
		}
		if size = c.mostHeld(); len(part) < unknownFrame {
			size = min(size, unknownFrame)
		}
	}
	if size <= account.Floor && !c.holder.Stranger() || size <= int(c.reserved) {
		return true
	}
	more := int64(size) - int64(c.reserved)
	if !c.holder.Take(more) {
		l.pauseForMemory(c)
		return false
	}
	c.reserved += int32(more)
	c.held += int32(more)
	if c.is(waited) {
		c.clear(waited)
		c.frameAt = l.tick.after(l.opts.FrameTimeout)
	}
	return true
}

// unreserve ends the frame in progress.
func (l *EventLoop) unreserve(c *Conn) {
	if c.reserved > 0 {
		c.holder.Add(-int64(c.reserved))
		c.held -= c.reserved
	}
	c.reserved, c.frameLen, c.frameAt = 0, 0, 0
	c.clear(waited)
}

// room is the size of the buffer for a frame of which n bytes have come.
func (c *Conn) room(n int) int {
	most := c.mostHeld()
	if c.frameLen > 0 {
		most = int(c.frameLen)
	}
	return max(n, min(2*n, most))
}

// hold copies b, the undelivered bytes of c, to a buffer of that size. Buffers grow with the bytes that have come,
// never with the length that a header promises.
func (l *EventLoop) hold(c *Conn, b []byte, size int) {
	in := l.pool.get(size)
	in.data = in.room[:copy(in.room, b)]
	l.pool.put(c.in)
	c.in = in
}

// keep stores the n undelivered bytes in buf until the next read, in a buffer of their size, and starts the incomplete
// frame's clock, unless reading is paused or c is queued: then the bytes may be whole frames. A frame that waits for
// memory has more time, and starts anew when it gets it.
func (l *EventLoop) keep(c *Conn, buf []byte, n int) {
	if n == 0 {
		l.pool.put(c.in)
		c.in, c.frameAt = nil, 0
		return
	}
	if in := c.in; in == nil || len(in.room) < n || len(in.room) > 4*max(n, smallPart) {
		size := n
		if n > smallPart {
			size = c.room(n)
		}
		l.hold(c, buf[:n], size)
	} else {
		in.data = in.room[:copy(in.room, buf[:n])]
	}
	switch {
	case c.is(queued):
	case c.frameAt != 0 && (c.pauses != 0 || c.flags&(established|peeked) == 0 || n < int(c.frameStep)):
	case c.reading():
		c.frameAt, c.frameStep = l.tick.after(l.opts.FrameTimeout), int32(n+frameStep)
	case c.state == open && c.pauses == PauseMemory:
		c.set(waited)
		c.frameAt = l.tick.after(memoryPatience * l.opts.FrameTimeout)
	}
}

// discard reads and throws away the bytes that a peer sends after our FIN, up to its own.
func (l *EventLoop) discard(c *Conn) {
	for budget := l.opts.TurnBytes; c.is(readable); {
		n, ok := l.receive(c, l.scratch)
		if n > 0 && c.frameAt != 0 {
			c.limitAt = l.tick.after(l.opts.LingerTimeout)
		}
		if budget -= n; ok && budget <= 0 {
			l.enqueue(c)
			return
		}
	}
	if c.is(eof) {
		c.Close(nil)
	}
}

// append copies b behind what waits in out.
func (l *EventLoop) append(c *Conn, b []byte) {
	if last := c.out; last != nil && last.room != nil && cap(last.data)-len(last.data) >= len(b) {
		last.data = append(last.data, b...)
		c.pending += int32(len(b))
		return
	}
	t := l.pool.get(max(len(b), replyBuffer))
	t.data = append(t.room[:0], b...)
	c.push(t)
}

// push puts a chunk behind what waits in out.
func (c *Conn) push(b *chunk) {
	c.pending += int32(len(b.data))
	if last := c.out; last != nil {
		b.next, last.next = last.next, b
	} else {
		b.next = b
	}
	c.out = b
}

// shift takes the first chunk off out.
func (c *Conn) shift() *chunk {
	last := c.out
	first := last.next
	if first == last {
		c.out = nil
	} else {
		last.next = first.next
	}
	first.next = nil
	return first
}

// flush writes out until it is empty or the kernel takes no more; in the latter case EPOLLOUT brings the next flush.
func (l *EventLoop) flush(c *Conn) {
	for c.out != nil && !c.is(blocked) {
		n, errno := l.transmit(c)
		switch {
		case errno == unix.EAGAIN:
			c.set(blocked)
			if c.stallAt == 0 {
				c.ensureExtra().unacked = unacked(c)
				c.stallAt = l.tick.after(l.opts.StallTimeout)
			}
			return
		case errno != 0:
			c.Close(errno)
			return
		}
		l.turn.BytesOut += n
		l.sent(c, n)
		c.stallAt = 0
	}
}

// transmit writes the chunks in out, or the first maxIovec of them, in one system call.
func (l *EventLoop) transmit(c *Conn) (int, unix.Errno) {
	last := c.out
	if last.next == last {
		return write(c.fd, last.data)
	}
	v := l.iovec[:0]
	for b := last.next; len(v) < maxIovec; b = b.next {
		v = append(v, unix.Iovec{Base: unsafe.SliceData(b.data), Len: uint64(len(b.data))})
		if b == last {
			break
		}
	}
	n, errno := writev(c.fd, v)
	clear(v)
	return n, errno
}

// sent takes n bytes off the front of out.
func (l *EventLoop) sent(c *Conn, n int) {
	c.pending -= int32(n)
	for n > 0 {
		first := c.out.next
		if n < len(first.data) {
			first.data = first.data[n:]
			return
		}
		n -= len(first.data)
		l.pool.put(c.shift())
	}
}

// unacked asks how many bytes the kernel still holds for the peer. While the number falls the peer reads, even if there
// is no EPOLLOUT yet: with a send buffer of megabytes a slow reader may take minutes to make room for that.
func unacked(c *Conn) int {
	n, err := unix.IoctlGetInt(int(c.fd), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}
