package protocol

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"sync"
)

// A packed payload is
//
//	| size u32 | n u16 | the first n bytes of the payload | DEFLATE (RFC 1951) of the others |
//
// size is that of the whole payload. The first bytes hold the table, so that a request finds its queue before it is
// unpacked.
const (
	packedHead = 4 + 2
	packLeast  = 256     // bytes of a payload that is worth it
	packSample = 4 << 10 // bytes of a large one that are tried first
	packGain   = 8       // a payload is packed when that saves the n-th part of it
	mostRatio  = 1032    // bytes that a byte of DEFLATE can become
)

var (
	deflaters = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(nil, flate.BestSpeed) // the level is valid
		return w
	}}
	inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}
)

// pack returns payload packed, or nil when that does not pay. table is the length of the table's name.
func pack(payload []byte, table int) []byte {
	plain := min(len(payload), table+32)
	rest := payload[plain:]
	if len(rest) > 4*packSample {
		sample := rest[len(rest)/2:][:packSample]
		if len(deflate(nil, sample)) > packSample-packSample/packGain {
			return nil
		}
	}
	out := make([]byte, 0, packedHead+plain+len(rest)/2)
	out = binary.BigEndian.AppendUint32(out, uint32(len(payload)))
	out = binary.BigEndian.AppendUint16(out, uint16(plain))
	out = deflate(append(out, payload[:plain]...), rest)
	if len(out) > len(payload)-len(payload)/packGain {
		return nil
	}
	return out
}

func deflate(dst, b []byte) []byte {
	out := bytes.NewBuffer(dst)
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(out)
	_, _ = w.Write(b) // a buffer takes all
	_ = w.Close()
	return out.Bytes()
}

// Packed returns how many bytes Unpack makes; 0 when the payload is not packed.
func (m *Message) Packed() int {
	if m.Flags&flagPacked == 0 || len(m.Payload) < packedHead {
		return 0
	}
	return int(binary.BigEndian.Uint32(m.Payload))
}

// checkPacked checks what a packed payload says of itself.
func (m *Message) checkPacked(most int) error {
	p := m.Payload
	if len(p) < packedHead {
		return errPacked
	}
	size, plain := m.Packed(), int(binary.BigEndian.Uint16(p[4:]))
	packed := len(p) - packedHead - plain
	switch {
	case packed < 0, size < plain, size-plain > mostRatio*packed:
		return errPacked
	case size > most:
		return ErrTooLarge
	}
	return nil
}

// Unpack replaces a packed payload.
func (m *Message) Unpack() error {
	if m.Flags&flagPacked == 0 {
		return nil
	}
	if len(m.Payload) < packedHead {
		return errPacked
	}
	out := make([]byte, m.Packed())
	plain := copy(out, m.start())
	r := inflaters.Get().(io.Reader)
	defer inflaters.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(m.Payload[packedHead+plain:]), nil); err != nil {
		return errPacked
	}
	if _, err := io.ReadFull(r, out[plain:]); err != nil {
		return errPacked
	}
	if n, err := r.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return errPacked
	}
	m.Payload = out
	m.Flags &^= flagPacked
	return nil
}

// start is the part of the payload that is never packed, or all of it.
func (m *Message) start() []byte {
	if m.Flags&flagPacked == 0 || len(m.Payload) < packedHead { // the payload of a refused request is dropped
		return m.Payload
	}
	rest := m.Payload[packedHead:]
	return rest[:min(len(rest), int(binary.BigEndian.Uint16(m.Payload[4:])))]
}
