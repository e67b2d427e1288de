// Package crypto has the points' keys, wraps them at rest, and seals what sessions send under them. It does no I/O,
// logs nothing and reads no clock.
//
//	key file ── ParseMasterKey ──> MasterKey ── Unwrap ──> Key ──> handshake ──> records, one Cipher a direction
//	                                   │
//	database <─── wrapped key ─── Wrap ┘
//
// Key is the secret a detection point shares with the server under a key id; two ids may be live at once, so that a key
// is changed without an outage. MasterKey wraps them at rest. Cipher is AES-256-GCM (NIST SP 800-38D) with a counter
// for a nonce: the record sealed n-th opens n-th or not at all. CBC serves the v1 wire and gives no authenticity.
package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
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

// Errors of MasterKey.
var (
	ErrMasterKey = errors.New("crypto: a master key is 32 bytes in base64 on one line")
	ErrUnwrap    = errors.New("crypto: wrapped key does not open: another master key, another point or id, or damaged")
)

// MasterKey wraps the points' keys at rest.
type MasterKey struct {
	seal cipher.AEAD // puts a random nonce before the sealed bytes
}

// The wrapped form: version 1, nonce, secret, tag.
const (
	wrapVersion = 1
	wrappedSize = 1 + gcmNonceSize + KeySize + Overhead
)

// GenerateMasterKey makes a new key, as the text that ParseMasterKey reads. It opens every point's key.
func GenerateMasterKey() []byte {
	var secret [KeySize]byte
	_, _ = rand.Read(secret[:]) // never fails
	return append(base64.StdEncoding.AppendEncode(nil, secret[:]), '\n')
}

// ParseMasterKey reads a key from its text: base64 (RFC 4648, padded) with white space around it.
func ParseMasterKey(text []byte) (*MasterKey, error) {
	secret, err := base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(secret) != KeySize {
		return nil, ErrMasterKey
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "syncgate master key: wrap", KeySize)
	if err != nil {
		return nil, fmt.Errorf("crypto: master key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("crypto: master key: %w", err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("crypto: master key: %w", err)
	}
	return &MasterKey{seal}, nil
}

// Wrap seals k for storage, bound to its point and id: the bytes open under no other name.
func (m *MasterKey) Wrap(k Key) []byte {
	return m.seal.Seal([]byte{wrapVersion}, nil, k.Secret[:], wrapName(k.Point, k.ID))
}

// Unwrap opens what Wrap sealed for the same point and id.
func (m *MasterKey) Unwrap(point string, id uint32, wrapped []byte) (Key, error) {
	k := Key{Point: point, ID: id}
	if len(wrapped) != wrappedSize || wrapped[0] != wrapVersion {
		return Key{}, ErrUnwrap
	}
	if _, err := m.seal.Open(k.Secret[:0], nil, wrapped[1:], wrapName(point, id)); err != nil {
		return Key{}, ErrUnwrap
	}
	return k, nil
}

// wrapName is the additional data: the id has a fixed length, so no two names read the same.
func wrapName(point string, id uint32) []byte {
	name := append([]byte("syncgate key"), wrapVersion)
	return append(binary.BigEndian.AppendUint32(name, id), point...)
}

// ErrBlocks is a ciphertext that is not one or more whole blocks.
var ErrBlocks = errors.New("crypto: ciphertext is not whole blocks")

// CBC is the v1 wire's cipher: AES-CBC (NIST SP 800-38A) under one key and one fixed initialisation vector,
// padded with NUL bytes. It hides the text and does nothing else: equal beginnings look equal, and a changed
// ciphertext or a wrong key opens to some text without an error. Any number of goroutines may use it.
type CBC struct {
	block cipher.Block
	iv    [aes.BlockSize]byte
}

// NewCBC makes a cipher from a key of 16, 24 or 32 bytes and an initialisation vector of 16.
func NewCBC(key, iv []byte) (*CBC, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("crypto: %w", err)
	}
	if len(iv) != aes.BlockSize {
		return nil, fmt.Errorf("crypto: initialisation vector of %d bytes, want %d", len(iv), aes.BlockSize)
	}
	return &CBC{block: block, iv: [aes.BlockSize]byte(iv)}, nil
}

// Seal pads text with NUL bytes to the next multiple of 16 above its length, encrypts it and returns it. It overwrites
// text, and uses the memory behind it when there is enough.
func (c *CBC) Seal(text []byte) []byte {
	text = append(text, make([]byte, aes.BlockSize-len(text)%aes.BlockSize)...)
	cipher.NewCBCEncrypter(c.block, c.iv[:]).CryptBlocks(text, text)
	return text
}

// Open decrypts box in place and returns it without the NUL bytes at its end, the text's own included. It can't tell
// whether the key is right.
func (c *CBC) Open(box []byte) ([]byte, error) {
	if len(box) == 0 || len(box)%aes.BlockSize != 0 {
		return nil, ErrBlocks
	}
	cipher.NewCBCDecrypter(c.block, c.iv[:]).CryptBlocks(box, box)
	return bytes.TrimRight(box, "\x00"), nil
}
