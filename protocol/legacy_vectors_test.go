package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
)

// legacyVector is a file of testdata/legacy; docs/protocol.md, section 22, describes its members.
type legacyVector struct {
	Key        string   `json:"key"`
	IV         string   `json:"iv"`
	TokenKey   string   `json:"token_key"`
	Now        string   `json:"now"`
	MaxPayload int      `json:"max_payload"`
	Packets    []string `json:"packets"`
	Expect     string   `json:"expect"`
	Status     string   `json:"status"`
	Word       string   `json:"word"`
	Reply      string   `json:"reply"`

	Op        string  `json:"op"`
	Table     string  `json:"table"`
	RequestID string  `json:"request_id"`
	Width     int     `json:"width"`
	Values    []any   `json:"values"`
	State     [][]any `json:"state"`
	Stateless bool    `json:"stateless"`
	Rows      struct {
		Columns, Types []string
		Values         []any
	} `json:"rows"`
}

func legacyVectors(t testing.TB) map[string]*legacyVector {
	t.Helper()
	paths, err := filepath.Glob("testdata/legacy/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	vectors := make(map[string]*legacyVector)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		v := &legacyVector{}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err := d.Decode(v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		vectors[strings.TrimSuffix(filepath.Base(path), ".json")] = v
	}
	return vectors
}

// values are SQL values as JSON writes them: bytes as {"hex": …}, a number with a point or exponent a float.
func (v *legacyVector) values(t testing.TB, in []any) []any {
	t.Helper()
	out := make([]any, len(in))
	for i, e := range in {
		var err error
		switch e := e.(type) {
		case json.Number:
			if strings.ContainsAny(e.String(), ".eE") {
				out[i], err = e.Float64()
			} else {
				out[i], err = e.Int64()
			}
		case map[string]any:
			out[i], err = hex.DecodeString(e["hex"].(string))
		default:
			out[i] = e
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (v *legacyVector) session(t testing.TB) *LegacySession {
	t.Helper()
	now, err := time.Parse("2006-01-02 15:04:05.000000", v.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, err1 := hex.DecodeString(v.Key)
	iv, err2 := hex.DecodeString(v.IV)
	l, err3 := NewLegacy(LegacyOptions{
		Key: key, IV: iv, TokenKey: v.TokenKey, Zone: time.UTC,
		Networks: []netip.Prefix{netip.MustParsePrefix("::1/128")},
		Allow:    func(point string) bool { return strings.HasPrefix(point, "point-") },
		Clock:    func() time.Time { return now },
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	s, err := l.NewSession(netip.IPv6Loopback())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// last passes all packets and returns the outcome of the last one.
func (v *legacyVector) last(t *testing.T, s *LegacySession) Event {
	t.Helper()
	var e Event
	for i, p := range v.Packets {
		if n, err := SplitLegacy([]byte(p), v.MaxPayload); err != nil || n != len(p) {
			t.Fatalf("split: %d of %d, %v", n, len(p), err)
		}
		var err error
		if e, err = s.Receive([]byte(p)); err != nil {
			t.Fatal(err)
		}
		if i == len(v.Packets)-1 {
			break
		}
		if e.Message == nil {
			t.Fatalf("packet %d: %v", i, s.Cause())
		}
		v.answer(t, s, e.Message)
	}
	return e
}

func TestLegacyVectors(t *testing.T) {
	for name, v := range legacyVectors(t) {
		t.Run(name, func(t *testing.T) {
			s := v.session(t)
			if v.Expect == "split" {
				if n, err := SplitLegacy([]byte(v.Packets[0]), v.MaxPayload); err == nil {
					t.Errorf("split off %d bytes", n)
				}
				return
			}
			e := v.last(t, s)
			switch v.Expect {
			case "message":
				v.message(t, s, e)
			case "refused", "unreadable":
				if e.Message != nil || e.Reply != nil || string(e.Reject) != v.Reply ||
					e.RejectAfter != 200*time.Millisecond {
					t.Errorf("message %v, %d bytes of reply, reject after %v:\n%s", e.Message, len(e.Reply),
						e.RejectAfter, e.Reject)
				}
				if got := StatusOf(s.Cause()).String(); got != v.Status {
					t.Errorf("cause %v is %s, want %s", s.Cause(), got, v.Status)
				}
				if _, err := s.Receive([]byte(v.Packets[0])); !errors.Is(err, errUnexpected) {
					t.Errorf("it receives after a refusal: %v", err)
				}
			case "unfit":
				text, err := openLegacy(e.Reply, s.legacy.cbc)
				if err != nil || e.Message != nil || e.Reject != nil || !e.Established {
					t.Fatalf("%v, %v, %v", e.Message, e.Reject, err)
				}
				if !bytes.Contains(text, []byte(v.Word)) || !bytes.Contains(text, []byte(v.Status)) {
					t.Errorf("%s", text)
				}
			default:
				t.Errorf("expect %q", v.Expect)
			}
		})
	}
}

// message compares the request of a good vector, and the bytes of its reply.
func (v *legacyVector) message(t *testing.T, s *LegacySession, e Event) {
	m := e.Message
	if m == nil || m.Op.String() != v.Op || m.RequestID.String() != v.RequestID {
		t.Fatalf("%+v, cause %v", m, s.Cause())
	}
	if m.Op == OpUpload {
		u, err := m.UploadRequest()
		if err != nil || u.Table != v.Table || len(u.Rows.Columns) != v.Width {
			t.Fatalf("%+v, %v", u, err)
		}
		if want := v.values(t, v.Values); len(want)+len(u.Rows.Values) > 0 && !reflect.DeepEqual(u.Rows.Values, want) {
			t.Errorf("values %#v\nwant   %#v", u.Rows.Values, want)
		}
	} else {
		d, err := m.DownloadRequest()
		if err != nil || d.Table != v.Table || len(d.State) != len(v.State) || (d.Stateless != "") != v.Stateless {
			t.Fatalf("%+v, %v", d, err)
		}
		for i, item := range v.State {
			if d.State[i] != (rowset.StateItem{Name: item[0].(string), Value: item[1]}) {
				t.Errorf("state %v, want %v", d.State, v.State)
			}
		}
	}
	v.answer(t, s, m)
}

// answer sends the reply to a request. All requests of a good vector have the same reply.
func (v *legacyVector) answer(t *testing.T, s *LegacySession, m *Message) {
	var reply any = &UploadReply{}
	if m.Op == OpDownload {
		reply = &DownloadReply{Columns: v.Rows.Columns, Types: v.Rows.Types, Values: v.values(t, v.Rows.Values)}
	}
	err := s.Send(m.Reply(StatusOK, reply), func(packet []byte) error {
		if v.Expect == "message" && string(packet) != v.Reply {
			text, err := openLegacy(packet, s.legacy.cbc)
			want, _ := openLegacy([]byte(v.Reply), s.legacy.cbc)
			t.Errorf("reply is\n%s (%v), want\n%s", text, err, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// FuzzSplitLegacy checks that bytes yield the same packets and the same error wherever they are cut.
func FuzzSplitLegacy(f *testing.F) {
	for _, v := range legacyVectors(f) {
		if stream := strings.Join(v.Packets, ""); len(stream) < 4096 {
			f.Add([]byte(stream), uint16(17))
		}
	}
	f.Fuzz(func(t *testing.T, stream []byte, step uint16) {
		const most = 1024
		split := func(step int) (packets []string, failed bool) {
			var buf []byte
			for at := 0; at < len(stream); at += step {
				buf = append(buf, stream[at:min(at+step, len(stream))]...)
				for {
					n, err := SplitLegacy(buf, most)
					if err != nil {
						return packets, true
					}
					if n == 0 {
						break
					}
					packets = append(packets, string(buf[:n]))
					buf = buf[n:]
				}
				if len(buf) >= most+legacyOverhead {
					t.Fatalf("%d bytes are kept", len(buf))
				}
			}
			return packets, false
		}
		whole, failed := split(len(stream) + 1)
		pieces, failed2 := split(int(step)%251 + 1)
		if failed != failed2 || !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("whole: %d, %v; in pieces: %d, %v", len(whole), failed, len(pieces), failed2)
		}
	})
}

// FuzzLegacyPacket passes any bytes to a session as a packet.
func FuzzLegacyPacket(f *testing.F) {
	var one *legacyVector
	for _, v := range legacyVectors(f) {
		one = v
		for _, p := range v.Packets {
			f.Add([]byte(p))
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		s := one.session(t)
		e, err := s.Receive(packet)
		if err != nil {
			t.Fatal(err)
		}
		checkLegacyEvent(t, s, e)
	})
}

// FuzzLegacyText passes any text to a session, in a whole packet and, where the text has a token, with the right one.
func FuzzLegacyText(f *testing.F) {
	var one *legacyVector
	for _, v := range legacyVectors(f) {
		one = v
		s := v.session(f)
		for _, p := range v.Packets {
			if text, err := openLegacy([]byte(p), s.legacy.cbc); err == nil {
				f.Add(text)
			}
		}
	}
	f.Add([]byte(legacyAsk("point-01", "UPLOAD_DB", "t", "[(1, u'x')]", testEpoch.Add(-time.Second))))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := one.session(t)
		text = signLegacy(text, s.legacy)
		e, err := s.Receive(sealLegacy(bytes.Clone(text), s.legacy.cbc))
		if err != nil {
			t.Fatal(err)
		}
		checkLegacyEvent(t, s, e)
	})
}

// signLegacy replaces the token in text with the right one.
func signLegacy(text []byte, l *Legacy) []byte {
	root, err := parseLegacy(text, pyliteral.Python2)
	if err != nil {
		return text
	}
	business, info := root.Get("Business"), root.Get("Info_Status")
	if business == nil || info == nil || info.Get("Time") == nil || info.Get("Security_Token") == nil {
		return text
	}
	at, _ := pyliteral.Text(info.Get("Time").Value)
	token := info.Get("Security_Token")
	signed := "'" + legacyToken(legacyContent(text, business.Get("Content")), at, l.opts.TokenKey) + "'"
	return slices.Concat(text[:token.Start], []byte(signed), text[token.End:])
}

// checkLegacyEvent checks that an event is of exactly one kind, and that a reply is a packet.
func checkLegacyEvent(t *testing.T, s *LegacySession, e Event) {
	t.Helper()
	kinds := 0
	for _, is := range []bool{e.Message != nil, e.Reply != nil, e.Reject != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 || (e.Reject != nil) != (s.Cause() != nil) || (e.Reject == nil) != e.Established {
		t.Fatalf("%+v, %v", e, s.Cause())
	}
	for _, packet := range [][]byte{e.Reply, e.Reject} {
		if packet == nil {
			continue
		}
		if n, err := SplitLegacy(packet, 1<<20); err != nil || n != len(packet) {
			t.Fatalf("split: %d of %d, %v", n, len(packet), err)
		}
		if _, err := openLegacy(packet, s.legacy.cbc); err != nil {
			t.Fatal(err)
		}
	}
	if e.Message == nil {
		return
	}
	if e.Message.Op == OpUpload {
		u, err := e.Message.UploadRequest()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Digest(); err != nil {
			t.Fatal(err)
		}
	}
}
