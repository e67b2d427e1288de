package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"sync/atomic"
)

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
