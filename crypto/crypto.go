// Package crypto has the points' keys, wraps them at rest, and seals what sessions send under them. It does no I/O, logs
// nothing and reads no clock.
//
//	key file ── ParseMasterKey ──> MasterKey ── Unwrap ──> Key ──> handshake ──> records, one Cipher a direction
//	                                   │
//	database <─── wrapped key ─── Wrap ┘
//
// Key is the secret a detection point shares with the server under a key id; two ids may be live at once, so that a
// key is changed without an outage. MasterKey wraps them at rest. Cipher is AES-256-GCM (NIST SP 800-38D) with a counter
// for a nonce: the record sealed n-th opens n-th or not at all. CBC serves the v1 wire and gives no authenticity.
package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"sync/atomic"
)

// KeySize is the length of every symmetric key here, in bytes.
const KeySize = 32

// Key is the secret one detection point shares with the server.
type Key struct {
	Point  string // point_no, 1 to 64 bytes of UTF-8
	ID     uint32 // key id; a point may have several live ones
	Secret [KeySize]byte
}

const gcmNonceSize = 12

// Overhead is the number of bytes that Seal adds to a plaintext: the GCM tag. The nonce is not sent.
const Overhead = 16

// Errors of Cipher.
var (
	ErrOpen      = errors.New("crypto: record does not open: changed, replayed, dropped or out of order")
	ErrExhausted = errors.New("crypto: the key has sealed or opened all the records it may")
)

// Cipher is one direction of a session: AES-256-GCM whose nonce is four zero bytes and a big-endian count of the
// records so far. Seal and Open must not be called at the same time; Count may be called at any time. After a failed
// Open the cipher opens nothing more, since the peer's count is unknown.
type Cipher struct {
	aead   cipher.AEAD
	nonce  [gcmNonceSize]byte
	limit  uint64
	broken bool
	count  atomic.Uint64
}

// NewCipher makes a cipher that will seal or open at most limit records under key.
func NewCipher(key [KeySize]byte, limit uint64) *Cipher {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // AES takes any key of 32 bytes, and GCM any block of 16
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &Cipher{aead: aead, limit: limit}
}

// Count is the number of records sealed or opened so far.
func (c *Cipher) Count() uint64 { return c.count.Load() }

// Seal appends the sealed plaintext to dst. plaintext may be dst[len(dst):len(dst)+n] exactly, and is then sealed in
// place; any other overlap is a bug of the caller. aad is authenticated and not sent. It allocates only when dst lacks
// room for len(plaintext)+Overhead bytes.
func (c *Cipher) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	n := c.count.Load()
	if n >= c.limit {
		return nil, ErrExhausted
	}
	binary.BigEndian.PutUint64(c.nonce[4:], n)
	out := c.aead.Seal(dst, c.nonce[:], plaintext, aad)
	c.count.Store(n + 1)
	return out, nil
}

// Open appends the opened box to dst, or returns ErrOpen and nothing. box may be dst[len(dst):] exactly, and is then
// opened in place.
func (c *Cipher) Open(dst, aad, box []byte) ([]byte, error) {
	n := c.count.Load()
	if n >= c.limit {
		return nil, ErrExhausted
	}
	if c.broken {
		return nil, ErrOpen
	}
	binary.BigEndian.PutUint64(c.nonce[4:], n)
	out, err := c.aead.Open(dst, c.nonce[:], box, aad)
	if err != nil {
		c.broken = true
		return nil, ErrOpen
	}
	c.count.Store(n + 1)
	return out, nil
}
