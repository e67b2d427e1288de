package protocol

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"syncgate/crypto"
)

// badRecords are wrong records after a good handshake. They are also in testdata.
var badRecords = []struct {
	name, about string
	send        func(p *pair) []byte // the frame to be refused
	err         error
}{
	{"tampered-record", "a byte of the sealed record changed on the way", func(p *pair) []byte {
		f := p.must(&Message{Op: OpPing, RequestID: MakeRequestID(1, 1)})
		f[40] ^= 1
		return refresh(f)
	}, errRecord},
	{"damaged-record", "a byte changed on the way and the MD5 not", func(p *pair) []byte {
		f := p.must(&Message{Op: OpPing, RequestID: MakeRequestID(1, 1)})
		f[40] ^= 1
		return f
	}, errMD5},
	{"dropped-record", "the record before this one never came", func(p *pair) []byte {
		p.must(&Message{Op: OpPing, RequestID: MakeRequestID(1, 1)})
		return p.must(&Message{Op: OpPing, RequestID: MakeRequestID(1, 2)})
	}, errRecord},
	{"replayed-record", "the record before this one, once more", func(p *pair) []byte {
		return slices.Clone(p.first)
	}, errRecord},
	{"second-hello", "a HELLO in an established session", func(p *pair) []byte { return p.hello }, errUnexpected},
	{"reject-from-client", "a client sends REJECT", func(*pair) []byte { return rejectFrame(StatusBusy, 0) },
		errUnexpected},
	{"short-record", "a record with 19 bytes of plaintext", func(p *pair) []byte {
		return p.raw(make([]byte, envelopeSize-1))
	}, errEnvelope},
	{"empty-record", "a DATA frame without a body", func(*pair) []byte { return plainFrame(frameData, nil) },
		errEnvelope},
	{"envelope-flags", "bit 1 of the envelope's flags", func(p *pair) []byte {
		return p.raw(append([]byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 8)...))
	}, errEnvelope},
	{"more-from-client", "FlagMore in a request", func(p *pair) []byte {
		return p.must(&Message{Op: OpPing, Flags: FlagMore, RequestID: MakeRequestID(1, 1)})
	}, errEnvelope},
	{"status-from-client", "a status in a request", func(p *pair) []byte {
		return p.must(&Message{Op: OpPing, Status: StatusBusy, RequestID: MakeRequestID(1, 1)})
	}, errEnvelope},
	{"epoch-0", "a request under an id of the server's", func(p *pair) []byte {
		return p.raw(append([]byte{byte(OpRules)}, make([]byte, 19)...))
	}, errEnvelope},
}

// must seals m as the client.
func (p *pair) must(m *Message) []byte {
	out, err := p.client.Seal(nil, m)
	if err != nil {
		panic(err)
	}
	return out
}

// raw seals any plaintext as the client.
func (p *pair) raw(plain []byte) []byte {
	f := make([]byte, headerSize, headerSize+len(plain)+crypto.Overhead+trailerSize)
	appendHeader(f[:0], frameData, len(plain)+crypto.Overhead)
	f, err := p.client.records.send.Seal(f, f[:headerSize], plain)
	if err != nil {
		panic(err)
	}
	return appendTrailer(f)
}

func TestBadRecords(t *testing.T) {
	for _, c := range badRecords {
		p := newPair(t, nil)
		p.greet(t)
		p.confirm(t)
		if e, err := p.session.Receive(c.send(p)); !errors.Is(err, c.err) || e.Message != nil || e.Reply != nil ||
			e.Reject != nil {
			t.Errorf("%s: %+v, %v; want %v", c.name, e, err, c.err)
		}
		if errors.Is(c.err, errRecord) {
			if _, err := p.session.Receive(p.must(&Message{Op: OpPing, RequestID: MakeRequestID(1, 3)})); err == nil {
				t.Errorf("%s: the session went on", c.name)
			}
		}
	}
}

// A session has its records, then the reserve for replies in flight, and then no more.
func TestRecordLimit(t *testing.T) {
	c := crypto.NewCipher([32]byte{}, recordLimit)
	r := records{send: c, recv: c, max: DefaultMaxFrame, expires: testEpoch.Add(time.Hour)}
	box := make([]byte, 0, 16)
	for i := range uint64(recordLimit) {
		if at := i == sessionRecords-1 || i == sessionRecords; at && r.expired(testEpoch) != (i == sessionRecords) {
			t.Fatalf("after %d records: expired is %v", i, r.expired(testEpoch))
		}
		if _, err := c.Seal(box, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	m := Message{Op: OpPing}
	plain, err := m.plaintext(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.seal(plain, 0, &m); !errors.Is(err, ErrExpired) {
		t.Errorf("record over the limit: %v", err)
	}
}

// Frames of many senders leave in the order of their counters.
func TestConcurrentSend(t *testing.T) {
	p := newPair(t, nil)
	p.greet(t)
	const senders, each = 8, 50
	var wire [][]byte
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range each {
				m := &Message{Op: OpPing, RequestID: MakeRequestID(uint64(g+1), uint64(i)),
					Body: &PingReply{RulesVersion: uint64(i)}}
				if err := p.session.Send(m,
					func(f []byte) error { wire = append(wire, bytes.Clone(f)); return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(wire) != senders*each {
		t.Fatalf("%d frames", len(wire))
	}
	for i, f := range wire {
		if _, err := p.client.Receive(f); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
}

func TestSendTooLarge(t *testing.T) {
	p := newPair(t, func(s *ServerOptions, _ *ClientOptions) { s.MaxFrame = minMaxFrame })
	p.greet(t)
	write := func([]byte) error { return nil }
	if err := p.session.Send(&Message{Payload: make([]byte, minMaxFrame-RecordOverhead+1)}, write); !errors.Is(err,
		ErrTooLarge) {
		t.Error(err)
	}
	if n := p.client.MaxFrame(); n != minMaxFrame {
		t.Error(n)
	}
	if m := p.down(t, &Message{Op: OpRules, RequestID: MakeRequestID(1, 1),
		Payload: make([]byte, minMaxFrame-RecordOverhead)}); m == nil {
		t.Error("the largest payload did not arrive")
	}
}
