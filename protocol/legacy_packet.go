package protocol

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"

	"syncgate/crypto"
)

const (
	legacyHalf     = md5.Size // hex digits of each half of the MD5
	legacyEnd      = "\n\r\n" // ends a packet; none of its bytes can stand before
	legacyOverhead = 2*legacyHalf + len(legacyEnd)
)

// SplitLegacy is Split for the seed-era wire: a frame is a packet with the "\n\r\n" that ends it, and max is the most
// hex digits its payload may have. Bytes without an end are refused once they are too many for any packet.
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

// openLegacy takes a whole packet apart and returns its text in fresh memory. Nothing says yet that the key was right.
func openLegacy(packet []byte, cbc *crypto.CBC) ([]byte, error) {
	if len(packet) < legacyOverhead || string(packet[len(packet)-len(legacyEnd):]) != legacyEnd {
		return nil, fmt.Errorf("%w: not whole", errLegacyPacket)
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
		return nil, fmt.Errorf("%w: hex in upper case", errLegacyPacket)
	}
	text, err := cbc.Open(box)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLegacyPacket, err)
	}
	return text, nil
}

// sealLegacy makes the packet of a text, which is used up.
func sealLegacy(text []byte, cbc *crypto.CBC) []byte {
	box := cbc.Seal(text)
	packet := make([]byte, legacyHalf, legacyOverhead+2*len(box))
	packet = hex.AppendEncode(packet, box)
	sum := legacyMD5(packet[legacyHalf:])
	copy(packet, sum[:legacyHalf])
	packet = append(packet, sum[legacyHalf:]...)
	return append(packet, legacyEnd...)
}

// legacyMD5 is the MD5 in hex of the parts joined.
func legacyMD5(parts ...[]byte) string {
	h := md5.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// legacyToken is a Security_Token: MD5 over str(Content), Time and the token key.
func legacyToken(content []byte, time, key string) string {
	return legacyMD5(content, []byte(time), []byte(key))
}
