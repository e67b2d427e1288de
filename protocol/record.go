package protocol

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"syncgate/crypto"
)

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
}

func newRecords(sendKey, recvKey [crypto.KeySize]byte, max int, now time.Time) *records {
	return &records{
		send: crypto.NewCipher(sendKey, recordLimit), recv: crypto.NewCipher(recvKey, recordLimit),
		max: max, expires: now.Add(SessionLifetime),
	}
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
	return m, m.parseEnvelope(plain)
}

// parseEnvelope reads the record plain. Payload aliases it.
func (m *Message) parseEnvelope(plain []byte) error {
	if len(plain) < envelopeSize || plain[1]&^FlagMore != 0 {
		return errEnvelope
	}
	m.Op, m.Flags = Op(plain[0]), plain[1]
	m.Status = Status(binary.BigEndian.Uint16(plain[2:]))
	m.RequestID = RequestID(plain[4:envelopeSize])
	m.Payload = plain[envelopeSize:]
	return nil
}
