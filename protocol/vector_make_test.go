package protocol

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"syncgate/internal/rowset"
)

// TestVectorsAreCurrent makes every file of testdata and compares it with the stored one; -update writes them.
func TestVectorsAreCurrent(t *testing.T) {
	made := map[string]any{}
	makeSessions(t, made)
	makeRefused(t, made)
	makeMalformed(t, made)
	makePayloads(t, made)
	makePieces(t, made)
	for name, v := range made {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", filepath.FromSlash(name)+".json")
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		stored, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored, b.Bytes()) {
			t.Errorf("%s is not what the code makes; if that is meant, run this test with -update", path)
		}
	}
}

var update = flag.Bool("update", false, "write testdata anew")

func newVector(about string) *vector {
	one := vectorKey{"point-01", 7, strings.Repeat("0001020304050607", 4)}
	return &vector{
		About: about,
		Server: vectorServer{
			Keys: []vectorKey{one, {"point-01", 8, strings.Repeat("08090a0b0c0d0e0f", 4)},
				{"point-02", 7, strings.Repeat("1011121314151617", 4)}},
			Ephemeral: strings.Repeat("5e",
				32), ServerID: "centre-a", MaxFrame: DefaultMaxFrame, MaxInFlight: 32, KeepaliveS: 30,
			RulesVersion: 42, ClockMs: testEpoch.UnixMilli(),
		},
		Client: vectorClient{one, strings.Repeat("c1", 32), "21a2a3a4a5a6a7a8", "vector 1.0",
			testEpoch.UnixMilli() - 1500},
	}
}

// recorder records a vector's steps while both sides run.
type recorder struct {
	*pair
	t     *testing.T
	v     *vector
	event Event
}

func record(t *testing.T, v *vector) *recorder {
	t.Helper()
	r := &recorder{pair: v.pair(t), t: t, v: v}
	var err error
	if r.hello, err = r.client.Hello(); err != nil {
		t.Fatal(err)
	}
	r.client.confirmed = true
	return r
}

func (r *recorder) add(from, about string, frame []byte, m *vectorMessage, got vectorStep) {
	got.From, got.About, got.Frame, got.Message = from, about, hex.EncodeToString(frame), m
	r.v.Steps = append(r.v.Steps, got)
}

// client records a frame on its way to the server, and the REJECT that answers it, if any.
func (r *recorder) toServer(about string, frame []byte, m *vectorMessage) {
	var got vectorStep
	r.event, got = r.atServer(frame)
	r.add("client", about, frame, m, got)
	if r.event.Reject != nil {
		r.toClient("REJECT", r.event.Reject, nil)
	}
}

func (r *recorder) toClient(about string, frame []byte, m *vectorMessage) {
	_, got := r.atClient(frame)
	r.add("server", about, frame, m, got)
}

// greeted records the handshake, and the client's first PING with its answer.
func (r *recorder) greeted() *recorder {
	r.t.Helper()
	r.toServer("HELLO", r.hello, nil)
	r.toClient("WELCOME", r.event.Reply, nil)
	r.up("PING, the client's first record: now the session is established",
		&Message{Op: OpPing, RequestID: r.client.first})
	r.first = unhex(r.t, r.v.Steps[2].Frame)
	r.down("its answer", r.event.Message.Reply(StatusOK, &PingReply{42, testEpoch.UnixMilli()}))
	return r
}

func (r *recorder) describe(m *Message) *vectorMessage {
	r.t.Helper()
	if m.Body != nil {
		var err error
		if m.Payload, err = AppendPayload(nil, m.Body); err != nil {
			r.t.Fatal(err)
		}
		m.Body = nil
	}
	return &vectorMessage{m.Op, m.Flags, m.Status, hex.EncodeToString(m.RequestID[:]), hex.EncodeToString(m.Payload),
		diagnose(m.Payload)}
}

// diagnose returns the payload in diagnostic notation, or "" when it is not CBOR.
func diagnose(payload []byte) string {
	if len(payload) == 0 {
		return ""
	}
	text, err := cbor.Diagnose(payload)
	if err != nil {
		return ""
	}
	return text
}

func (r *recorder) up(about string, m *Message) {
	r.t.Helper()
	d := r.describe(m)
	frame, err := r.client.Seal(nil, m)
	if err != nil {
		r.t.Fatal(err)
	}
	r.toServer(about, frame, d)
}

func (r *recorder) down(about string, m *Message) {
	r.t.Helper()
	d := r.describe(m)
	if err := r.session.Send(m,
		func(frame []byte) error { r.toClient(about, bytes.Clone(frame), d); return nil }); err != nil {
		r.t.Fatal(err)
	}
}

func makeSessions(t *testing.T, made map[string]any) {
	v := newVector("A whole session: every op, a refused one, a stored reply, PING both ways, GOAWAY.")
	r := record(t, v).greeted()
	upload := UploadRequest{Table: "phishing_log", Rows: rowset.Rows{
		Columns: []string{"url", "ip", "title", "hits", "update_time"},
		Values: []any{
			"http://a.example/", []byte{192, 0, 2, 1}, "caf\u00e9 \u4e2d \U0001f600", int64(3),
			"2026-01-02 03:04:05.000006",
			"http://b.example/", nil, "", int64(-9223372036854775808), nil,
			"http://c.example/", []byte{}, "it's \"quoted\"\n\\ %s", uint64(18446744073709551615), 0.1,
		},
	}}
	id := MakeRequestID(0x1122334455667788, 1)
	up := func(id RequestID, confirmed uint64) *Message {
		upload.Confirmed = confirmed
		body := upload
		return &Message{Op: OpUpload, RequestID: id, Body: &body}
	}
	r.up("UPLOAD of three rows", up(id, 0))
	reply := &UploadReply{Applied: 2, ByOp: map[string]uint64{"insert": 1, "update": 1},
		Quarantined: []QuarantinedRow{{2, StatusRowRefused, "value out of range"}}}
	r.down("two applied, the third put aside", r.event.Message.Reply(StatusOK, reply))
	r.up("the same UPLOAD again, as after a lost reply", up(id, 0))
	reply.Duplicate = true
	r.down("the stored reply", r.event.Message.Reply(StatusOK, reply))
	r.up("the next UPLOAD; sequence 1 is confirmed", up(MakeRequestID(0x1122334455667788, 2), 1))
	r.down("the server is full", r.event.Message.Reply(StatusBusy,
		&ErrorReply{Message: "too many requests wait", RetryAfterMs: 250}))

	r.downloads()
	r.up("RULES", &Message{Op: OpRules, RequestID: r.client.RequestID()})
	r.down("one rule", r.event.Message.Reply(StatusOK,
		&RulesReply{42, []RuleRow{{{Name: "id", Value: int64(1)}, {Name: "sync_table", Value: "phishing_log"},
			{Name: "sync_type", Value: "upload"}, {Name: "note", Value: nil}}}}))
	r.up("SUBSCRIBE", &Message{Op: OpSubscribe, RequestID: r.client.RequestID()})
	sub := r.event.Message.RequestID
	r.down("subscribed: the version now, FlagMore",
		&Message{Op: OpSubscribe, Flags: FlagMore, RequestID: sub, Body: &PingReply{42, testEpoch.UnixMilli()}})
	r.up("FILE", &Message{Op: OpFile, RequestID: r.client.RequestID()})
	r.down("not in this version", r.event.Message.Reply(StatusOpUnsupported,
		&ErrorReply{Message: "this server does not do that"}))
	r.down("the rules changed", &Message{Op: OpSubscribe, Flags: FlagMore, RequestID: sub,
		Body: &PingReply{43, testEpoch.UnixMilli() + 60000}})
	r.down("PING of the server's", r.session.Ping())
	r.up("its answer: the same id", &Message{Op: OpPing, RequestID: MakeRequestID(0, 1)})
	r.down("GOAWAY", &Message{Op: OpGoAway, Body: &GoAway{"drain", 10000}})
	v.Handshake = v.transcript(t)
	made["session-whole"] = v

	v = newVector("The same point under its second live key id.")
	v.Client.vectorKey = v.Server.Keys[1]
	record(t, v).greeted()
	v.Handshake = v.transcript(t)
	made["session-second-key"] = v

	v = newVector("A client that downloads two tables is told which have news, and runs a rule when it is asked to.")
	record(t, v).greeted().live()
	made["session-live"] = v

	v = newVector("A stream of uploads: its generation begins, a request is applied, another one has a used number, " +
		"a new generation begins.")
	record(t, v).greeted().uploadStream()
	made["session-stream"] = v
}

// live records a subscription with tables, and a run.
func (r *recorder) live() {
	r.up("SUBSCRIBE with two tables", &Message{Op: OpSubscribe, RequestID: r.client.RequestID(),
		Body: &SubscribeRequest{Tables: []string{"black_list", "site"}, Runs: true}})
	sub := r.event.Message.RequestID
	tell := func(about string, version uint64, news, polled []string) {
		r.down(about, &Message{Op: OpSubscribe, Flags: FlagMore, RequestID: sub,
			Body: &SubscribeReply{PingReply{version, testEpoch.UnixMilli()}, news, polled}})
	}
	tell("ask for both now; the server cannot tell the news of site", 42, []string{"black_list", "site"},
		[]string{"site"})
	tell("black_list has news", 42, []string{"black_list"}, nil)
	run := r.session.RequestID()
	r.down("RUN of the server's", &Message{Op: OpRun, RequestID: run, Body: &RunRequest{"phishing_log", "upload"}})
	r.up("a line of it: the same id, FlagMore", &Message{Op: OpRun, Flags: FlagMore, RequestID: run,
		Body: &RunReply{"3 rows acknowledged", 3, 1, 0}})
	r.up("its end", &Message{Op: OpRun, RequestID: run, Body: &RunReply{"done", 3, 1, 0}})
	again := r.session.RequestID()
	r.down("another RUN", &Message{Op: OpRun, RequestID: again, Body: &RunRequest{"nothing", "upload"}})
	r.up("refused by the client", &Message{Op: OpRun, RequestID: again, Status: StatusNoRule,
		Body: &ErrorReply{Message: "no rule of this point uploads nothing"}})
}

// uploadStream records the uploads of a stream.
func (r *recorder) uploadStream() {
	const epoch, first, second = 0x1122334455667788, 1 << 32, 7 << 32
	state := func(id int64) []rowset.StateItem { return []rowset.StateItem{{Name: "id", Value: id}} }
	rows := func(title string) *UploadRequest {
		return &UploadRequest{Table: "phishing_log", State: state(2), Seen: 40, Rows: rowset.Rows{
			Columns: []string{"id", "title"}, Values: []any{int64(1), "one", int64(2), title}}}
	}
	up := func(about string, seq uint64, body *UploadRequest) {
		r.up(about, &Message{Op: OpUpload, RequestID: MakeRequestID(epoch, seq), Body: body})
	}
	up("a generation begins in a new epoch", first, &UploadRequest{Table: "phishing_log", After: first})
	r.down("nothing was applied before", r.event.Message.Reply(StatusOK, &UploadReply{}))
	up("two rows and the state behind them", first+1, rows("two"))
	r.down("applied", r.event.Message.Reply(StatusOK,
		&UploadReply{Applied: 2, ByOp: map[string]uint64{"insert": 2}}))
	reached := Reached{first + 1, state(2)}
	up("other rows under the same id, as after a crash", first+1, rows("zwei"))
	r.down("the last sequence and its state", r.event.Message.Reply(StatusRequestIDReused,
		&ErrorReply{Message: "the id was used for other rows", Reached: reached}))
	up("another generation begins", second, &UploadRequest{Table: "phishing_log", After: first + 1})
	r.down("where the generation before has come to", r.event.Message.Reply(StatusOK, &UploadReply{Reached: reached}))
}

// downloads records a download with two parts and a refused one.
func (r *recorder) downloads() {
	r.t.Helper()
	download := &DownloadRequest{Table: "black_list",
		State: []rowset.StateItem{{Name: "update_time", Value: "2026-01-01 00:00:00"}}}
	r.up("DOWNLOAD from a state", &Message{Op: OpDownload, RequestID: r.client.RequestID(), Body: download})
	part := DownloadReply{Columns: []string{"domain", "update_time"}, Types: []string{"VARCHAR", "DATETIME"}}
	var enc RowEncoder
	ask := r.event.Message.RequestID
	if err := enc.Begin(0, []rowset.Column{{Name: part.Columns[0], Type: part.Types[0], Binary: false},
		{Name: part.Columns[1], Type: part.Types[1], Binary: false}}); err != nil {
		r.t.Fatal(err)
	}
	for i, row := range [][]any{{"a.example", "2026-01-01 10:00:00"}, {"b.example", "2026-01-01 11:00:00"},
		{"c.example", "2026-01-01 12:00:00"}} {
		if err := enc.Append(row); err != nil {
			r.t.Fatal(err)
		}
		if i == 1 {
			m, err := enc.Part(ask, nil)
			if err != nil {
				r.t.Fatal(err)
			}
			m.Payload = bytes.Clone(m.Payload)
			r.down("first part, FlagMore", m)
		}
	}
	m, err := enc.Last(ask, []rowset.StateItem{{Name: "update_time", Value: "2026-01-01 12:00:00"}}, false)
	if err != nil {
		r.t.Fatal(err)
	}
	m.Payload = bytes.Clone(m.Payload)
	r.down("last part, with the state to carry next time", m)
	r.up("DOWNLOAD of a table without a rule",
		&Message{Op: OpDownload, RequestID: r.client.RequestID(), Body: &DownloadRequest{Table: "nothing"}})
	r.down("refused", r.event.Message.Reply(StatusNoRule,
		&ErrorReply{Message: "no rule for this table, direction and point"}))
}

// transcript is the handshake of the vector's first two steps.
func (v *vector) transcript(t *testing.T) *transcript {
	p := v.pair(t)
	h, err := encode(nil, &hello{Version, Version, v.Client.Software, v.Client.ClockMs, terms{}})
	if err != nil {
		t.Fatal(err)
	}
	o := p.server.opts
	w, err := encode(nil, &Welcome{Version, o.MaxFrame, o.MaxInFlight, o.Keepalive, o.Clock().UnixMilli(), o.ServerID,
		o.RulesVersion(), terms{}})
	if err != nil {
		t.Fatal(err)
	}
	tr := newTranscript(t, appendName([]byte("syncgate/2"), v.Client.Point, v.Client.ID), unhex(t, v.Client.Secret),
		unhex(t, v.Client.Ephemeral), unhex(t, v.Server.Ephemeral), h, w)
	return &tr
}

func makeRefused(t *testing.T, made map[string]any) {
	for _, c := range badHellos {
		v := newVector("A hello that is refused: " + c.about + ".")
		if c.client != nil {
			o := ClientOptions{Point: v.Client.Point, KeyID: v.Client.ID, Key: v.Client.key(t).Secret}
			c.client(&o)
			v.Client.vectorKey = vectorKey{o.Point, o.KeyID, hex.EncodeToString(o.Key[:])}
		}
		r := record(t, v)
		if c.hello != nil {
			r.hello = c.hello(r.hello)
		}
		r.toServer("HELLO", r.hello, nil)
		made["refused-"+c.name] = v
	}
	v := newVector("More hellos than are taken up from one address: this one is one too many.")
	v.Server.Before = 100
	r := record(t, v)
	r.toServer("HELLO", r.hello, nil)
	made["refused-busy"] = v

	v = newVector("A client that speaks version 3 and later only.")
	r = record(t, v)
	payload, err := encode(nil, &hello{3, 9, v.Client.Software, testEpoch.UnixMilli(), terms{}})
	if err != nil {
		t.Fatal(err)
	}
	r.client.opts.Rand = bytes.NewReader(unhex(t, v.Client.Ephemeral))
	r.toServer("HELLO", helloFrameRaw(t, r.pair, payload), nil)
	made["refused-version"] = v

	v = newVector("A hello that opens, but whose payload has a key twice.")
	r = record(t, v)
	r.client.opts.Rand = bytes.NewReader(unhex(t, v.Client.Ephemeral))
	r.toServer("HELLO", helloFrameRaw(t, r.pair, []byte{0xa2, 1, 2, 1, 2}), nil)
	made["refused-payload"] = v
}

func makeMalformed(t *testing.T, made map[string]any) {
	ping := plainFrame(frameHello, make([]byte, 54))
	set := func(at int, b byte) []byte {
		f := slices.Clone(ping)
		f[at] = b
		return refresh(f)
	}
	for _, c := range []struct {
		name, about string
		frame       []byte
	}{
		{"magic", "the first byte is not C5", set(0, 0xc4)},
		{"old-version", "the version byte is 1", set(3, 1)},
		{"http", "another protocol", []byte("GET / HTTP/1.1\r\n\r\n")},
		{"type-0", "type 0", set(4, 0)},
		{"type-5", "type 5", set(4, 5)},
		{"flags", "flags not 0", set(5, 1)},
		{"reserved", "reserved not 0", set(7, 1)},
		{"large-hello", "513 bytes announced before the session is established; nothing of the body is waited for",
			[]byte{0xc5, 'S', 'G', 2, 1, 0, 0, 0, 0, 0, 2, 1}},
		{"data-first", "DATA before the hello", plainFrame(frameData, make([]byte, 40))},
		{"welcome-first", "WELCOME from a client", plainFrame(frameWelcome, make([]byte, 48))},
	} {
		v := newVector("A first frame that closes the connection: " + c.about + ".")
		record(t, v).toServer(c.about, c.frame, nil)
		made["malformed-"+c.name] = v
	}
	for _, c := range badRecords {
		v := newVector("After a good handshake: " + c.about + ".")
		r := record(t, v).greeted()
		r.toServer(c.about, c.send(r.pair), nil)
		made["malformed-"+c.name] = v
	}
	for _, c := range badReplies {
		v := newVector("After a good handshake, from the server: " + c.about + ".")
		r := record(t, v).greeted()
		r.toClient(c.about, c.send(t, r.pair), nil)
		made["malformed-"+c.name] = v
	}
	v := newVector("After a good handshake: a frame over the negotiated limit is announced.")
	record(t, v).greeted().toServer("1 MiB and a byte", []byte{0xc5, 'S', 'G', 2, 3, 0, 0, 0, 0, 16, 0, 1}, nil)
	made["malformed-large-data"] = v
	for _, c := range badWelcomes {
		v := newVector("An answer to the hello that a client refuses: " + c.about + ".")
		r := record(t, v)
		r.toServer("HELLO", r.hello, nil)
		r.toClient(c.about, c.frame(r.pair, slices.Clone(r.event.Reply)), nil)
		made["malformed-"+c.name] = v
	}
}

func typeName(body any) string {
	_, name, _ := strings.Cut(strings.TrimPrefix(reflect.TypeOf(body).String(), "*"), ".")
	return name
}

func makePayloads(t *testing.T, made map[string]any) {
	seen := map[string]bool{}
	for _, c := range bodies {
		name := typeName(c.body)
		file, about := name, "every field set"
		if seen[name] {
			file, about = name+"-zero", "every field that may be is zero"
		}
		seen[name] = true
		b, err := AppendPayload(nil, c.body)
		if err != nil {
			t.Fatal(err)
		}
		made["payload/good-"+file] = payloadVector{about, name, hex.EncodeToString(b), diagnose(b), StatusOK}
	}
	for _, c := range badPayloads {
		b := badPayload(t, c.hex)
		made["payload/bad-"+c.name] = payloadVector{c.about, "DownloadRequest", hex.EncodeToString(b), "",
			StatusOf(c.err)}
	}
}
