package protocol

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"

	"syncgate/crypto"
)

// A packet of the v1 wire carries one request or one reply:
//
//	 0                16              16+n              32+n       35+n
//	| MD5 hex [0:16]  | payload n     | MD5 hex [16:32] | 0A 0D 0A |     MD5 of the payload, 32 hex digits
//
//	payload = lower-case hex of AES-CBC over the text and NUL bytes up to the block
//	text    = the repr of one Python dict: {'userid': …, 'Business': {…}, 'Error': {…}, 'Info_Status': {…}}
const (
	legacyHalf     = md5.Size // hex digits of each half of the MD5
	legacyEnd      = "\n\r\n" // none of its bytes can occur before it
	legacyOverhead = 2*legacyHalf + len(legacyEnd)
)

// SplitLegacy is Split for the v1 wire. A frame is a packet with its end, and max is the most hex digits of its
// payload. Bytes without an end are refused once they exceed the longest packet.
func SplitLegacy(buf []byte, max int) (n int, err error) {
	room := min(len(buf), max+legacyOverhead)
	end := bytes.IndexByte(buf[:room], '\n')
	if end < 0 {
		if len(buf) >= max+legacyOverhead {
			return 0, ErrTooLarge
		}
		return 0, nil
	}
	tail := buf[end:]
	if p := min(len(tail), len(legacyEnd)); string(tail[:p]) != legacyEnd[:p] {
		return 0, errLegacyPacket
	}
	n = end + len(legacyEnd)
	switch {
	case n > max+legacyOverhead:
		return 0, ErrTooLarge
	case n < legacyOverhead:
		return 0, errLegacyPacket
	case len(buf) < n:
		return 0, nil
	}
	return n, nil
}

// openLegacy checks and decrypts a whole packet and returns its text in new memory. A wrong key is not detected here.
func openLegacy(packet []byte, cbc *crypto.CBC) ([]byte, error) {
	if len(packet) < legacyOverhead || string(packet[len(packet)-len(legacyEnd):]) != legacyEnd {
		return nil, fmt.Errorf("%w: it is not whole", errLegacyPacket)
	}
	body := packet[:len(packet)-len(legacyEnd)]
	payload := body[legacyHalf : len(body)-legacyHalf]
	sum := legacyMD5(payload)
	if string(body[:legacyHalf]) != sum[:legacyHalf] || string(body[len(body)-legacyHalf:]) != sum[legacyHalf:] {
		return nil, errLegacyMD5
	}
	box := make([]byte, len(payload)/2)
	if _, err := hex.Decode(box, payload); err != nil {
		return nil, fmt.Errorf("%w: %w", errLegacyPacket, err)
	}
	if bytes.ContainsAny(payload, "ABCDEF") {
		return nil, fmt.Errorf("%w: its hex is in upper case", errLegacyPacket)
	}
	text, err := cbc.Open(box)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLegacyPacket, err)
	}
	return text, nil
}

// sealLegacy makes the packet of a text. It overwrites text.
func sealLegacy(text []byte, cbc *crypto.CBC) []byte {
	box := cbc.Seal(text)
	packet := make([]byte, legacyHalf, legacyOverhead+2*len(box))
	packet = hex.AppendEncode(packet, box)
	sum := legacyMD5(packet[legacyHalf:])
	copy(packet, sum[:legacyHalf])
	packet = append(packet, sum[legacyHalf:]...)
	return append(packet, legacyEnd...)
}

// legacyMD5 returns the MD5 of the joined parts in hex.
func legacyMD5(parts ...[]byte) string {
	h := md5.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// legacyToken returns a Security_Token: the MD5 of str(Content), Time and the token key.
func legacyToken(content []byte, time, key string) string {
	return legacyMD5(content, []byte(time), []byte(key))
}
