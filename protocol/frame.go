package protocol

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"syncgate/crypto"
)

// A frame of the v2 wire carries one message:
//
//	0            4      5       6          8            12              12+n          28+n
//	| C5 53 47 02 | type | flags | reserved | length n   | body n bytes   | MD5 16 bytes |
//
// flags and reserved are 0. MD5 detects damage on the way. It does not authenticate the sender; AES-GCM does.
//
// "Max frame" is always the largest body, without header and trailer.
const (
	Version         = 2        // of the wire; the fourth byte of a frame
	HandshakeMax    = 512      // largest body before the session is established
	minMaxFrame     = 4 << 10  // smallest max frame that may be negotiated
	DefaultMaxFrame = 1 << 20  // max frame unless configured
	HardMaxFrame    = 16 << 20 // largest max frame that may be configured

	headerSize  = 12
	trailerSize = md5.Size
	// frameOverhead is what a frame adds to its body.
	frameOverhead = headerSize + trailerSize
)

type frameType byte

const (
	frameHello   frameType = 1 // client: idlen u8 | point_no | key_id u32 | noise message 1
	frameWelcome frameType = 2 // server: noise message 2
	frameData    frameType = 3 // both: a sealed record, below
	frameReject  frameType = 4 // server, instead of WELCOME: status u16 | retry-after u32 ms
)

const magic = "\xc5SG\x02"

// Split looks for one frame at the start of buf. It returns the frame's length when buf holds all of it, and 0 when it
// needs more bytes. Its errors are those of Length.
func Split(buf []byte, max int) (n int, err error) {
	if n, err = Length(buf, max); n > len(buf) {
		return 0, nil
	}
	return n, err
}

// Length returns the length of the frame at the start of buf, of which buf may hold only a part, and 0 before its
// header is complete. It returns an error when the bytes cannot become an allowed frame; the caller then closes the
// connection. max is the largest allowed body. Length refuses a longer one from its header, before the caller allocates
// memory for it. It checks the header only; the session checks the MD5.
func Length(buf []byte, max int) (n int, err error) {
	if p := min(len(buf), len(magic)); string(buf[:p]) != magic[:p] {
		return 0, errMagic
	}
	if len(buf) < headerSize {
		return 0, nil
	}
	typ := frameType(buf[4])
	if typ < frameHello || typ > frameReject || buf[5] != 0 || buf[6] != 0 || buf[7] != 0 {
		return 0, errHeader
	}
	length := binary.BigEndian.Uint32(buf[8:])
	if int64(length) > int64(min(max, HardMaxFrame)) {
		return 0, ErrTooLarge
	}
	return headerSize + int(length) + trailerSize, nil
}

// parseFrame checks a whole frame, its MD5 included, and returns its type and body.
func parseFrame(frame []byte) (frameType, []byte, error) {
	n, err := Split(frame, HardMaxFrame)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 || n != len(frame) {
		return 0, nil, errFrame
	}
	end := n - trailerSize
	if md5.Sum(frame[:end]) != [md5.Size]byte(frame[end:]) {
		return 0, nil, errMD5
	}
	return frameType(frame[4]), frame[headerSize:end], nil
}

func appendHeader(dst []byte, typ frameType, length int) []byte {
	return binary.BigEndian.AppendUint32(append(append(dst, magic...), byte(typ), 0, 0, 0), uint32(length))
}

// appendTrailer ends a frame whose first byte is frame[0].
func appendTrailer(frame []byte) []byte {
	sum := md5.Sum(frame)
	return append(frame, sum[:]...)
}

// plainFrame makes a frame of a body that is not a record.
func plainFrame(typ frameType, body []byte) []byte {
	frame := appendHeader(make([]byte, 0, frameOverhead+len(body)), typ, len(body))
	return appendTrailer(append(frame, body...))
}

// A session expires after sessionRecords in either direction, or SessionLifetime after its handshake. Both sides then
// begin no request on it, and the client opens another session. A sixteenth more records is left for replies in flight.
const (
	sessionRecords  = 1 << 20
	SessionLifetime = time.Hour

	recordLimit = sessionRecords + sessionRecords/16
)

// The body of a DATA frame is AES-256-GCM over a record. The nonce is the count of records in that direction; the
// additional data are the frame's 12 header bytes.
//
//	0    1       2        4                     20
//	| op | flags | status | request_id 16 bytes | payload (CBOR) |
const (
	envelopeSize = 20

	// RecordOverhead is the part of a frame's body that envelope and tag take. The payload has the rest.
	RecordOverhead = envelopeSize + crypto.Overhead
)

// records makes DATA frames of messages and messages of DATA frames, with one cipher for each direction. One goroutine
// may seal while another opens.
type records struct {
	send, recv *crypto.Cipher
	max        int
	expires    time.Time
	most       int   // bytes of a payload that the peer takes in pieces; 0: none
	packs      bool  // the peer unpacks payloads
	flags      uint8 // that the peer may set
}

func newRecords(sendKey, recvKey [crypto.KeySize]byte, max int, now time.Time, t terms) *records {
	r := &records{
		send: crypto.NewCipher(sendKey, recordLimit), recv: crypto.NewCipher(recvKey, recordLimit),
		max: max, expires: now.Add(SessionLifetime), most: t.most, packs: t.packs, flags: FlagMore,
	}
	if t.most > 0 {
		r.flags |= flagPiece | flagHead
	}
	if t.packs {
		r.flags |= flagPacked
	}
	return r
}

// whole reports whether a payload of n bytes leaves as it is, in one record.
func (r *records) whole(n int) bool {
	return n <= r.max-RecordOverhead && (r.most == 0 || n <= smallestPiece) && (!r.packs || n < packLeast)
}

func (r *records) expired(now time.Time) bool {
	return !now.Before(r.expires) || r.send.Count() >= sessionRecords || r.recv.Count() >= sessionRecords
}

// plaintext appends to dst room for header and envelope, then the message's payload. It reserves capacity for tag and
// trailer.
func (m *Message) plaintext(dst []byte) ([]byte, error) {
	var head [headerSize + envelopeSize]byte
	dst = append(slices.Grow(dst, frameOverhead+RecordOverhead+len(m.Payload)), head[:]...)
	if m.Body == nil {
		return append(dst, m.Payload...), nil
	}
	dst, err := AppendPayload(dst, m.Body)
	return slices.Grow(dst, crypto.Overhead+trailerSize), err
}

// seal turns buf[at:], made by plaintext, into the frame of m, in place. A call that fails uses no counter.
func (r *records) seal(buf []byte, at int, m *Message) ([]byte, error) {
	b := buf[at:]
	length := len(b) - headerSize + crypto.Overhead
	if length > r.max {
		return nil, ErrTooLarge
	}
	appendHeader(b[:0], frameData, length)
	b[12], b[13] = byte(m.Op), m.Flags
	binary.BigEndian.PutUint16(b[14:], uint16(m.Status))
	copy(b[16:], m.RequestID[:])
	b, err := r.send.Seal(b[:headerSize], b[:headerSize], b[headerSize:])
	if err != nil {
		return nil, ErrExpired
	}
	b = appendTrailer(b)
	return buf[:at+len(b)], nil
}

// append appends the frame of m to dst.
func (r *records) append(dst []byte, m *Message) ([]byte, error) {
	buf, err := m.plaintext(dst)
	if err != nil {
		return nil, err
	}
	return r.seal(buf, len(dst), m)
}

// next appends the frame of the next record of o to dst.
func (r *records) next(dst []byte, o *Outgoing, piece int) (frame []byte, more bool, err error) {
	m, more := r.cut(o, piece)
	frame, err = r.append(dst, &m)
	return frame, more, err
}

// cut is the next record of o. A peer that takes no pieces gets all in one.
func (r *records) cut(o *Outgoing, piece int) (m Message, more bool) {
	room := r.max - RecordOverhead
	if r.most == 0 {
		piece = room
	}
	return o.next(max(smallestPiece, min(piece, room)))
}

// open decrypts a DATA frame and appends the record to dst. The message's payload aliases it.
func (r *records) open(dst, frame []byte) (*Message, error) {
	typ, body, err := parseFrame(frame)
	switch {
	case err != nil:
		return nil, err
	case typ != frameData:
		return nil, errUnexpected
	case len(body) < RecordOverhead:
		return nil, errEnvelope
	case len(body) > r.max:
		return nil, ErrTooLarge
	}
	plain, err := r.recv.Open(dst, frame[:headerSize], body)
	switch {
	case errors.Is(err, crypto.ErrExhausted):
		return nil, ErrExpired
	case err != nil:
		return nil, errRecord
	}
	m := new(Message)
	return m, m.parseEnvelope(plain, r.flags)
}

// parseEnvelope reads the record plain, which may have these flags. Payload aliases it.
func (m *Message) parseEnvelope(plain []byte, flags uint8) error {
	if len(plain) < envelopeSize || plain[1]&^flags != 0 || plain[1]&(flagPiece|flagHead) == flagHead {
		return errEnvelope
	}
	m.Op, m.Flags = Op(plain[0]), plain[1]
	m.Status = Status(binary.BigEndian.Uint16(plain[2:]))
	m.RequestID = RequestID(plain[4:envelopeSize])
	m.Payload = plain[envelopeSize:]
	return nil
}
