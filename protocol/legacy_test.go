package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
)

const (
	testLegacyKey   = "0123456789abcdef"
	testLegacyToken = "token key"
)

// legacyBench is a Legacy with a settable clock, and helpers for the agent's side.
type legacyBench struct {
	*Legacy
	t   testing.TB
	cbc *crypto.CBC
	now time.Time
}

func newLegacyBench(t testing.TB, change func(*LegacyOptions)) *legacyBench {
	t.Helper()
	b := &legacyBench{t: t, now: testEpoch}
	o := LegacyOptions{
		Key: []byte(testLegacyKey), TokenKey: testLegacyToken, Zone: time.UTC,
		Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Allow:    func(point string) bool { return strings.HasPrefix(point, "point-") },
		Clock:    func() time.Time { return b.now },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if b.Legacy, err = NewLegacy(o); err != nil {
		t.Fatal(err)
	}
	if b.cbc, err = crypto.NewCBC([]byte(testLegacyKey), []byte(testLegacyKey)); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *legacyBench) session() *LegacySession {
	b.t.Helper()
	s, err := b.NewSession(netip.MustParseAddr("::ffff:192.0.2.7"))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// legacyAsk is the text of a request as Python 2 prints it.
func legacyAsk(point, typ, table, content string, at time.Time, change ...string) string {
	stamp := at.Format("2006-01-02 15:04:05.000000")
	raw := content
	if n, err := pyliteral.Parse([]byte(content), pyliteral.Limits{}); err == nil {
		if s, ok := pyliteral.Text(n.Value); ok {
			raw = s
		}
	}
	text := fmt.Sprintf("{'userid': '%s', 'Business': {'Type': '%s', 'Content': %s, "+
		"'Table_Name': '%s', 'Table_Field': None, 'Is_Syncdb': True}, "+
		"'Error': {'Error_Flag': False, 'Error_Type': None, 'Error_Info': None}, "+
		"'Info_Status': {'Info_Type': 'REQUEST', 'Security_Token': '%s', 'Time': '%s', 'Is_End': True}}",
		point, typ, content, table, legacyMD5([]byte(raw+stamp+testLegacyToken)), stamp)
	return strings.NewReplacer(change...).Replace(text)
}

func (b *legacyBench) packet(text string) []byte { return sealLegacy([]byte(text), b.cbc) }

// receive passes a request to a session and expects a message.
func (b *legacyBench) receive(s *LegacySession, text string) *Message {
	b.t.Helper()
	e, err := s.Receive(b.packet(text))
	if err != nil || e.Message == nil || e.Reject != nil || e.Reply != nil {
		b.t.Fatalf("cause %v, %v, %v", s.Cause(), err, e.Message)
	}
	return e.Message
}

// send sends a reply and returns the texts of the packets written.
func (b *legacyBench) send(s *LegacySession, m *Message) []string {
	b.t.Helper()
	var texts []string
	err := s.Send(m, func(packet []byte) error {
		texts = append(texts, b.text(packet))
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return texts
}

// text opens a packet and checks its token by the bytes of Content.
func (b *legacyBench) text(packet []byte) string {
	b.t.Helper()
	if n, err := SplitLegacy(packet, 64<<20); err != nil || n != len(packet) {
		b.t.Fatalf("split: %d of %d, %v", n, len(packet), err)
	}
	text, err := openLegacy(packet, b.cbc)
	if err != nil {
		b.t.Fatal(err)
	}
	root, err := pyliteral.Parse(text, pyliteral.Limits{})
	if err != nil {
		b.t.Fatalf("%v: %s", err, text)
	}
	content, info := root.Get("Business").Get("Content"), root.Get("Info_Status")
	at, _ := pyliteral.Text(info.Get("Time").Value)
	want := legacyMD5(text[content.Start:content.End], []byte(at), []byte(testLegacyToken))
	if got := info.Get("Security_Token").Value; got != pyliteral.Str(want) {
		b.t.Fatalf("token %v, want %s", got, want)
	}
	return string(text)
}

func TestLegacyUpload(t *testing.T) {
	b := newLegacyBench(t, nil)
	s := b.session()
	text := legacyAsk("point-01", "UPLOAD_DB", "phishing_log",
		`[(u'http://x/', '10.0.0.1', u'\u4e2d', 3L, datetime.datetime(2020, 1, 2, 3, 4)), `+
			`("it's", None, '\xe4\xb8\xad', -1, True)]`, b.now)
	e, err := s.Receive(b.packet(text))
	if err != nil || !e.Established || e.Message == nil {
		t.Fatalf("%+v, %v, %v", e, err, s.Cause())
	}
	m := e.Message
	if s.Point() != "point-01" || m.Op != OpUpload || m.RequestID.Epoch() != LegacyEpoch|uint64(b.now.Unix()) {
		t.Fatalf("%q %v %v", s.Point(), m.Op, m.RequestID)
	}
	u, err := m.UploadRequest()
	if err != nil || u.Table != "phishing_log" || u.Rows.Len() != 2 ||
		!slices.Equal(u.Rows.Columns, make([]string, 5)) {
		t.Fatalf("%+v, %v", u, err)
	}
	want := []any{"http://x/", "10.0.0.1", "中", int64(3), "2020-01-02 03:04:00", "it's", nil, "中", int64(-1), int64(1)}
	if !slices.Equal(u.Rows.Values, want) {
		t.Errorf("%#v", u.Rows.Values)
	}
	if _, err := u.Digest(); err != nil {
		t.Error(err)
	}
	got := b.send(s, m.Reply(StatusOK, &UploadReply{Applied: 2}))
	wantText := "{'userid': 'point-01', 'Business': {'Type': 'UPLOAD_DB', 'Content': None, " +
		"'Table_Name': 'phishing_log', 'Table_Field': None, 'Is_Syncdb': True}, " +
		"'Error': {'Error_Flag': False, 'Error_Type': None, 'Error_Info': None}, " +
		"'Info_Status': {'Info_Type': 'RESPONSE', 'Security_Token': '" +
		legacyMD5([]byte("None2026-01-02 03:04:05.000000"+testLegacyToken)) +
		"', 'Time': '2026-01-02 03:04:05.000000', 'Is_End': True}}"
	if len(got) != 1 || got[0] != wantText {
		t.Errorf("%s\nwant\n%s", got, wantText)
	}
	if err := s.Send(m.Reply(StatusOK, &UploadReply{}), nil); !errors.Is(err, errState) {
		t.Errorf("a second reply: %v", err)
	}
}

func TestLegacyDownload(t *testing.T) {
	b := newLegacyBench(t, nil)
	s := b.session()
	m := b.receive(s, legacyAsk("point-01", "DOLOAD_DB", "black_list", `[((u'update_time', u'1970-01-01 00:00:00'),)]`,
		b.now))
	d, err := m.DownloadRequest()
	if err != nil || d.Table != "black_list" || d.MaxRows != 0 || len(d.State) != 1 ||
		d.State[0] != (rowset.StateItem{Name: "update_time", Value: "1970-01-01 00:00:00"}) {
		t.Fatalf("%+v, %v", d, err)
	}
	part := func(r *DownloadReply) *Message {
		p := m.Reply(StatusOK, r)
		p.Flags = FlagMore
		return p
	}
	columns, types := []string{"a", "b"}, []string{"VARCHAR", "INT"}
	for _, r := range []*DownloadReply{
		{Statement: 0, Columns: columns, Types: types, Values: []any{"x", int64(1)}},
		{Statement: 0, Columns: columns, Types: types, Values: []any{"中", nil}},
		{Statement: 2, Columns: []string{"c"}, Types: []string{"DATETIME"}, Values: []any{"2020-01-02 03:04:00"}},
	} {
		if got := b.send(s, part(r)); got != nil {
			t.Fatalf("sent %s", got)
		}
	}
	got := b.send(s, m.Reply(StatusOK, &DownloadReply{Total: 3}))
	want := `'Content': [[(u'x', 1L), (u'\u4e2d', None)], [], [(datetime.datetime(2020, 1, 2, 3, 4),)]], 'Table_Name'`
	if len(got) != 1 || !strings.Contains(got[0], want) {
		t.Errorf("%s\nlacks\n%s", got, want)
	}
}

func TestLegacyDownloadOfNothing(t *testing.T) {
	b := newLegacyBench(t, nil)
	s := b.session()
	for i, content := range []string{"None", "''", "[]", "()"} {
		m := b.receive(s, legacyAsk("point-01", "DOLOAD_DB", "black_list", content,
			b.now.Add(time.Duration(i)*time.Microsecond)))
		if d, err := m.DownloadRequest(); err != nil || len(d.State) != 0 {
			t.Fatalf("%+v, %v", d, err)
		}
		if got := b.send(s, m.Reply(StatusOK, &DownloadReply{})); len(got) != 1 ||
			!strings.Contains(got[0], "'Content': [], ") {
			t.Error(got)
		}
	}
}

// TestLegacyOrder: the session answers a request before it accepts the next, and answers a malformed one at once.
func TestLegacyOrder(t *testing.T) {
	b := newLegacyBench(t, nil)
	s := b.session()
	ask := func(i int, content string) string {
		return legacyAsk("point-01", "UPLOAD_DB", fmt.Sprint("table", i), content,
			b.now.Add(time.Duration(i)*time.Second))
	}
	m := b.receive(s, ask(0, "[(1,)]"))
	if _, err := s.Receive(b.packet(ask(1, "[(1,)]"))); !errors.Is(err, errUnexpected) {
		t.Fatalf("a second request before the reply: %v", err)
	}
	if err := s.Send(&Message{Op: OpUpload, RequestID: MakeRequestID(1, 1)}, nil); !errors.Is(err, errState) {
		t.Errorf("a reply to something else: %v", err)
	}
	if got := b.send(s, m.Reply(StatusOK, &UploadReply{})); len(got) != 1 || !strings.Contains(got[0], "table0") {
		t.Fatalf("%s", got)
	}
	m = b.receive(s, ask(2, "[(1,)]"))
	got := b.send(s, m.Reply(StatusNoRule, &ErrorReply{Message: "no rule"}))
	if len(got) != 1 || !strings.Contains(got[0],
		`'Error': {'Error_Flag': True, 'Error_Type': 'Server_config_Error', 'Error_Info': 'SG0200: no rule'}`) {
		t.Error(got)
	}
	for i, content := range []string{"[(1,), ()]", "[(1, [2])]"} {
		e, err := s.Receive(b.packet(ask(3+i, content)))
		if err != nil || e.Message != nil || !strings.Contains(b.text(e.Reply),
			`'Error_Type': 'Client_Data_Pack_Error', 'Error_Info': "SG0203: the request's`) {
			t.Errorf("%s: %+v, %v", content, e, err)
		}
	}
}

// TestLegacyRetry: the same bytes have the same id; an upload may be repeated, a download may not.
func TestLegacyRetry(t *testing.T) {
	b := newLegacyBench(t, nil)
	upload := legacyAsk("point-01", "UPLOAD_DB", "t", "[(1,)]", b.now)
	first := b.receive(b.session(), upload)
	b.now = b.now.Add(time.Minute)
	if again := b.receive(b.session(), upload); again.RequestID != first.RequestID {
		t.Errorf("ids %v and %v", first.RequestID, again.RequestID)
	}
	if other := b.receive(b.session(), legacyAsk("point-01", "UPLOAD_DB", "t", "[(1,)]",
		b.now)); other.RequestID == first.RequestID {
		t.Error("another time, the same id")
	}
	download := legacyAsk("point-01", "DOLOAD_DB", "t", "None", b.now)
	b.receive(b.session(), download)
	for name, text := range map[string]string{
		"a download again":           download,
		"a token under another text": strings.Replace(upload, "'Table_Name': 't'", "'Table_Name': 'u'", 1),
		"a token of another point":   strings.Replace(upload, "point-01", "point-02", 1),
		"an upload's as a download":  strings.Replace(upload, "UPLOAD_DB", "DOLOAD_DB", 1),
	} {
		s := b.session()
		if e, err := s.Receive(b.packet(text)); err != nil || e.Reject == nil ||
			!errors.Is(s.Cause(), errLegacyReplay) {
			t.Errorf("%s: %+v, %v, %v", name, e, err, s.Cause())
		}
	}
	b.now = b.now.Add(5 * time.Minute)
	s := b.session()
	if e, err := s.Receive(b.packet(upload)); err != nil || e.Reject == nil || !errors.Is(s.Cause(), errLegacyTime) {
		t.Errorf("outside the window: %+v, %v, %v", e, err, s.Cause())
	}
}

// TestLegacyDialects: a reply is printed as the point's Python prints it.
func TestLegacyDialects(t *testing.T) {
	reply := func(b *legacyBench, content string) string {
		b.now = b.now.Add(time.Second)
		s := b.session()
		m := b.receive(s, legacyAsk("point-01", "DOLOAD_DB", "t", content, b.now))
		got := b.send(s, m.Reply(StatusOK, &DownloadReply{
			Columns: []string{"a", "b", "c", "d"}, Types: []string{"VARCHAR", "BIGINT", "TIME", "BLOB"},
			Values: []any{"x", int64(1), "25:00:00.000001", []byte{0xff}, "中", nil, nil, nil},
		}))
		_, after, _ := strings.Cut(got[0], "'Content': ")
		content, _, _ = strings.Cut(after, ", 'Table_Name'")
		return content
	}
	const (
		two   = `[[(u'x', 1L, datetime.timedelta(1, 3600, 1), '\xff'), (u'\u4e2d', None, None, None)]]`
		three = `[[('x', 1, datetime.timedelta(days=1, seconds=3600, microseconds=1), b'\xff'), ` +
			`('中', None, None, None)]]`
		three6  = `[[('x', 1, datetime.timedelta(1, 3600, 1), b'\xff'), ('中', None, None, None)]]`
		neutral = `[[('x', 1, datetime.timedelta(1, 3600, 1), '\xff'), (u'\u4e2d', None, None, None)]]`
	)
	b := newLegacyBench(t, nil)
	for _, tt := range []struct{ content, want string }{
		{"None", neutral},
		{"[(('t', '1970'),)]", neutral},
		{"[((u't', u'1970'),)]", two},
		{"None", two},
		{"[(('t', '中'),)]", three},
		{"None", three},
	} {
		if got := reply(b, tt.content); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.content, got, tt.want)
		}
	}
	b = newLegacyBench(t, func(o *LegacyOptions) { o.Dialect = pyliteral.Python36 })
	if got := reply(b, "[(('t', '中'),)]"); got != three6 {
		t.Errorf("until shown 3.6: %s", got)
	}
	b = newLegacyBench(t, func(o *LegacyOptions) {
		o.Dialect, o.FixedDialect = pyliteral.Python3, true
	})
	if got := reply(b, "[((u't', u'1970'),)]"); got != three {
		t.Errorf("configured: %s", got)
	}
	s := b.session()
	m := b.receive(s, legacyAsk("point-01", "UPLOAD_DB", "t", `[('\xa0',)]`, b.now))
	if u, err := m.UploadRequest(); err != nil || u.Rows.Values[0] != "\u00a0" {
		t.Errorf("%#v, %v", u, err)
	}
}

func TestLegacyTooLarge(t *testing.T) {
	b := newLegacyBench(t, func(o *LegacyOptions) { o.MaxReply = 16 << 20 })
	s := b.session()
	m := b.receive(s, legacyAsk("point-01", "DOLOAD_DB", "t", "None", b.now))
	part := m.Reply(StatusOK, &DownloadReply{Columns: []string{"a"}, Types: []string{"TEXT"},
		Values: []any{strings.Repeat("x", 9<<20)}})
	part.Flags = FlagMore
	b.send(s, part)
	var sent []byte
	err := s.Send(part, func(p []byte) error { sent = p; return nil })
	if !errors.Is(err, errLegacyReply) || StatusOf(err) != StatusTooLarge {
		t.Errorf("over the bound: %v", err)
	}
	if text := b.text(sent); !strings.Contains(text, "'Content': None, ") || !strings.Contains(text, "SG0005") {
		t.Error(text)
	}
	if err := s.Send(part, nil); !errors.Is(err, errState) {
		t.Errorf("a part after the end: %v", err)
	}
}

// TestLegacyCut: a stream yields the same packets wherever it is cut.
func TestLegacyCut(t *testing.T) {
	b := newLegacyBench(t, nil)
	one := b.packet(legacyAsk("point-01", "UPLOAD_DB", "t", "[(1,)]", b.now))
	two := b.packet(legacyAsk("point-01", "UPLOAD_DB", "t", "[(2, 'x')]", b.now))
	stream := slices.Concat(one, two, one)
	for cut := range len(stream) + 1 {
		var got [][]byte
		var buf []byte
		for _, segment := range [][]byte{stream[:cut], stream[cut:]} {
			buf = append(buf, segment...)
			for {
				n, err := SplitLegacy(buf, 1<<20)
				if err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				if n == 0 {
					break
				}
				got = append(got, bytes.Clone(buf[:n]))
				buf = buf[n:]
			}
		}
		if len(got) != 3 || !bytes.Equal(got[0], one) || !bytes.Equal(got[1], two) || !bytes.Equal(got[2], one) ||
			len(buf) != 0 {
			t.Fatalf("cut at %d: %d packets and %d bytes left", cut, len(got), len(buf))
		}
	}
}

// TestLegacyOneAmountOfTime: the answer to a stranger comes the same time after its request, however long the check
// took.
func TestLegacyOneAmountOfTime(t *testing.T) {
	for name, slow := range map[string]time.Duration{"quick": 0, "slow": 70 * time.Millisecond,
		"slower than the delay": time.Second} {
		b := newLegacyBench(t, nil)
		calls := 0
		b.opts.Clock = func() time.Time { calls++; return b.now.Add(time.Duration(min(calls-1, 1)) * slow) }
		e, err := b.session().Receive(b.packet("no request"))
		if err != nil || e.Reject == nil || e.RejectAfter != max(0, 200*time.Millisecond-slow) {
			t.Errorf("%s: reject after %v, %v", name, e.RejectAfter, err)
		}
	}
}

// TestLegacySendTogether sends replies to one request from many goroutines: only one is written.
func TestLegacySendTogether(t *testing.T) {
	b := newLegacyBench(t, nil)
	s := b.session()
	m := b.receive(s, legacyAsk("point-01", "UPLOAD_DB", "t", "[(1,)]", b.now))
	var sent, refused atomic.Int32
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			err := s.Send(m.Reply(StatusOK, &UploadReply{}), func([]byte) error { sent.Add(1); return nil })
			if errors.Is(err, errState) {
				refused.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if sent.Load() != 1 || refused.Load() != 49 {
		t.Errorf("%d left, %d were refused", sent.Load(), refused.Load())
	}
}

// Of a large packet only an agent's beginning is worth keeping.
func TestLegacyPeek(t *testing.T) {
	b := newLegacyBench(t, nil)
	ask := legacyAsk("p", "UPLOAD_DB", "t", "[(1, 'a')]", b.now)
	for text, want := range map[string]bool{
		ask:                                     true,
		"{'Business" + strings.Repeat(" ", 100): true,
		"{ u\"Info_Status\": " + strings.Repeat("x", 100): true,
		"{'userie" + strings.Repeat(" ", 100):             false,
		"['userid', " + strings.Repeat(" ", 100):          false,
		strings.Repeat("A", 100):                          false,
	} {
		e, ok := b.session().Peek(b.packet(text)[:100])
		if ok != want || ok == (e.Reject != nil) {
			t.Errorf("%.20q: %v, refusal of %d bytes", text, ok, len(e.Reject))
		}
	}
	if _, ok := b.session().Peek(bytes.Repeat([]byte{'0'}, 4096)); ok {
		t.Error("zeros may go on")
	}
}
