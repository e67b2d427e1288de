package protocol

import (
	"crypto/md5"
	"encoding/binary"
)

// Sizes of the modern frame. "Max frame" everywhere in this package is the largest body, without header and trailer.
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
	frameHello   frameType = 1
	frameWelcome frameType = 2
	frameData    frameType = 3
	frameReject  frameType = 4
)

const magic = "\xc5SG\x02"

// Split looks for one frame at the start of buf. It returns the length of the frame when all of it is there, 0 when
// more bytes are needed, and an error when the bytes can never become a frame the connection may send: the connection
// is then to be closed. max is the largest body allowed now; a longer one is refused as soon as its header is there,
// before anything is allocated for it. Split checks the header only; the session checks the MD5.
func Split(buf []byte, max int) (n int, err error) {
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
	n = headerSize + int(length) + trailerSize
	if len(buf) < n {
		return 0, nil
	}
	return n, nil
}

// parseFrame takes a whole frame apart and checks its MD5 before anybody looks at the body.
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

// plainFrame makes a whole frame around a body that is not a record.
func plainFrame(typ frameType, body []byte) []byte {
	frame := appendHeader(make([]byte, 0, frameOverhead+len(body)), typ, len(body))
	return appendTrailer(append(frame, body...))
}
