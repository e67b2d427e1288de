package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"syncgate/crypto"
)

// vector is a file of testdata: a connection from its first byte, made from known keys, both directions in order.
type vector struct {
	About     string       `json:"about"`
	Server    vectorServer `json:"server"`
	Client    vectorClient `json:"client"`
	Handshake *transcript  `json:"handshake,omitempty"`
	Steps     []vectorStep `json:"steps"`
}

type vectorServer struct {
	Keys         []vectorKey `json:"keys"`
	Ephemeral    string      `json:"ephemeral_private"`
	ServerID     string      `json:"server_id"`
	MaxFrame     int         `json:"max_frame"`
	MaxInFlight  int         `json:"max_in_flight"`
	KeepaliveS   int         `json:"keepalive_s"`
	RulesVersion uint64      `json:"rules_version"`
	ClockMs      int64       `json:"clock_ms"`
	Before       int         `json:"hellos_before"` // from the same address just before; the server accepts 100
}

type vectorKey struct {
	Point  string `json:"point_no"`
	ID     uint32 `json:"key_id"`
	Secret string `json:"secret"`
}

type vectorClient struct {
	vectorKey
	Ephemeral string `json:"ephemeral_private"`
	Epoch     string `json:"epoch"` // of the ids that the client makes
	Software  string `json:"software"`
	ClockMs   int64  `json:"clock_ms"`
}

// vectorStep is a frame and its outcome at the receiver. Message describes a record of a correct sender. A frame
// without Message is a HELLO, a WELCOME or a REJECT, or one that no correct sender makes.
type vectorStep struct {
	From          string         `json:"from"` // client or server
	About         string         `json:"about"`
	Frame         string         `json:"frame"`
	Message       *vectorMessage `json:"message,omitempty"`
	Outcome       string         `json:"outcome"`         // at the receiver, see outcomes
	Status        Status         `json:"status"`          // of the error, or of the REJECT
	RetryAfterMs  int64          `json:"retry_after_ms"`  // of the REJECT
	RejectAfterMs int64          `json:"reject_after_ms"` // the server waits so long before it sends REJECT
}

type vectorMessage struct {
	Op        Op     `json:"op"`
	Flags     uint8  `json:"flags"`
	Status    Status `json:"status"`
	RequestID string `json:"request_id"`
	Payload   string `json:"payload"`
	Text      string `json:"payload_diagnostic,omitempty"` // RFC 8949, section 8
}

// The outcomes of a frame at its receiver.
const (
	outcomeWelcome  = "welcome"  // server: sends the WELCOME that is the next step
	outcomeReject   = "reject"   // server: sends the REJECT that is the next step, then closes
	outcomeRequest  = "request"  // server: a request to be answered
	outcomeAnswer   = "answer"   // server: an answer to its own PING; nothing more to do
	outcomeGranted  = "granted"  // client: the session is there
	outcomeReply    = "reply"    // client: a reply, or a message of the server's own
	outcomeOwn      = "own"      // client: the answer to its first PING; nothing more to do
	outcomeRejected = "rejected" // client: closes and waits for retry-after
	outcomeClose    = "close"    // either: closes at once and sends nothing
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (k vectorKey) key(t testing.TB) crypto.Key {
	return crypto.Key{Point: k.Point, ID: k.ID, Secret: [32]byte(unhex(t, k.Secret))}
}

// pair makes both sides from the file.
func (v *vector) pair(t testing.TB) *pair {
	t.Helper()
	p := &pair{}
	var keys []crypto.Key
	for _, k := range v.Server.Keys {
		keys = append(keys, k.key(t))
	}
	var err error
	p.server, err = NewServer(ServerOptions{
		Keys: liveKeys(keys...), RulesVersion: func() uint64 { return v.Server.RulesVersion },
		Clock: func() time.Time { return time.UnixMilli(v.Server.ClockMs) },
		Rand: bytes.NewReader(append(bytes.Repeat([]byte{0xdd}, 32),
			bytes.Repeat(unhex(t, v.Server.Ephemeral), 4)...)),
		ServerID: v.Server.ServerID, MaxFrame: v.Server.MaxFrame, MaxInFlight: v.Server.MaxInFlight,
		Keepalive: time.Duration(v.Server.KeepaliveS) * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	source := netip.MustParseAddr("192.0.2.1")
	for range v.Server.Before {
		p.server.limiter.source(source, p.server.opts.Clock())
	}
	p.session = p.server.NewSession(source)
	p.client, err = NewClient(ClientOptions{
		Point: v.Client.Point, KeyID: v.Client.ID, Key: v.Client.key(t).Secret, Software: v.Client.Software,
		Clock: func() time.Time { return time.UnixMilli(v.Client.ClockMs) },
		Rand:  bytes.NewReader(append(unhex(t, v.Client.Ephemeral), unhex(t, v.Client.Epoch)...)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (m *vectorMessage) message(t testing.TB) *Message {
	return &Message{Op: m.Op, Flags: m.Flags, Status: m.Status, RequestID: RequestID(unhex(t, m.RequestID)),
		Payload: unhex(t, m.Payload)}
}

// atServer passes a frame to the server and returns its event and outcome.
func (p *pair) atServer(frame []byte) (Event, vectorStep) {
	n, err := Split(frame, p.session.MaxFrame())
	var e Event
	if err == nil && n != len(frame) {
		err = errFrame
	}
	if err == nil {
		e, err = p.session.Receive(frame)
	}
	got := vectorStep{Status: StatusOf(err)}
	switch {
	case err != nil:
		got.Outcome = outcomeClose
	case e.Reject != nil:
		got.Outcome, got.RejectAfterMs = outcomeReject, e.RejectAfter.Milliseconds()
	case e.Reply != nil:
		got.Outcome = outcomeWelcome
	case e.Message != nil:
		got.Outcome = outcomeRequest
	default:
		got.Outcome = outcomeAnswer
	}
	return e, got
}

// atClient passes a frame to the client and returns its message and outcome.
func (p *pair) atClient(frame []byte) (*Message, vectorStep) {
	n, err := Split(frame, p.client.MaxFrame())
	if err == nil && n != len(frame) {
		err = errFrame
	}
	var m *Message
	granted := p.client.records != nil
	if err == nil {
		m, err = p.client.Receive(frame)
	}
	got := vectorStep{Status: StatusOf(err)}
	var r *RejectError
	switch {
	case errors.As(err, &r):
		got.Outcome, got.RetryAfterMs = outcomeRejected, r.RetryAfter.Milliseconds()
	case err != nil:
		got.Outcome = outcomeClose
	case m != nil:
		got.Outcome = outcomeReply
	case !granted:
		got.Outcome = outcomeGranted
	default:
		got.Outcome = outcomeOwn
	}
	return m, got
}

// replay compares both sides with the file: the bytes that each makes, and its outcome for the other's.
func (v *vector) replay(t *testing.T) {
	p := v.pair(t)
	hello, err := p.client.Hello()
	if err != nil {
		t.Fatal(err)
	}
	var e Event
	p.client.confirmed = true // the files spell out the client's first PING
	for i, step := range v.Steps {
		frame := unhex(t, step.Frame)
		var got vectorStep
		var m *Message
		if step.From == "client" {
			if step.Message != nil {
				made, err := p.client.Seal(nil, step.Message.message(t))
				if err != nil || !bytes.Equal(made, frame) {
					t.Fatalf("step %d: the client makes %x, %v", i, made, err)
				}
			} else if i == 0 && v.Handshake != nil && !bytes.Equal(hello, frame) {
				t.Fatalf("the client's hello is %x", hello)
			}
			e, got = p.atServer(frame)
			m = e.Message
		} else {
			switch {
			case step.Message != nil:
				if err := p.session.Send(step.Message.message(t), func(made []byte) error {
					if !bytes.Equal(made, frame) {
						t.Errorf("step %d: the server makes %x", i, made)
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			case step.Outcome == outcomeGranted && !bytes.Equal(e.Reply, frame), step.Outcome == outcomeRejected &&
				!bytes.Equal(e.Reject, frame):
				t.Fatalf("step %d: the server sends %x%x", i, e.Reply, e.Reject)
			}
			m, got = p.atClient(frame)
		}
		if got.Outcome != step.Outcome || got.Status != step.Status || got.RetryAfterMs != step.RetryAfterMs ||
			got.RejectAfterMs != step.RejectAfterMs {
			t.Errorf("step %d, %s: %+v", i, step.About, got)
		}
		if m != nil && step.Message != nil {
			want := step.Message.message(t)
			if m.Op != want.Op || m.Flags != want.Flags || m.Status != want.Status || m.RequestID != want.RequestID ||
				!bytes.Equal(m.Payload, want.Payload) {
				t.Errorf("step %d: %+v arrived as %+v", i, want, m)
			}
		}
	}
}

// payloadVector is a file of testdata/payload: one payload, good or bad.
type payloadVector struct {
	About   string `json:"about"`
	Type    string `json:"type"` // the payload to read
	Payload string `json:"payload"`
	Text    string `json:"payload_diagnostic,omitempty"`
	Status  Status `json:"status"` // 0: valid
}

func TestVectors(t *testing.T) {
	for _, name := range vectorFiles(t, "testdata/session-*.json", "testdata/refused-*.json",
		"testdata/malformed-*.json") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			var v vector
			readJSON(t, name, &v)
			if len(v.Steps) == 0 {
				t.Fatal("no steps")
			}
			v.replay(t)
			if v.Handshake != nil {
				v.checkTranscript(t)
			}
		})
	}
}

func TestPayloadVectors(t *testing.T) {
	readers := map[string]func(*Message) (any, error){}
	for _, b := range bodies {
		readers[typeName(b.body)] = b.read
	}
	for _, name := range vectorFiles(t, "testdata/payload/*.json") {
		var v payloadVector
		readJSON(t, name, &v)
		read, ok := readers[v.Type]
		if !ok {
			t.Fatalf("%s: what is %q?", name, v.Type)
		}
		payload := unhex(t, v.Payload)
		body, err := read(&Message{Payload: payload})
		if StatusOf(err) != v.Status {
			t.Errorf("%s: %v, want status %s", name, err, v.Status)
		}
		if err != nil {
			continue
		}
		if again, err := AppendPayload(nil, body); err != nil || !bytes.Equal(again, payload) {
			t.Errorf("%s: written again %x, %v", name, again, err)
		}
	}
}

func vectorFiles(t *testing.T, patterns ...string) []string {
	t.Helper()
	var names []string
	for _, p := range patterns {
		found, err := filepath.Glob(filepath.FromSlash(p))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %d files, %v", p, len(found), err)
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	return names
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// checkTranscript computes the handshake again from the file's secrets and payloads, without this package.
func (v *vector) checkTranscript(t *testing.T) {
	t.Helper()
	body := func(step int) []byte {
		f := unhex(t, v.Steps[step].Frame)
		return f[headerSize : len(f)-trailerSize]
	}
	steps := v.Handshake.Steps
	again := newTranscript(t, unhex(t, steps[1].Input), unhex(t, v.Client.Secret), unhex(t, v.Client.Ephemeral),
		unhex(t, v.Server.Ephemeral), unhex(t, steps[4].Input), unhex(t, steps[7].Input))
	a, _ := json.Marshal(again)
	b, _ := json.Marshal(v.Handshake)
	if !bytes.Equal(a, b) {
		t.Errorf("the handshake worked out again is %s", a)
	}
	head := appendName(nil, v.Client.Point, v.Client.ID)
	if want := append(head, unhex(t, steps[3].Sent+steps[4].Sent)...); !bytes.Equal(body(0), want) {
		t.Errorf("HELLO should be %x", want)
	}
	if want := unhex(t, steps[5].Sent+steps[7].Sent); !bytes.Equal(body(1), want) {
		t.Errorf("WELCOME should be %x", want)
	}
}
