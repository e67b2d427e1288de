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
)

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
