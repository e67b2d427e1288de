package protocol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"
)

// transcript is the handshake step by step, computed from the Noise specification with the standard library alone. It
// is a second implementation that checks the first, and gives implementers values to compare with.
type transcript struct {
	Steps []transcriptStep `json:"steps"`
	// The session's keys.
	ToServer string `json:"key_client_to_server"`
	ToClient string `json:"key_server_to_client"`
}

type transcriptStep struct {
	Step  string `json:"step"`
	Input string `json:"input,omitempty"`  // mixed in, or the plaintext
	Sent  string `json:"output,omitempty"` // sent to the peer
	CK    string `json:"ck"`
	H     string `json:"h"`
	K     string `json:"k,omitempty"`
	N     uint64 `json:"n"`
}

type symmetric struct {
	t       testing.TB
	ck, h   []byte
	k       []byte
	n       uint64
	journal []transcriptStep
}

func (s *symmetric) note(step string, input, sent []byte) {
	s.journal = append(s.journal, transcriptStep{step, hex.EncodeToString(input), hex.EncodeToString(sent),
		hex.EncodeToString(s.ck), hex.EncodeToString(s.h), hex.EncodeToString(s.k), s.n})
}

func mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func (s *symmetric) hkdf(input []byte) (a, b, c []byte) {
	temp := mac(s.ck, input)
	a = mac(temp, []byte{1})
	b = mac(temp, a, []byte{2})
	return a, b, mac(temp, b, []byte{3})
}

func (s *symmetric) mixHash(data []byte) {
	sum := sha256.Sum256(append(append([]byte(nil), s.h...), data...))
	s.h = sum[:]
}

func (s *symmetric) mixKey(input []byte) {
	s.ck, s.k, _ = s.hkdf(input)
	s.n = 0
}

func (s *symmetric) seal(plain []byte) []byte {
	block, err := aes.NewCipher(s.k)
	if err != nil {
		s.t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		s.t.Fatal(err)
	}
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], s.n)
	box := gcm.Seal(nil, nonce[:], plain, s.h)
	s.n++
	s.mixHash(box)
	return box
}

// newTranscript runs both sides from their secrets.
func newTranscript(t testing.TB, prologue, psk, clientPrivate, serverPrivate, payload1, payload2 []byte) transcript {
	t.Helper()
	client, err := ecdh.X25519().NewPrivateKey(clientPrivate)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ecdh.X25519().NewPrivateKey(serverPrivate)
	if err != nil {
		t.Fatal(err)
	}
	name := []byte("Noise_NNpsk0_25519_AESGCM_SHA256") // 32 bytes, the length of a hash: used as it is
	s := &symmetric{t: t, h: name, ck: name}
	s.note("h = ck = protocol name", name, nil)
	s.mixHash(prologue)
	s.note("MixHash(prologue)", prologue, nil)

	ck, temp, k := s.hkdf(psk)
	s.ck = ck
	s.mixHash(temp)
	s.k, s.n = k, 0
	s.note("message 1, psk: MixKeyAndHash(psk)", psk, nil)
	e := client.PublicKey().Bytes()
	s.mixHash(e)
	s.mixKey(e)
	s.note("message 1, e: MixHash(e), MixKey(e)", e, e)
	s.note("message 1, payload: EncryptAndHash(payload 1)", payload1, s.seal(payload1))

	e = server.PublicKey().Bytes()
	s.mixHash(e)
	s.mixKey(e)
	s.note("message 2, e: MixHash(e), MixKey(e)", e, e)
	dh, err := server.ECDH(client.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	s.mixKey(dh)
	s.note("message 2, ee: MixKey(DH(e, re))", dh, nil)
	s.note("message 2, payload: EncryptAndHash(payload 2)", payload2, s.seal(payload2))
	k1, k2, _ := s.hkdf(nil)
	return transcript{s.journal, hex.EncodeToString(k1), hex.EncodeToString(k2)}
}
