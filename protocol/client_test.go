package protocol

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"
)

// badWelcomes are answers to a HELLO that a client must refuse. They are also in testdata.
var badWelcomes = []struct {
	name, about string
	frame       func(p *pair, welcome []byte) []byte
}{
	{"tampered-welcome", "a byte of the WELCOME changed on the way",
		func(_ *pair, f []byte) []byte { f[50] ^= 1; return refresh(f) }},
	{"short-welcome", "a WELCOME of 47 bytes",
		func(_ *pair, f []byte) []byte { return plainFrame(frameWelcome, f[12:59]) }},
	{"long-reject", "a REJECT of 7 bytes",
		func(*pair, []byte) []byte { return plainFrame(frameReject, make([]byte, 7)) }},
	{"hello-to-client", "a HELLO as answer", func(p *pair, _ []byte) []byte { return p.hello }},
	{"data-before-welcome", "a DATA frame as answer",
		func(*pair, []byte) []byte { return plainFrame(frameData, make([]byte, 40)) }},
}

// badReplies are frames that a client with a session must refuse. They are also in testdata.
var badReplies = []struct {
	name, about string
	send        func(t testing.TB, p *pair) []byte
}{
	{"tampered-reply", "a byte of the sealed record changed on the way", func(t testing.TB, p *pair) []byte {
		f := p.reply(t, &Message{Op: OpPing, RequestID: MakeRequestID(1, 1)})
		f[40] ^= 1
		return refresh(f)
	}},
	{"damaged-reply", "a byte changed on the way and the MD5 not", func(t testing.TB, p *pair) []byte {
		f := p.reply(t, &Message{Op: OpPing, RequestID: MakeRequestID(1, 1)})
		f[40] ^= 1
		return f
	}},
	{"dropped-reply", "the record before this one never came", func(t testing.TB, p *pair) []byte {
		p.reply(t, &Message{Op: OpPing, RequestID: MakeRequestID(1, 1)})
		return p.reply(t, &Message{Op: OpPing, RequestID: MakeRequestID(1, 2)})
	}},
	{"reflected-record", "the client's own record sent back to it", func(_ testing.TB, p *pair) []byte {
		return bytes.Clone(p.first)
	}},
	{"reply-flags", "bit 1 of the envelope's flags", func(t testing.TB, p *pair) []byte {
		return p.reply(t, &Message{Op: OpPing, Flags: 2, RequestID: MakeRequestID(1, 1)})
	}},
	{"second-welcome", "a WELCOME in a session", func(testing.TB, *pair) []byte {
		return plainFrame(frameWelcome, make([]byte, 48))
	}},
	{"late-reject", "a REJECT in a session", func(testing.TB, *pair) []byte { return rejectFrame(StatusBusy, 0) }},
}

// reply seals m as the server.
func (p *pair) reply(t testing.TB, m *Message) []byte {
	t.Helper()
	var out []byte
	if err := p.session.Send(m, func(f []byte) error { out = bytes.Clone(f); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// welcomeFrame runs the handshake up to the WELCOME, which the client has not seen.
func (p *pair) welcomeFrame(t testing.TB) []byte {
	t.Helper()
	var err error
	if p.hello, err = p.client.Hello(); err != nil {
		t.Fatal(err)
	}
	e, err := p.session.Receive(p.hello)
	if err != nil || e.Reply == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	return e.Reply
}

func TestWelcomeBounds(t *testing.T) {
	good := Welcome{Version, DefaultMaxFrame, 32, 30 * time.Second, testEpoch.UnixMilli(), "x", 1, terms{}}
	for name, change := range map[string]func(*Welcome){
		"version":        func(w *Welcome) { w.Version = 3 },
		"small frame":    func(w *Welcome) { w.MaxFrame = minMaxFrame - 1 },
		"large frame":    func(w *Welcome) { w.MaxFrame = HardMaxFrame + 1 },
		"none in flight": func(w *Welcome) { w.MaxInFlight = 0 },
		"keepalive":      func(w *Welcome) { w.Keepalive = 0 },
	} {
		w := good
		change(&w)
		b, err := encode(nil, &w)
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(b, new(Welcome)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestClientOptions(t *testing.T) {
	good := ClientOptions{Point: "p", Clock: time.Now, Rand: rand.Reader}
	for name, change := range map[string]func(*ClientOptions){
		"no point":      func(o *ClientOptions) { o.Point = "" },
		"long point":    func(o *ClientOptions) { o.Point = string(bytes.Repeat([]byte("p"), 65)) },
		"not UTF-8":     func(o *ClientOptions) { o.Point = "\xff" },
		"long software": func(o *ClientOptions) { o.Software = string(bytes.Repeat([]byte("s"), 65)) },
		"bad software":  func(o *ClientOptions) { o.Software = "\xff" },
		"no clock":      func(o *ClientOptions) { o.Clock = nil },
		"no rand":       func(o *ClientOptions) { o.Rand = nil },
	} {
		o := good
		change(&o)
		if _, err := NewClient(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	good.Rand = bytes.NewReader(nil)
	c, err := NewClient(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Hello(); err == nil {
		t.Error("a hello without randomness")
	}
}

func TestClientStates(t *testing.T) {
	p := newPair(t, nil)
	reject := rejectFrame(StatusBusy, 1500*time.Microsecond)
	if _, err := p.client.Receive(reject); !errors.Is(err, errUnexpected) {
		t.Errorf("before the hello: %v", err)
	}
	if _, err := p.client.Seal(nil, &Message{Op: OpPing}); !errors.Is(err, errState) {
		t.Errorf("sealed without a session: %v", err)
	}
	welcome := p.welcomeFrame(t)
	if _, err := p.client.Hello(); !errors.Is(err, errUnexpected) {
		t.Errorf("a second hello: %v", err)
	}
	var r *RejectError
	if _, err := p.client.Receive(reject); !errors.As(err, &r) || r.RetryAfter != 2*time.Millisecond ||
		StatusOf(err) != StatusBusy {
		t.Errorf("reject: %v", err)
	}
	if _, err := p.client.Receive(welcome); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string][]byte{"welcome": welcome, "reject": reject} {
		if _, err := p.client.Receive(f); !errors.Is(err, errUnexpected) {
			t.Errorf("%s in a session: %v", name, err)
		}
	}
	a, b := p.client.RequestID(), p.client.RequestID()
	if a == b || a.Epoch() == 0 || a.Epoch() != b.Epoch() {
		t.Errorf("%s, %s", a, b)
	}
}

// Receive drops the answer to the client's first PING, whatever its content.
func TestFirstPingIsTakenIn(t *testing.T) {
	p := newPair(t, nil)
	p.greet(t)
	e := p.confirm(t)
	if m := p.down(t, e.Message.Reply(StatusBusy, &ErrorReply{Message: "later", RetryAfterMs: 5})); m != nil {
		t.Errorf("%+v", m)
	}
	if m := p.down(t, &Message{Op: OpPing, RequestID: MakeRequestID(1, 1)}); m == nil {
		t.Error("another ping was taken in too")
	}
}

func FuzzHandshake(f *testing.F) {
	base := newPair(f, nil)
	welcome := base.welcomeFrame(f)
	f.Add(base.hello)
	f.Add(welcome)
	f.Add(rejectFrame(StatusBusy, time.Second))
	for _, c := range badHellos {
		if c.hello != nil {
			f.Add(c.hello(bytes.Clone(base.hello)))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p := newPair(t, nil)
		if _, err := p.client.Hello(); err != nil {
			t.Fatal(err)
		}
		for _, typ := range []frameType{frameHello, frameWelcome, frameReject, frameData} {
			frame := plainFrame(typ, body)
			if e, err := p.server.NewSession(p.session.remote).Receive(frame); err == nil && e.Reply != nil {
				t.Fatal("somebody without the key was let in")
			}
			if m, err := p.client.Receive(frame); err == nil || m != nil {
				t.Fatal("a client took what no server made")
			}
		}
		_ = decode(body, new(hello))
		_ = decode(body, new(Welcome))
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, envelopeSize))
	f.Add(append([]byte{1, 1, 0, 2}, make([]byte, 30)...))
	f.Fuzz(func(t *testing.T, plain []byte) {
		var m Message
		err := m.parseEnvelope(plain, FlagMore|flagPiece|flagHead|flagPacked)
		if err != nil || m.Flags&^FlagMore != 0 { // a session takes these apart before
			return
		}
		p := newPair(t, nil)
		p.greet(t)
		if got := p.down(t, &m); !bytes.Equal(got.Payload, plain[envelopeSize:]) || got.Op != m.Op ||
			got.Flags != m.Flags ||
			got.Status != m.Status || got.RequestID != m.RequestID {
			t.Fatalf("%+v became %+v", m, got)
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(bytes.Repeat([]byte("a table's rows "), 100), 7))
	f.Add([]byte{0, 0, 0, 9, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, payload []byte) {
		m := Message{Flags: flagPacked, Payload: payload}
		if err := m.checkPacked(DefaultMaxFrame); err != nil {
			return
		}
		size := m.Packed()
		if err := m.Unpack(); err == nil && len(m.Payload) != size {
			t.Fatalf("%d bytes, not %d", len(m.Payload), size)
		}
	})
}

// When the first message cannot be sealed, the PING leaves with the next one.
func TestFirstSealRefused(t *testing.T) {
	p := newPair(t, nil)
	p.greet(t)
	if f, err := p.client.Seal(nil, &Message{Op: OpUpload, RequestID: p.client.RequestID(),
		Payload: make([]byte, DefaultMaxFrame)}); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("%d bytes, %v", len(f), err)
	}
	stream, err := p.client.Seal(nil, &Message{Op: OpRules, RequestID: p.client.RequestID()})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Op{OpPing, OpRules} {
		n, err := Split(stream, p.session.MaxFrame())
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		if e, err := p.session.Receive(stream[:n]); err != nil || e.Message.Op != want {
			t.Fatalf("%+v, %v", e, err)
		}
		stream = stream[n:]
	}
}
