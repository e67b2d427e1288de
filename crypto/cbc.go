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
