package crypto

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// ErrBlocks is a ciphertext that is not one or more whole blocks.
var ErrBlocks = errors.New("crypto: ciphertext is not whole blocks")

// CBC is the seed era's cipher: AES-CBC (NIST SP 800-38A) under one key and one
// fixed initialisation vector, padded with NUL bytes. It hides the text from
// whoever lacks the key and does nothing else: equal beginnings look equal, a
// changed ciphertext opens to something, and so does one of a wrong key. It may
// be used by any number of goroutines.
type CBC struct {
	block cipher.Block
	iv    [aes.BlockSize]byte
}

// NewCBC makes a cipher from a key of 16, 24 or 32 bytes and an initialisation
// vector of 16.
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

// SealedLen is the length of what Seal makes of n bytes: the next multiple of
// 16 above n, so that there is padding always.
func (c *CBC) SealedLen(n int) int { return (n/aes.BlockSize + 1) * aes.BlockSize }

// Seal pads text with NUL bytes, in its own memory when that has room, encrypts
// it there and returns it. text is used up.
func (c *CBC) Seal(text []byte) []byte {
	n := c.SealedLen(len(text))
	text = append(text, make([]byte, n-len(text))...)
	cipher.NewCBCEncrypter(c.block, c.iv[:]).CryptBlocks(text, text)
	return text
}

// Open decrypts box in place and returns it without the NUL bytes at its end.
// Text that itself ends in NUL loses them. It is not known whether the key was
// right.
func (c *CBC) Open(box []byte) ([]byte, error) {
	if len(box) == 0 || len(box)%aes.BlockSize != 0 {
		return nil, ErrBlocks
	}
	cipher.NewCBCDecrypter(c.block, c.iv[:]).CryptBlocks(box, box)
	return bytes.TrimRight(box, "\x00"), nil
}
