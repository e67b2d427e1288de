package reactor

import "math/bits"

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
