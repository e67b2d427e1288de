package protocol

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"syncgate/crypto"
)

// A session is over after so many records in either direction, or so long after its handshake. Then both sides begin
// nothing new on it and the client opens another; a sixteenth more records is kept for what is in flight.
const (
	sessionRecords  = 1 << 20
	SessionLifetime = time.Hour

	recordLimit = sessionRecords + sessionRecords/16
)

const (
	envelopeSize   = 20
	cryptoOverhead = crypto.Overhead

	// RecordOverhead is what envelope and tag take of a frame's body: a payload may have max frame minus this.
	RecordOverhead = envelopeSize + cryptoOverhead
)

// records turns messages into DATA frames and back, one cipher a direction. Sealing and opening may happen at the same
// time, each in one goroutine at a time.
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

// plaintext appends to dst room for header and envelope, then the message's payload, and sees to capacity for what
// follows it.
func (m *Message) plaintext(dst []byte) ([]byte, error) {
	var head [headerSize + envelopeSize]byte
	dst = append(slices.Grow(dst, frameOverhead+RecordOverhead+len(m.Payload)), head[:]...)
	if m.Body == nil {
		return append(dst, m.Payload...), nil
	}
	dst, err := AppendPayload(dst, m.Body)
	return slices.Grow(dst, cryptoOverhead+trailerSize), err
}

// seal makes the frame of m out of buf[at:], which is what plaintext made, in place. Nothing was counted or changed for
// good when it fails.
func (r *records) seal(buf []byte, at int, m *Message) ([]byte, error) {
	b := buf[at:]
	length := len(b) - headerSize + cryptoOverhead
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

// open checks a DATA frame and appends what is in it to dst; the message's payload aliases that.
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

// parseEnvelope reads a record's plaintext; Payload aliases it.
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
