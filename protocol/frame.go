package protocol

import (
	"crypto/md5"
	"encoding/binary"
)

// A frame of the v2 wire carries one message:
//
//	0            4      5       6          8            12              12+n          28+n
//	| C5 53 47 02 | type | flags | reserved | length n   | body n bytes   | MD5 16 bytes |
//
// flags and reserved are 0. MD5 detects damage on the way. It does not authenticate the sender; AES-GCM does.
//
// "Max frame" is always the largest body, without header and trailer.
const (
	Version         = 2        // of the wire; the fourth byte of a frame
	HandshakeMax    = 512      // largest body before the session is established
	minMaxFrame     = 4 << 10  // smallest max frame that may be negotiated
	DefaultMaxFrame = 1 << 20  // max frame unless configured
	HardMaxFrame    = 16 << 20 // largest max frame that may be configured

	headerSize  = 12
	trailerSize = md5.Size
	// frameOverhead is what a frame adds to its body.
	frameOverhead = headerSize + trailerSize
)

type frameType byte

const (
	frameHello   frameType = 1 // client: idlen u8 | point_no | key_id u32 | noise message 1
	frameWelcome frameType = 2 // server: noise message 2
	frameData    frameType = 3 // both: a sealed record, see record.go
	frameReject  frameType = 4 // server, instead of WELCOME: status u16 | retry-after u32 ms
)

const magic = "\xc5SG\x02"

// Split looks for one frame at the start of buf. It returns the frame's length when buf holds all of it, and 0 when it
// needs more bytes. Its errors are those of Length.
func Split(buf []byte, max int) (n int, err error) {
	if n, err = Length(buf, max); n > len(buf) {
		return 0, nil
	}
	return n, err
}

// Length returns the length of the frame at the start of buf, of which buf may hold only a part, and 0 before its header
// is complete. It returns an error when the bytes cannot become an allowed frame; the caller then closes the connection.
// max is the largest allowed body. Length refuses a longer one from its header, before the caller allocates memory for
// it. It checks the header only; the session checks the MD5.
func Length(buf []byte, max int) (n int, err error) {
	if p := min(len(buf), len(magic)); string(buf[:p]) != magic[:p] {
		return 0, errMagic
	}
	if len(buf) < headerSize {
		return 0, nil
	}
	typ := frameType(buf[4])
	if typ < frameHello || typ > frameReject || buf[5] != 0 || buf[6] != 0 || buf[7] != 0 {
		return 0, errHeader
	}
	length := binary.BigEndian.Uint32(buf[8:])
	if int64(length) > int64(min(max, HardMaxFrame)) {
		return 0, ErrTooLarge
	}
	return headerSize + int(length) + trailerSize, nil
}

// parseFrame checks a whole frame, its MD5 included, and returns its type and body.
func parseFrame(frame []byte) (frameType, []byte, error) {
	n, err := Split(frame, HardMaxFrame)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 || n != len(frame) {
		return 0, nil, errFrame
	}
	end := n - trailerSize
	if md5.Sum(frame[:end]) != [md5.Size]byte(frame[end:]) {
		return 0, nil, errMD5
	}
	return frameType(frame[4]), frame[headerSize:end], nil
}

func appendHeader(dst []byte, typ frameType, length int) []byte {
	return binary.BigEndian.AppendUint32(append(append(dst, magic...), byte(typ), 0, 0, 0), uint32(length))
}

// appendTrailer ends a frame whose first byte is frame[0].
func appendTrailer(frame []byte) []byte {
	sum := md5.Sum(frame)
	return append(frame, sum[:]...)
}

// plainFrame makes a frame of a body that is not a record.
func plainFrame(typ frameType, body []byte) []byte {
	frame := appendHeader(make([]byte, 0, frameOverhead+len(body)), typ, len(body))
	return appendTrailer(append(frame, body...))
}
