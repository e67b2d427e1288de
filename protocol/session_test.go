package protocol

import (
	"bytes"
	"crypto/rand"
	"net/netip"
	"slices"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
)

var testEpoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pair is a server session and a client that know each other's key.
type pair struct {
	server  *Server
	session *ServerSession
	client  *Client
	now     time.Time
	hello   []byte // the client's first frame
	first   []byte // its first record
}

func newPair(t testing.TB, change func(*ServerOptions, *ClientOptions)) *pair {
	t.Helper()
	p := &pair{now: testEpoch}
	clock := func() time.Time { return p.now }
	key := crypto.Key{Point: "point-01", ID: 7}
	copy(key.Secret[:], "0123456789abcdef0123456789abcdef")
	so := ServerOptions{Keys: liveKeys(key), RulesVersion: func() uint64 { return 42 }, Clock: clock, Rand: rand.Reader}
	co := ClientOptions{Point: key.Point, KeyID: key.ID, Key: key.Secret, Clock: clock, Rand: rand.Reader}
	if change != nil {
		change(&so, &co)
	}
	var err error
	if p.server, err = NewServer(so); err != nil {
		t.Fatal(err)
	}
	p.session = p.server.NewSession(netip.MustParseAddr("192.0.2.1"))
	if p.client, err = NewClient(co); err != nil {
		t.Fatal(err)
	}
	return p
}

// liveKeys are ServerOptions.Keys.
func liveKeys(keys ...crypto.Key) func(point string, id uint32) (crypto.Key, bool) {
	return func(point string, id uint32) (crypto.Key, bool) {
		i := slices.IndexFunc(keys, func(k crypto.Key) bool { return k.Point == point && k.ID == id })
		if i < 0 {
			return crypto.Key{}, false
		}
		return keys[i], true
	}
}

// greet runs the handshake and returns the server's event for the HELLO.
func (p *pair) greet(t testing.TB) Event {
	t.Helper()
	hello, err := p.client.Hello()
	if err != nil {
		t.Fatal(err)
	}
	p.hello = hello
	e, err := p.session.Receive(hello)
	if err != nil {
		t.Fatal(err)
	}
	if e.Reply != nil {
		if m, err := p.client.Receive(e.Reply); m != nil || err != nil {
			t.Fatalf("welcome: %v, %v", m, err)
		}
	}
	return e
}

// confirm sends the client's first record alone.
func (p *pair) confirm(t testing.TB) Event {
	t.Helper()
	f, err := p.client.records.append(nil, &Message{Op: OpPing, RequestID: p.client.first})
	if err != nil {
		t.Fatal(err)
	}
	p.client.confirmed, p.first = true, f
	e, err := p.session.Receive(f)
	if err != nil || !e.Established || e.Message == nil {
		t.Fatalf("%+v, %v", e, err)
	}
	return e
}

// up sends m to the server and returns the last event.
func (p *pair) up(t testing.TB, m *Message) Event {
	t.Helper()
	out, err := p.client.Seal(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	var last Event
	for len(out) > 0 {
		n, err := Split(out, p.session.MaxFrame())
		if err != nil || n == 0 {
			t.Fatalf("split: %d, %v", n, err)
		}
		if last, err = p.session.Receive(out[:n]); err != nil {
			t.Fatal(err)
		}
		out = out[n:]
	}
	return last
}

// down sends m to the client and returns the message received.
func (p *pair) down(t testing.TB, m *Message) *Message {
	t.Helper()
	var got *Message
	err := p.session.Send(m, func(frame []byte) error {
		n, err := Split(frame, p.client.MaxFrame())
		if err != nil || n != len(frame) {
			t.Fatalf("split: %d of %d, %v", n, len(frame), err)
		}
		got, err = p.client.Receive(bytes.Clone(frame))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSession(t *testing.T) {
	p := newPair(t, nil)
	e := p.greet(t)
	if e.Reply == nil || e.Established || p.session.MaxFrame() != HandshakeMax {
		t.Fatalf("after hello: %+v, max frame %d", e, p.session.MaxFrame())
	}
	w := p.client.Welcome()
	want := Welcome{Version, DefaultMaxFrame, 16, time.Minute, testEpoch.UnixMilli(), "syncgate", 42, terms{}}
	if w != want {
		t.Fatalf("welcome %+v, want %+v", w, want)
	}
	up := &UploadRequest{Confirmed: 3, Table: "t",
		Rows: rowset.Rows{Columns: []string{"a", "b"}, Values: []any{int64(1), "x", nil, []byte{0xff}}}}
	e = p.up(t, &Message{Op: OpUpload, RequestID: MakeRequestID(9, 4), Body: up})
	if p.session.Point() != "point-01" || p.session.KeyID() != 7 || p.session.MaxFrame() != DefaultMaxFrame ||
		p.session.Software() != "syncgate-agent" {
		t.Fatalf("session is %q %d %d", p.session.Point(), p.session.KeyID(), p.session.MaxFrame())
	}
	got, err := e.Message.UploadRequest()
	if err != nil || got.Table != "t" || got.Confirmed != 3 || got.Rows.Len() != 2 || got.Rows.Row(1)[0] != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	reply := p.down(t, e.Message.Reply(StatusOK, &UploadReply{Applied: 2, ByOp: map[string]uint64{"insert": 2}}))
	if r, err := reply.UploadReply(); err != nil || r.Applied != 2 || r.ByOp["insert"] != 2 ||
		reply.RequestID != MakeRequestID(9, 4) {
		t.Fatalf("%+v, %v", r, err)
	}
	var enc RowEncoder
	if err := enc.Begin(0, []rowset.Column{{Name: "a", Type: "INT"}}); err != nil {
		t.Fatal(err)
	}
	if err := enc.Append([]any{int64(5)}); err != nil {
		t.Fatal(err)
	}
	part, err := enc.Part(MakeRequestID(9, 5), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := p.down(t, part).DownloadReply(); err != nil || r.Rows().Len() != 1 || r.Values[0] != int64(5) {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := p.session.Receive(e.Reply); err == nil {
		t.Fatal("took an empty frame")
	}
}
