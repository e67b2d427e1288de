package crypto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestMasterKey(t *testing.T) {
	text := GenerateMasterKey()
	m, err := ParseMasterKey(text)
	if err != nil {
		t.Fatal(err)
	}
	same, err := ParseMasterKey(append([]byte("  "), text...))
	if err != nil {
		t.Fatal(err)
	}
	k := Key{Point: "point-01", ID: 7, Secret: [32]byte{9, 8, 7}}
	wrapped := m.Wrap(k)
	if got, err := same.Unwrap("point-01", 7, wrapped); err != nil || got != k {
		t.Fatalf("%+v, %v", got, err)
	}
	if bytes.Contains(wrapped, k.Secret[:]) {
		t.Error("the secret stands in the open")
	}
	other, err := ParseMasterKey(GenerateMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(wrapped)
	changed[20] ^= 1
	for name, f := range map[string]func() (Key, error){
		"other master key": func() (Key, error) { return other.Unwrap("point-01", 7, wrapped) },
		"other point":      func() (Key, error) { return m.Unwrap("point-02", 7, wrapped) },
		"other id":         func() (Key, error) { return m.Unwrap("point-01", 8, wrapped) },
		"changed":          func() (Key, error) { return m.Unwrap("point-01", 7, changed) },
		"short":            func() (Key, error) { return m.Unwrap("point-01", 7, wrapped[:60]) },
		"other version":    func() (Key, error) { return m.Unwrap("point-01", 7, append([]byte{2}, wrapped[1:]...)) },
		"nothing":          func() (Key, error) { return m.Unwrap("point-01", 7, nil) },
	} {
		if got, err := f(); !errors.Is(err, ErrUnwrap) || got != (Key{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestBadMasterKey(t *testing.T) {
	as := strings.Repeat("A", 42)
	for _, text := range []string{"", "AAAA", as + "AA", as + "A", "!" + as + "=", as + "B="} {
		if _, err := ParseMasterKey([]byte(text)); !errors.Is(err, ErrMasterKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A key in a database of an earlier version opens.
func TestWrappedFormStays(t *testing.T) {
	m, err := ParseMasterKey([]byte(strings.Repeat("A", 43) + "="))
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := hex.DecodeString("018a19a60d0e2e82ad6d41c20e6bbb7538154b6ab55a09e04af7d0f5e2c91a55" +
		"fba3b81c867dc7e6b665c755d2d81905338fb919275f55a865e28ee4e2")
	if err != nil {
		t.Fatal(err)
	}
	want := Key{Point: "point-01", ID: 7, Secret: [32]byte{1, 2, 3}}
	if got, err := m.Unwrap("point-01", 7, wrapped); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// The first two records under a key of zeros, checked against the GCM vectors of the standard: case 14 of the GCM
// specification has that key, nonce and plaintext.
func TestCipherIsGCM(t *testing.T) {
	c := NewCipher([32]byte{}, 10)
	box, err := c.Seal(nil, nil, make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(box); got != "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919" {
		t.Error(got)
	}
}

func TestCipherIsStrict(t *testing.T) {
	pair := func() (seal, open *Cipher) {
		a := NewCipher([32]byte{1}, 4)
		b := NewCipher([32]byte{1}, 4)
		return a, b
	}
	seal := func(c *Cipher, text string) []byte {
		box, err := c.Seal(nil, []byte("aad"), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return box
	}
	a, b := pair()
	one, two := seal(a, "one"), seal(a, "two")
	for name, boxes := range map[string][][]byte{
		"replayed":  {one, one},
		"dropped":   {two},
		"reordered": {two, one},
		"changed":   {append([]byte{one[0] ^ 1}, one[1:]...)},
		"cut":       {one[:len(one)-1]},
		"empty":     {nil},
	} {
		_, c := pair()
		var err error
		for _, box := range boxes {
			if _, err = c.Open(nil, []byte("aad"), box); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.Open(nil, []byte("aad"), one); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: opened something after a failure", name)
		}
	}
	for _, want := range []string{"one", "two"} {
		box := map[string][]byte{"one": one, "two": two}[want]
		if got, err := b.Open(nil, []byte("aad"), box); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", want, got, err)
		}
	}
	if _, err := b.Open(nil, []byte("other"), seal(a, "three")); !errors.Is(err, ErrOpen) {
		t.Errorf("other additional data: %v", err)
	}
	seal(a, "four")
	if _, err := a.Seal(nil, nil, nil); !errors.Is(err, ErrExhausted) || a.Count() != 4 {
		t.Errorf("a fifth record of four: %v, count %d", err, a.Count())
	}
	if _, err := a.Open(nil, nil, nil); !errors.Is(err, ErrExhausted) {
		t.Error(err)
	}
}

func TestCipherInPlaceWithoutAllocating(t *testing.T) {
	a := NewCipher([32]byte{1}, 1<<20)
	b := NewCipher([32]byte{1}, 1<<20)
	buf := append(make([]byte, 0, 100), "headerplaintext"...)
	n := testing.AllocsPerRun(100, func() {
		box, err := a.Seal(buf[:6], buf[:6], buf[6:15])
		if err != nil {
			t.Fatal(err)
		}
		plain, err := b.Open(box[:6], box[:6], box[6:])
		if err != nil || string(plain) != "headerplaintext" || &plain[0] != &buf[0] {
			t.Fatalf("%q, %v", plain, err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a record", n)
	}
}
