package reactor

import "math/bits"

const (
	smallestBuffer = 1 << 10
	bufferClasses  = 16       // 1 KiB … 32 MiB, each twice the one before
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
	bare *chunk // chunks without a buffer
	kept int    // bytes in free
}

func bufferClass(n int) int {
	return bits.Len(uint(max(n, smallestBuffer)-1)) - bits.Len(smallestBuffer-1)
}

// get lends an empty chunk with room for n bytes.
func (p *pool) get(n int) *chunk {
	class := bufferClass(n)
	if class >= bufferClasses {
		return &chunk{room: make([]byte, n), size: n}
	}
	if b := p.free[class]; b != nil {
		p.free[class], b.next = b.next, nil
		p.kept -= len(b.room)
		return b
	}
	n = smallestBuffer << class
	return &chunk{room: make([]byte, n), size: n}
}

// wrap makes a chunk of bytes that Send's caller allocated.
func (p *pool) wrap(data []byte) *chunk {
	b := p.bare
	if b == nil {
		b = &chunk{}
	}
	p.bare, b.next = b.next, nil
	b.data, b.size = data, cap(data)
	return b
}

// put takes a chunk back. A large buffer is left to the garbage collector, and so is one over keptBuffers in all.
func (p *pool) put(b *chunk) {
	b.data = nil
	switch {
	case b.room == nil:
		b.next, p.bare = p.bare, b
	case len(b.room) <= keptBuffer && p.kept+len(b.room) <= keptBuffers:
		class := bufferClass(len(b.room))
		b.next, p.free[class] = p.free[class], b
		p.kept += len(b.room)
	}
}
