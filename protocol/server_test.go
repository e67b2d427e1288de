package protocol

import (
	"bytes"
	"crypto/md5"
	"errors"
	"io"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/flynn/noise"

	"syncgate/crypto"
)

// countingDH counts elliptic-curve work.
type countingDH struct {
	noise.DHFunc
	n int
}

func (c *countingDH) GenerateKeypair(r io.Reader) (noise.DHKey, error) {
	c.n++
	return c.DHFunc.GenerateKeypair(r)
}

func (c *countingDH) DH(private, public []byte) ([]byte, error) {
	c.n++
	return c.DHFunc.DH(private, public)
}

// refresh gives a changed frame the right MD5.
func refresh(frame []byte) []byte {
	end := len(frame) - trailerSize
	sum := md5.Sum(frame[:end])
	return append(frame[:end:end], sum[:]...)
}

// badHellos are wrong hellos that must all look the same from outside. They are also in testdata.
var badHellos = []struct {
	name, about string
	client      func(*ClientOptions)
	hello       func([]byte) []byte
}{
	{"wrong-key", "the secret differs in one bit", func(c *ClientOptions) { c.Key[31] ^= 1 }, nil},
	{"unknown-point", "no such point", func(c *ClientOptions) { c.Point = "point-99" }, nil},
	{"revoked-key", "the point is known, this key id is not (never made, or revoked)",
		func(c *ClientOptions) { c.KeyID = 6 }, nil},
	{"zero-key-unknown-point", "no such point, and a secret of 32 zero bytes",
		func(c *ClientOptions) { c.Point, c.Key = "point-99", [32]byte{} }, nil},
	{"tampered-point", "point_no changed on the way to another known point", nil,
		func(f []byte) []byte { f[20] = '2'; return refresh(f) }},
	{"tampered-key-id", "key_id changed on the way to another live one", nil,
		func(f []byte) []byte { f[24] = 8; return refresh(f) }},
	{"tampered-ephemeral", "the ephemeral public key changed on the way", nil,
		func(f []byte) []byte { f[30] ^= 1; return refresh(f) }},
	{"tampered-payload", "the sealed payload changed on the way", nil,
		func(f []byte) []byte { f[60] ^= 1; return refresh(f) }},
	{"damaged", "a byte changed on the way and the MD5 not", nil, func(f []byte) []byte { f[60] ^= 1; return f }},
	{"empty-point", "idlen 0", nil, func(f []byte) []byte { f[12] = 0; return refresh(f) }},
	{"long-point", "idlen 65", nil, func(f []byte) []byte { f[12] = 65; return refresh(f) }},
	{"past-end-point", "idlen 255, more than the body has", nil,
		func(f []byte) []byte { f[12] = 255; return refresh(f) }},
	{"bad-utf8-point", "point_no is not UTF-8", nil, func(f []byte) []byte { f[13] = 0xff; return refresh(f) }},
	{"short", "the body ends within the ephemeral key", nil,
		func(f []byte) []byte { return plainFrame(frameHello, f[12:40]) }},
	{"empty", "no body", nil, func([]byte) []byte { return plainFrame(frameHello, nil) }},
}

func TestBadHellosLookTheSame(t *testing.T) {
	for _, c := range badHellos {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, func(_ *ServerOptions, o *ClientOptions) {
				if c.client != nil {
					c.client(o)
				}
			})
			dh := &countingDH{DHFunc: noise.DH25519}
			p.server.dh = dh
			hello, err := p.client.Hello()
			if err != nil {
				t.Fatal(err)
			}
			if c.hello != nil {
				hello = c.hello(hello)
			}
			e, err := p.session.Receive(hello)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(e.Reject, rejectFrame(StatusRejected, 0)) || e.RejectAfter != 200*time.Millisecond ||
				e.Reply != nil || e.Established || e.Message != nil || p.session.Point() != "" {
				t.Errorf("%+v", e)
			}
			if StatusOf(p.session.Cause()) == StatusOK {
				t.Error("nothing for the log")
			}
			if dh.n != 0 {
				t.Errorf("%d elliptic-curve operations", dh.n)
			}
			if _, err := p.session.Receive(hello); !errors.Is(err, errUnexpected) {
				t.Errorf("a second try on the same connection: %v", err)
			}
			if err := p.session.Send(&Message{Op: OpPing}, nil); !errors.Is(err, errState) {
				t.Errorf("sent a record without a session: %v", err)
			}
		})
	}
	p := newPair(t, nil)
	dh := &countingDH{DHFunc: noise.DH25519}
	p.server.dh = dh
	if e := p.greet(t); e.Reply == nil || dh.n != 2 || p.session.Cause() != nil {
		t.Errorf("a right hello: %+v, %d operations", e, dh.n)
	}
}

// Without a key for the point the server does the same work with a random key.
func TestUnknownPointCostsTheSame(t *testing.T) {
	allocs := func(change func(*ClientOptions)) float64 {
		p := newPair(t, func(s *ServerOptions, c *ClientOptions) {
			s.Handshakes = 1_000_000
			change(c)
		})
		hello, err := p.client.Hello()
		if err != nil {
			t.Fatal(err)
		}
		return testing.AllocsPerRun(50, func() {
			if e, err := p.server.NewSession(netip.IPv4Unspecified()).Receive(hello); err != nil || e.Reject == nil {
				t.Fatal(e, err)
			}
		})
	}
	wrong := allocs(func(c *ClientOptions) { c.Key[0]++ })
	unknown := allocs(func(c *ClientOptions) { c.Point = "point-99" })
	if math.Abs(wrong-unknown) > 2 { // pools keep less under -race
		t.Errorf("wrong key %v allocations, unknown point %v", wrong, unknown)
	}
}

func TestTwoLiveKeys(t *testing.T) {
	old := crypto.Key{Point: "point-01", ID: 7, Secret: [32]byte{1}}
	fresh := crypto.Key{Point: "point-01", ID: 8, Secret: [32]byte{2}}
	var live []crypto.Key
	try := func(k crypto.Key) bool {
		p := newPair(t, func(s *ServerOptions, c *ClientOptions) {
			s.Keys, c.KeyID, c.Key = liveKeys(live...), k.ID, k.Secret
		})
		e := p.greet(t)
		return e.Reply != nil && p.session.KeyID() == k.ID
	}
	for _, step := range []struct {
		live       []crypto.Key
		old, fresh bool
	}{
		{[]crypto.Key{old}, true, false},
		{[]crypto.Key{old, fresh}, true, true},
		{[]crypto.Key{fresh}, false, true},
	} {
		live = step.live
		if a, b := try(old), try(fresh); a != step.old || b != step.fresh {
			t.Errorf("%d live: old %v, new %v", len(step.live), a, b)
		}
	}
}

func TestRateLimit(t *testing.T) {
	p := newPair(t, func(s *ServerOptions, _ *ClientOptions) {
		s.Handshakes = 10
	})
	hello, err := p.client.Hello()
	if err != nil {
		t.Fatal(err)
	}
	from := func(a string) Event {
		e, err := p.server.NewSession(netip.MustParseAddr(a)).Receive(hello)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	busy := func(e Event, atLeast, atMost time.Duration) {
		t.Helper()
		if e.Reject == nil || e.RejectAfter != 0 {
			t.Fatalf("not busy: %+v", e)
		}
		_, body, err := parseFrame(e.Reject)
		if err != nil {
			t.Fatal(err)
		}
		var r *RejectError
		if err := parseReject(body); !errors.As(err, &r) || r.Status != StatusBusy || r.RetryAfter < atLeast ||
			r.RetryAfter > atMost {
			t.Fatal(err)
		}
	}
	for range 2 {
		if e := from("2001:db8::1"); e.Reply == nil {
			t.Fatalf("%+v", e)
		}
	}
	busy(from("2001:db8::2"), time.Second, time.Second) // the same /64
	p.now = p.now.Add(time.Second)
	if e := from("2001:db8::3"); e.Reply == nil {
		t.Fatalf("after a second: %+v", e)
	}
	// The first address does not delay another. All together use up the total burst. Sources may share a bucket, so
	// the test uses many.
	var last Event
	for i := range 64 {
		if last = from(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()); last.Reject != nil {
			break
		}
	}
	busy(last, time.Millisecond, time.Second)
}

func TestVersion(t *testing.T) {
	for _, c := range []struct {
		min, max uint64
		ok       bool
	}{{2, 2, true}, {1, 2, true}, {2, 9, true}, {3, 9, false}, {0, 1, false}} {
		p := newPair(t, nil)
		e, err := p.session.Receive(helloFrame(t, p, hello{c.min, c.max, "x", testEpoch.UnixMilli(), terms{}}))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.ok && e.Reply == nil:
			t.Errorf("%+v refused: %+v", c, e)
		case !c.ok && !bytes.Equal(e.Reject, rejectFrame(StatusVersionUnsupported, 0)):
			t.Errorf("%+v: %+v", c, e)
		}
	}
}

// helloFrame makes a HELLO with payload h under the pair's key.
func helloFrame(t testing.TB, p *pair, payload hello) []byte {
	t.Helper()
	b, err := encode(nil, &payload)
	if err != nil {
		t.Fatal(err)
	}
	return helloFrameRaw(t, p, b)
}

func helloFrameRaw(t testing.TB, p *pair, payload []byte) []byte {
	t.Helper()
	o := p.client.opts
	key := crypto.Key{Point: o.Point, ID: o.KeyID, Secret: o.Key}
	state, err := noise.NewHandshakeState(noiseConfig(noise.DH25519, o.Rand, true, key))
	if err != nil {
		t.Fatal(err)
	}
	body, _, _, err := state.WriteMessage(appendName(nil, key.Point, key.ID), payload)
	if err != nil {
		t.Fatal(err)
	}
	p.client.state = state
	return plainFrame(frameHello, body)
}

// A replayed HELLO gets a WELCOME and nothing more: the limits of unestablished connections stay.
func TestReplayedHelloIsNotEstablished(t *testing.T) {
	p := newPair(t, nil)
	p.greet(t)
	thief := p.server.NewSession(netip.MustParseAddr("198.51.100.1"))
	e, err := thief.Receive(p.hello)
	if err != nil || e.Reply == nil || e.Established {
		t.Fatalf("%+v, %v", e, err)
	}
	if thief.MaxFrame() != HandshakeMax {
		t.Error("a replayed hello raises the frame limit")
	}
	if _, err := thief.Receive(p.must(&Message{Op: OpPing, RequestID: MakeRequestID(1, 1)})); err == nil {
		t.Error("a record for another session opened")
	}
}

func TestServerPing(t *testing.T) {
	p := newPair(t, nil)
	p.greet(t)
	ping := p.down(t, p.session.Ping())
	if ping == nil || ping.Op != OpPing || ping.RequestID != MakeRequestID(0, 1) {
		t.Fatalf("%+v", ping)
	}
	if e := p.up(t, &Message{Op: OpPing, RequestID: ping.RequestID}); e.Message != nil {
		t.Fatalf("the answer to the server's own ping is a request: %+v", e)
	}
	if _, err := p.client.Seal(nil, &Message{Op: OpUpload}); !errors.Is(err, errRequestID) {
		t.Errorf("a client took an id of the server's: %v", err)
	}
}

func TestExpired(t *testing.T) {
	p := newPair(t, nil)
	if p.session.Expired(p.now) || p.client.Expired(p.now) {
		t.Error("expired before it began")
	}
	p.greet(t)
	just := p.now.Add(SessionLifetime - 1)
	if p.session.Expired(just) || p.client.Expired(just) {
		t.Error("expired within the hour")
	}
	if end := p.now.Add(SessionLifetime); !p.session.Expired(end) || !p.client.Expired(end) {
		t.Error("not expired after an hour")
	}
}

func TestServerOptions(t *testing.T) {
	good := ServerOptions{Keys: liveKeys(),
		RulesVersion: func() uint64 { return 0 }, Clock: time.Now, Rand: bytes.NewReader(make([]byte, 32))}
	for name, change := range map[string]func(*ServerOptions){
		"no keys":          func(o *ServerOptions) { o.Keys = nil },
		"no rules version": func(o *ServerOptions) { o.RulesVersion = nil },
		"no clock":         func(o *ServerOptions) { o.Clock = nil },
		"no rand":          func(o *ServerOptions) { o.Rand = nil },
		"rand at its end":  func(o *ServerOptions) { o.Rand = bytes.NewReader(nil) },
		"max frame small":  func(o *ServerOptions) { o.MaxFrame = minMaxFrame - 1 },
		"max frame large":  func(o *ServerOptions) { o.MaxFrame = HardMaxFrame + 1 },
		"in flight":        func(o *ServerOptions) { o.MaxInFlight = 65536 },
		"negative":         func(o *ServerOptions) { o.MaxInFlight = -1 },
		"keepalive":        func(o *ServerOptions) { o.Keepalive = time.Millisecond },
		"handshakes":       func(o *ServerOptions) { o.Handshakes = -1 },
		"long id":          func(o *ServerOptions) { o.ServerID = string(make([]byte, 65)) },
		"id is not UTF-8":  func(o *ServerOptions) { o.ServerID = "\xff" },
	} {
		o := good
		change(&o)
		if _, err := NewServer(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
