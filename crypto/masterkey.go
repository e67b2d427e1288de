package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Errors of MasterKey.
var (
	ErrMasterKey = errors.New("crypto: a master key is 32 bytes in base64 on one line")
	ErrUnwrap    = errors.New("crypto: wrapped key does not open: another master key, another point or id, or damaged")
)

// MasterKey wraps the points' keys at rest. The zero value is refused.
type MasterKey struct {
	seal  cipher.AEAD
	nonce []byte // HMAC key the nonces are derived under
	text  []byte
}

// The wrapped form: version 1, nonce, secret, tag.
const (
	wrapVersion = 1
	wrappedSize = 1 + gcmNonceSize + KeySize + Overhead
)

// GenerateMasterKey makes a new key from 32 bytes of rand.
func GenerateMasterKey(rand io.Reader) (*MasterKey, error) {
	var secret [KeySize]byte
	if _, err := io.ReadFull(rand, secret[:]); err != nil {
		return nil, fmt.Errorf("crypto: master key: %w", err)
	}
	return newMasterKey(secret[:])
}

// ParseMasterKey reads what Text wrote: base64 (RFC 4648, padded) with white space around it.
func ParseMasterKey(text []byte) (*MasterKey, error) {
	secret, err := base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(secret) != KeySize {
		return nil, ErrMasterKey
	}
	return newMasterKey(secret)
}

// Text is the key as it is kept in a file: base64 and a newline. It opens every point's key.
func (m *MasterKey) Text() []byte { return bytes.Clone(m.text) }

func newMasterKey(secret []byte) (*MasterKey, error) {
	sealKey, err := hkdf.Key(sha256.New, secret, nil, "syncgate master key: wrap", KeySize)
	if err != nil {
		return nil, fmt.Errorf("crypto: master key: %w", err)
	}
	nonceKey, err := hkdf.Key(sha256.New, secret, nil, "syncgate master key: nonce", KeySize)
	if err != nil {
		return nil, fmt.Errorf("crypto: master key: %w", err)
	}
	text := append(base64.StdEncoding.AppendEncode(nil, secret), '\n')
	return &MasterKey{seal: newGCM([KeySize]byte(sealKey)), nonce: nonceKey, text: text}, nil
}

// Wrap seals k for storage, bound to its point and id: the bytes open under no other name. The nonce is an HMAC of name
// and secret: two equal nonces mean equal contents, and no randomness is needed.
func (m *MasterKey) Wrap(k Key) ([]byte, error) {
	if m == nil || m.seal == nil {
		return nil, ErrMasterKey
	}
	name := wrapName(k.Point, k.ID)
	mac := hmac.New(sha256.New, m.nonce)
	mac.Write(name)
	mac.Write(k.Secret[:])
	out := make([]byte, 1, wrappedSize)
	out[0] = wrapVersion
	out = append(out, mac.Sum(nil)[:gcmNonceSize]...)
	return m.seal.Seal(out, out[1:1+gcmNonceSize], k.Secret[:], name), nil
}

// Unwrap opens what Wrap sealed for the same point and id.
func (m *MasterKey) Unwrap(point string, id uint32, wrapped []byte) (Key, error) {
	if m == nil || m.seal == nil {
		return Key{}, ErrMasterKey
	}
	if len(wrapped) != wrappedSize || wrapped[0] != wrapVersion {
		return Key{}, ErrUnwrap
	}
	nonce, box := wrapped[1:1+gcmNonceSize], wrapped[1+gcmNonceSize:]
	k := Key{Point: point, ID: id}
	if _, err := m.seal.Open(k.Secret[:0], nonce, box, wrapName(point, id)); err != nil {
		return Key{}, ErrUnwrap
	}
	return k, nil
}

// wrapName is the additional data: the id has a fixed length, so no two names read the same.
func wrapName(point string, id uint32) []byte {
	name := append([]byte("syncgate key"), wrapVersion)
	return append(binary.BigEndian.AppendUint32(name, id), point...)
}

// newGCM can't fail: AES takes any key of 32 bytes, GCM any block of 16.
func newGCM(key [KeySize]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}
