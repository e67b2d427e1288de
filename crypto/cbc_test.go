package crypto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The first blocks of NIST SP 800-38A, F.2.1, F.2.3 and F.2.5, to which our padding adds a second.
func TestCBCVectors(t *testing.T) {
	const iv, plain = "000102030405060708090a0b0c0d0e0f", "6bc1bee22e409f96e93d7e117393172a"
	for key, want := range map[string]string{
		"2b7e151628aed2a6abf7158809cf4f3c":                                 "7649abac8119b246cee98e9b12e9197d",
		"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b":                 "4f021db243bc633d7178183a9fa071e8",
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": "f58c4c04d6e5f1ba779eabfb5f7bfbd6",
	} {
		c, err := NewCBC(unhex(t, key), unhex(t, iv))
		if err != nil {
			t.Fatal(err)
		}
		box := c.Seal(unhex(t, plain))
		if len(box) != 32 || hex.EncodeToString(box[:16]) != want {
			t.Errorf("%s: sealed to %x, want %s and a block of padding", key, box, want)
		}
		if got, err := c.Open(box); err != nil || hex.EncodeToString(got) != plain {
			t.Errorf("%s: opened to %x, %v", key, got, err)
		}
	}
}

func TestCBCPadding(t *testing.T) {
	c, err := NewCBC(make([]byte, 16), make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 50 {
		text := strings.Repeat("x", n)
		box := c.Seal([]byte(text))
		if len(box)%16 != 0 || len(box) <= n || len(box)-n > 16 {
			t.Errorf("%d bytes sealed to %d", n, len(box))
		}
		if got, err := c.Open(box); err != nil || string(got) != text {
			t.Errorf("%d bytes opened to %q, %v", n, got, err)
		}
	}
}

func TestCBCRefuses(t *testing.T) {
	for _, n := range []int{0, 15, 17, 33} {
		if _, err := NewCBC(make([]byte, n), make([]byte, 16)); err == nil {
			t.Errorf("a key of %d bytes passed", n)
		}
	}
	if _, err := NewCBC(make([]byte, 16), make([]byte, 15)); err == nil {
		t.Error("an iv of 15 bytes passed")
	}
	c, err := NewCBC(make([]byte, 16), make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 15, 17} {
		if _, err := c.Open(bytes.Repeat([]byte{1}, n)); !errors.Is(err, ErrBlocks) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
