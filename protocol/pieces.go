package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"

	"syncgate/internal/account"
)

// A payload that is not to leave at once travels in pieces: records with the envelope of the message, flagPiece, and a
// part of the payload each. Records of other messages may stand between them. The first piece has flagHead, too, and
// begins with
//
//	| size u32 | offset u32 | SHA-256 of the payload, 32 bytes |
//
// The pieces are the bytes from offset on. The receiver has those before offset from an earlier connection: what has
// come of a message is kept when its connection ends.
const (
	flagPiece  uint8 = 2
	flagHead   uint8 = 4
	flagPacked uint8 = 8

	headSize = 4 + 4 + sha256.Size

	smallestPiece = 1 << 10
	unpaced       = 8 << 10 // a payload that the server sends without a wait
)

const (
	// DefaultMaxMessage is the largest payload that travels in pieces, unless configured.
	DefaultMaxMessage = 64 << 20
	hardMaxMessage    = 512 << 20

	mostAtOnce = 1 << 20          // bytes of a message that waits in no queue
	mostHeld   = 32               // messages kept of one point; the oldest makes room for another
	holdFor    = 10 * time.Minute // without a piece
)

// Held says which message a receiver has the beginning of, and how much.
type Held struct {
	Digest []byte // SHA-256 of the payload
	Bytes  uint64
}

func (h *Held) fields(c *coder, first uint64) {
	if c.has(len(h.Digest) > 0) {
		c.bytes(first, &h.Digest, sha256.Size)
		number(c, first+1, &h.Bytes, hardMaxMessage)
	}
}

// Outgoing is a message on its way. Client.Next and ServerSession.Send make its records.
type Outgoing struct {
	m        Message
	payload  []byte // as it travels
	unpacked int
	at       int    // bytes that have left
	begun    bool   // its first record has left
	digest   []byte // of a payload that has been sent in pieces, or is asked for
}

// outgoing prepares m, whose payload is given. It packs the payload where that pays.
func (r *records) outgoing(m *Message, payload []byte) (*Outgoing, error) {
	if len(payload) > max(r.most, r.max-RecordOverhead) {
		return nil, ErrTooLarge
	}
	o := &Outgoing{m: Message{Op: m.Op, Flags: m.Flags, Status: m.Status, RequestID: m.RequestID}, payload: payload,
		unpacked: len(payload)}
	if r.packs && len(payload) >= packLeast {
		if packed := pack(payload, len(m.Table())); packed != nil {
			o.payload = packed
			o.m.Flags |= flagPacked
		}
	}
	if held := m.Have; held.Bytes > 0 && held.Bytes < uint64(len(o.payload)) && bytes.Equal(held.Digest, o.Digest()) {
		o.at = int(held.Bytes)
	}
	return o, nil
}

// Digest is the SHA-256 of the payload as it travels.
func (o *Outgoing) Digest() []byte {
	if o.digest == nil {
		sum := sha256.Sum256(o.payload)
		o.digest = sum[:]
	}
	return o.digest
}

// Size is the length of the payload as it travels, and Unpacked what it was before.
func (o *Outgoing) Size() int     { return len(o.payload) }
func (o *Outgoing) Unpacked() int { return o.unpacked }

// Skip leaves out bytes that the receiver has.
func (o *Outgoing) Skip(n uint64) {
	if !o.begun && n < uint64(len(o.payload)) {
		o.at = int(n)
	}
}

// next is the message of the next record, which carries up to piece bytes, and whether another follows.
func (o *Outgoing) next(piece int) (m Message, more bool) {
	m = o.m
	if !o.begun && o.at == 0 && len(o.payload) <= piece {
		o.begun, o.at = true, len(o.payload)
		m.Payload = o.payload
		return m, false
	}
	m.Flags |= flagPiece
	if !o.begun {
		o.begun = true
		m.Flags |= flagHead
		head := make([]byte, 0, headSize+piece)
		head = binary.BigEndian.AppendUint32(head, uint32(len(o.payload)))
		head = binary.BigEndian.AppendUint32(head, uint32(o.at))
		m.Payload = append(head, o.Digest()...)
		piece = max(piece-headSize, 1)
	}
	part := o.payload[o.at:min(o.at+piece, len(o.payload))]
	if o.at += len(part); m.Payload == nil {
		m.Payload = part
	} else {
		m.Payload = append(m.Payload, part...)
	}
	return m, o.at < len(o.payload)
}

// Holds keeps what has come of messages in pieces, by point. It outlives connections. Any goroutine may use it.
type Holds struct {
	most   int             // bytes of a message
	ledger *account.Ledger // a point is charged for a message from its first piece on; nil: nobody is
	clock  func() time.Time

	mu   sync.Mutex
	kept map[string][]*held // the oldest first
}

// NewHolds makes one for messages of at most so many bytes.
func NewHolds(most int, ledger *account.Ledger, clock func() time.Time) *Holds {
	return &Holds{most: most, ledger: ledger, clock: clock, kept: map[string][]*held{}}
}

// held is a message of which pieces have come.
type held struct {
	point  string
	digest string
	size   int
	payer  *account.Holder

	mu      sync.Mutex
	owner   *joiner // the connection on which it comes
	data    []byte
	touched time.Time
}

// Of returns how many bytes have come of a message.
func (h *Holds) Of(point string, digest []byte) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.find(point, string(digest)); x != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		return uint64(len(x.data))
	}
	return 0
}

func (h *Holds) find(point, digest string) *held {
	for _, x := range h.kept[point] {
		if x.digest == digest {
			return x
		}
	}
	return nil
}

// begin returns the message that a head announces, and gives it to owner.
func (h *Holds) begin(owner *joiner, point string, size, offset int, digest string) (*held, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.find(point, digest); x != nil {
		x.mu.Lock()
		resumes := x.size == size && len(x.data) == offset
		if resumes {
			x.owner = owner
		}
		x.mu.Unlock()
		if resumes {
			return x, nil
		}
		h.drop(x)
	}
	if offset > 0 {
		return nil, errForgotten
	}
	if len(h.kept[point]) >= mostHeld {
		h.drop(h.kept[point][0])
	}
	x := &held{point: point, digest: digest, size: size, owner: owner, touched: h.clock()}
	if h.ledger != nil {
		x.payer = h.ledger.Point(point)
		if !x.payer.Take(int64(size)) {
			x.payer.Close()
			return nil, errShare
		}
	}
	h.kept[point] = append(h.kept[point], x)
	return x, nil
}

// drop forgets a message and returns its charge. With mu held.
func (h *Holds) drop(x *held) {
	at := slices.Index(h.kept[x.point], x)
	if at < 0 {
		return
	}
	if h.kept[x.point] = slices.Delete(h.kept[x.point], at, at+1); len(h.kept[x.point]) == 0 {
		delete(h.kept, x.point)
	}
	x.mu.Lock()
	x.owner, x.data = nil, nil // its connection still knows it
	x.mu.Unlock()
	if x.payer != nil {
		x.payer.Add(-int64(x.size))
		x.payer.Close()
	}
}

// Sweep forgets messages of which no piece has come for long.
func (h *Holds) Sweep() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, all := range h.kept {
		for _, x := range slices.Clone(all) {
			x.mu.Lock()
			old := h.clock().Sub(x.touched) > holdFor
			x.mu.Unlock()
			if old {
				h.drop(x)
			}
		}
	}
}

// joiner joins the messages of one connection that come in pieces.
type joiner struct {
	holds *Holds
	point string
	open  map[RequestID]*held // up to 2*mostHeld, with those that were dropped, of which a piece is refused
}

// held returns what has come of a message that is not whole.
func (j *joiner) held(id RequestID) Held {
	x := j.open[id]
	if x == nil {
		return Held{}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return Held{[]byte(x.digest), uint64(len(x.data))}
}

// add takes a piece of a message of at most so many bytes. It returns whether m is whole, and has the whole payload then. A refusal is for this message
// alone, whose other pieces are ignored.
func (j *joiner) add(m *Message, most int) (whole bool, err error) {
	payload := m.Payload
	m.Payload = nil
	if m.Flags&flagHead != 0 {
		if len(payload) < headSize {
			return false, errPiece
		}
		size, offset := int(binary.BigEndian.Uint32(payload)), int(binary.BigEndian.Uint32(payload[4:]))
		digest := string(payload[8:headSize])
		delete(j.open, m.RequestID)
		if size > most {
			return false, ErrTooLarge
		}
		x, err := j.holds.begin(j, j.point, size, offset, digest)
		if err != nil {
			return false, err
		}
		if j.open == nil {
			j.open = map[RequestID]*held{}
		}
		maps.DeleteFunc(j.open, func(_ RequestID, y *held) bool {
			return y == x || len(j.open) >= 2*mostHeld && !j.owns(y)
		})
		j.open[m.RequestID] = x
		payload = payload[headSize:]
	}
	x := j.open[m.RequestID]
	if x == nil {
		return false, nil // of a message that was refused
	}
	x.mu.Lock()
	lost := x.owner != j // it goes on on another connection, or was dropped
	if !lost {
		x.append(payload)
		x.touched = j.holds.clock()
	}
	data := x.data
	x.mu.Unlock()
	if !lost && len(data) < x.size {
		return false, nil
	}
	delete(j.open, m.RequestID)
	if lost {
		return false, errForgotten
	}
	j.holds.mu.Lock()
	j.holds.drop(x)
	j.holds.mu.Unlock()
	if len(data) > x.size {
		return false, errPiece
	}
	m.Payload = data
	m.Flags &= FlagMore | flagPacked
	return true, nil
}

// owns reports whether the other pieces of x are still to come on this connection.
func (j *joiner) owns(x *held) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.owner == j
}

// append grows data with the bytes that come, not with the size that was announced.
func (x *held) append(b []byte) {
	if n := len(x.data) + len(b); n > cap(x.data) {
		grown := make([]byte, len(x.data), max(n, min(2*n, x.size)))
		copy(grown, x.data)
		x.data = grown
	}
	x.data = append(x.data, b...)
}
