package protocol

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
	"unicode/utf8"

	"github.com/flynn/noise"

	"syncgate/crypto"
)

// The handshake is Noise_NNpsk0_25519_AESGCM_SHA256 (The Noise Protocol Framework, revision 34).

const (
	maxPoint    = 64 // bytes of point_no
	maxSoftware = 64 // bytes of software and server id

	// rejectDelay is the time from a refused hello, or a refused request of the v1 wire, to the answer.
	rejectDelay = 200 * time.Millisecond

	noiseMin   = 32 + crypto.Overhead // a noise message: an ephemeral public key and an empty payload
	rejectSize = 6                    // a REJECT's body
)

// noiseConfig configures one side. The prologue authenticates point and key id, which HELLO carries in the clear.
func noiseConfig(dh noise.DHFunc, rand io.Reader, initiator bool, k crypto.Key) noise.Config {
	return noise.Config{
		CipherSuite:           noise.NewCipherSuite(dh, noise.CipherAESGCM, noise.HashSHA256),
		Random:                rand,
		Pattern:               noise.HandshakeNN,
		Initiator:             initiator,
		Prologue:              appendName([]byte("syncgate/2"), k.Point, k.ID),
		PresharedKey:          k.Secret[:],
		PresharedKeyPlacement: 0,
	}
}

// appendName appends idlen u8, point_no and key_id u32, with which a HELLO begins and the prologue ends.
func appendName(dst []byte, point string, id uint32) []byte {
	dst = append(append(dst, byte(len(point))), point...)
	return binary.BigEndian.AppendUint32(dst, id)
}

func validPoint(point string) bool {
	return point != "" && validText(point, maxPoint)
}

func validText(s string, most int) bool { return len(s) <= most && utf8.ValidString(s) }

// parseHello splits a HELLO's body.
func parseHello(body []byte) (point string, id uint32, message []byte, err error) {
	if len(body) < noiseMin {
		return "", 0, nil, errHello
	}
	n := 1 + int(body[0])
	if len(body) < n+4+noiseMin || len(body) > HandshakeMax || !validPoint(string(body[1:n])) {
		return "", 0, nil, errHello
	}
	return string(body[1:n]), binary.BigEndian.Uint32(body[n:]), body[n+4:], nil
}

// hello is the payload of noise message 1.
type hello struct {
	minVersion, maxVersion uint64
	software               string
	clockMs                int64
	terms
}

// terms are what the two ends agree on besides: the client offers them in HELLO, and the server takes up in WELCOME
// what it can do, too. A client that offers nothing gets nothing.
type terms struct {
	most  int  // bytes of the largest payload that the sender of this takes in pieces
	packs bool // it takes packed payloads
}

// fields have the keys from first on.
func (t *terms) fields(c *coder, first uint64) {
	if c.has(t.most > 0) {
		number(c, first, &t.most, hardMaxMessage)
	}
	if c.has(t.packs) {
		c.flag(first+1, &t.packs)
	}
}

func (h *hello) fields(c *coder) {
	number(c, 1, &h.minVersion, math.MaxUint64)
	number(c, 2, &h.maxVersion, math.MaxUint64)
	c.text(3, &h.software, maxSoftware)
	number(c, 4, &h.clockMs, math.MaxInt64)
	h.terms.fields(c, 5)
}

// Welcome has what the server grants a session. It is the payload of noise message 2.
type Welcome struct {
	Version      uint64
	MaxFrame     int           // largest body either side sends, in bytes; minMaxFrame..HardMaxFrame
	MaxInFlight  int           // requests without their last reply, at which the server stops reading
	Keepalive    time.Duration // whole seconds; a client sends PING after this much silence of its own
	ClockMs      int64         // the server's clock, Unix ms
	ServerID     string
	RulesVersion uint64
	terms
}

func (w *Welcome) fields(c *coder) {
	keepalive := uint64(w.Keepalive / time.Second)
	number(c, 1, &w.Version, math.MaxUint64)
	number(c, 2, &w.MaxFrame, HardMaxFrame)
	number(c, 3, &w.MaxInFlight, math.MaxUint16)
	number(c, 4, &keepalive, math.MaxUint16)
	number(c, 5, &w.ClockMs, math.MaxInt64)
	c.text(6, &w.ServerID, maxSoftware)
	number(c, 7, &w.RulesVersion, math.MaxUint64)
	w.terms.fields(c, 8)
	if c.reading {
		w.Keepalive = time.Duration(keepalive) * time.Second
	}
	ok := w.Version == Version && w.MaxFrame >= minMaxFrame && w.MaxInFlight >= 1 && w.Keepalive > 0
	c.check(ok, "is not acceptable")
}

// RejectError is a server's REJECT. It is not authenticated: anybody on the path can forge one. A client may wait
// because of it. It must not stop trying, and must not discard data.
type RejectError struct {
	Status     Status
	RetryAfter time.Duration // 0: no hint
}

func (e *RejectError) Error() string {
	return fmt.Sprintf("protocol: rejected: %s %s, retry after %s", e.Status, e.Status.Info().Name, e.RetryAfter)
}

// BusyFrame is the REJECT for a connection that the server has no room for. retryAfter is rounded up to ms; 0 gives no
// hint.
func BusyFrame(retryAfter time.Duration) []byte { return rejectFrame(StatusBusy, retryAfter) }

func rejectFrame(s Status, retryAfter time.Duration) []byte {
	var body [rejectSize]byte
	binary.BigEndian.PutUint16(body[:], uint16(s))
	ms := min(max((retryAfter+time.Millisecond-1)/time.Millisecond, 0), math.MaxUint32)
	binary.BigEndian.PutUint32(body[2:], uint32(ms))
	return plainFrame(frameReject, body[:])
}

func parseReject(body []byte) error {
	if len(body) != rejectSize {
		return errFrame
	}
	return &RejectError{
		Status:     Status(binary.BigEndian.Uint16(body)),
		RetryAfter: time.Duration(binary.BigEndian.Uint32(body[2:])) * time.Millisecond,
	}
}
