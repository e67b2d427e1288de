package reactor

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	scratchSize   = 64 << 10 // one read; every connection of a loop is read through the same buffer
	smallPart     = 4 << 10  // a partial frame up to this size is copied to the scratch buffer, for a large next read
	zeroCopySize  = 16 << 10 // bytes handed to Send are written from where they are from this size on
	maxIovec      = 64
	frameOverhead = 256 // bytes that a frame may have beside its body
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
	if l.reactor.overMemory() {
		l.pauseForMemory(c)
		return
	}
	buf, n := l.scratch, 0
	if c.in != nil {
		if n = len(c.in.data); n <= smallPart {
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
			c.Close(ErrFrameTooLarge)
			break
		}
		if !c.is(readable) {
			break
		}
		if n == len(buf) {
			l.hold(c, buf, min(2*n, c.mostHeld()))
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
		if err == nil && (n < 0 || n > len(b)-used) {
			err = errBadSplit
		}
		if err != nil {
			c.Close(err)
			return used
		}
		if n == 0 {
			return used
		}
		l.turn.Frames++
		c.frameAt = 0
		if err := c.from.Handler.Frame(c, b[used:used+n:used+n]); err != nil {
			c.Close(err)
		}
		used += n
		*budget -= n
	}
	return used
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
// frame's clock, unless reading is paused or c is queued: then the bytes may be whole frames.
func (l *EventLoop) keep(c *Conn, buf []byte, n int) {
	if n == 0 {
		l.pool.put(c.in)
		c.in, c.frameAt = nil, 0
		return
	}
	if in := c.in; in == nil || len(in.room) < n || len(in.room) > 4*max(n, smallPart) {
		size := n
		if n > smallPart {
			size = max(n, min(2*n, c.mostHeld()))
		}
		l.hold(c, buf[:n], size)
	} else {
		in.data = in.room[:copy(in.room, buf[:n])]
	}
	if c.reading() && !c.is(queued) && c.frameAt == 0 {
		c.frameAt = l.tick.after(l.opts.FrameTimeout)
	}
}

// discard reads and throws away the bytes that a peer sends after our FIN, up to its own.
func (l *EventLoop) discard(c *Conn) {
	for budget := l.opts.TurnBytes; c.is(readable); {
		n, ok := l.receive(c, l.scratch)
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
