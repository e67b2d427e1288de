package protocol

import (
	"bytes"
	"errors"
	"testing"
)

func TestSplit(t *testing.T) {
	frame := plainFrame(frameData, []byte("body"))
	with := func(at int, b byte) []byte {
		f := bytes.Clone(frame)
		f[at] = b
		return f
	}
	for _, c := range []struct {
		name string
		buf  []byte
		max  int
		n    int
		err  error
	}{
		{"nothing", nil, 512, 0, nil},
		{"one byte of magic", frame[:1], 512, 0, nil},
		{"header less one", frame[:11], 512, 0, nil},
		{"header", frame[:12], 512, 0, nil},
		{"all less one", frame[:len(frame)-1], 512, 0, nil},
		{"whole", frame, 512, len(frame), nil},
		{"whole and more", append(bytes.Clone(frame), frame...), 512, len(frame), nil},
		{"body at the limit", frame, 4, len(frame), nil},
		{"body over the limit", frame[:12], 3, 0, ErrTooLarge},
		{"another protocol", []byte("G"), 512, 0, errMagic},
		{"version 1", with(3, 1), 512, 0, errMagic},
		{"magic broken late", []byte{0xc5, 'S', 0}, 512, 0, errMagic},
		{"type 0", with(4, 0), 512, 0, errHeader},
		{"type 5", with(4, 5), 512, 0, errHeader},
		{"flags", with(5, 1), 512, 0, errHeader},
		{"reserved", with(7, 1), 512, 0, errHeader},
		{"length 2^32-1", append(bytes.Clone(frame[:8]), 255, 255, 255, 255), HardMaxFrame, 0, ErrTooLarge},
		{"over the hard limit", append(bytes.Clone(frame[:8]), 1, 0, 0, 1), 1 << 30, 0, ErrTooLarge},
		{"wrong MD5 is not Split's", with(len(frame)-1, frame[len(frame)-1]^1), 512, len(frame), nil},
	} {
		n, err := Split(c.buf, c.max)
		if n != c.n || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, n, err, c.n, c.err)
		}
	}
}

func TestParseFrame(t *testing.T) {
	frame := plainFrame(frameReject, []byte("body"))
	if typ, body, err := parseFrame(frame); typ != frameReject || string(body) != "body" || err != nil {
		t.Fatal(typ, body, err)
	}
	for i := range frame {
		bad := bytes.Clone(frame)
		bad[i] ^= 0x40
		if _, _, err := parseFrame(bad); err == nil {
			t.Errorf("took a frame with byte %d changed", i)
		}
	}
	for _, bad := range [][]byte{nil, frame[:12], frame[:len(frame)-1], append(bytes.Clone(frame), 0)} {
		if _, _, err := parseFrame(bad); !errors.Is(err, errFrame) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

// frames runs Split as a connection does, with a buffer that grows by the given cuts, and returns the frames and
// whether it ended in an error.
func frames(input []byte, cuts []byte) (out [][]byte, failed bool) {
	var buf []byte
	i := 0
	for len(input) > 0 {
		step := len(input)
		if len(cuts) > 0 {
			step = min(1+int(cuts[i%len(cuts)]), len(input))
			i++
		}
		buf = append(buf, input[:step]...)
		input = input[step:]
		for {
			n, err := Split(buf, 64)
			if err != nil {
				return out, true
			}
			if n == 0 {
				break
			}
			out = append(out, bytes.Clone(buf[:n]))
			buf = buf[n:]
		}
	}
	return out, false
}

func FuzzSplit(f *testing.F) {
	one := plainFrame(frameData, []byte("body"))
	two := append(bytes.Clone(one), plainFrame(frameHello, nil)...)
	f.Add(one, []byte{0})
	f.Add(two, []byte{3, 17, 0})
	f.Add(append(two, "GET / HTTP/1.1"...), []byte{5})
	f.Add(append(bytes.Clone(one[:8]), 255, 255, 255, 255), []byte{})
	f.Fuzz(func(t *testing.T, input, cuts []byte) {
		whole, failed := frames(input, nil)
		split, failedSplit := frames(input, cuts)
		if failed != failedSplit || len(whole) != len(split) {
			t.Fatalf("%d frames, failed %v; cut: %d frames, failed %v", len(whole), failed, len(split), failedSplit)
		}
		for i := range whole {
			if !bytes.Equal(whole[i], split[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(plainFrame(frameData, []byte("body")))
	f.Add(plainFrame(frameHello, nil))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, frame []byte) {
		typ, body, err := parseFrame(frame)
		if err == nil && !bytes.Equal(plainFrame(typ, body), frame) {
			t.Fatal("two ways to write one frame")
		}
	})
}
