package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/protocol"

	"syncgate/internal/harness/harnesstest"
)

// python finds a Python 3 with the two modules that the second client needs. It tries Debian's own first, because a
// python3 of another origin that comes first in PATH does not have Debian's modules.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if path, err := exec.LookPath(name); err == nil && exec.Command(path, "-c", "import cbor2, cryptography").
			Run() == nil {
			return path
		}
	}
	t.Skip("no python3 with the modules cryptography and cbor2: apt-get install python3-cryptography python3-cbor2")
	return ""
}

// pyclient runs the second client and returns its output.
func pyclient(t *testing.T, into any, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, python(t), append([]string{"-B", "pyclient/modern.py"}, args...)...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pyclient %s: %v\n%s", args[0], err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// The second client, written from docs/protocol.md in another language, reads every vector as the first does.
func TestPyclientVectors(t *testing.T) {
	var got struct{ Checked int }
	pyclient(t, &got, "vectors", "../protocol/testdata")
	if got.Checked < 90 {
		t.Errorf("only %d files", got.Checked)
	}
}

// miniature is a centre with a ledger in memory and no database. It is enough to check a client against the protocol.
type miniature struct {
	server *protocol.Server
	ledger map[protocol.RequestID]done
	tables map[string]rowset.Rows
}

type done struct {
	digest [32]byte
	reply  protocol.UploadReply
}

func newMiniature(t *testing.T, keys func(string, uint32) (crypto.Key, bool)) *miniature {
	t.Helper()
	begun := time.Now()
	s, err := protocol.NewServer(protocol.ServerOptions{
		Keys: keys, RulesVersion: func() uint64 { return 42 }, Rand: rand.Reader, ServerID: "miniature",
		Clock: func() time.Time { return begun }, Handshakes: 20, // four from this address, as its time stands still
	})
	if err != nil {
		t.Fatal(err)
	}
	return &miniature{server: s, ledger: map[protocol.RequestID]done{}, tables: map[string]rowset.Rows{}}
}

// serve takes n connections, one after the other, and closes the channel when the last one is over.
func (c *miniature) serve(t *testing.T, n int) (host, port string, over <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range n {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if err := c.connection(conn); err != nil && !errors.Is(err, io.EOF) {
				t.Errorf("connection: %v", err)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	host, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port, ended
}

func (c *miniature) connection(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(harnesstest.Patience))
	remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	s := c.server.NewSession(remote)
	write := func(frame []byte) error { _, err := conn.Write(frame); return err }
	var buf []byte
	for {
		n, err := protocol.Split(buf, s.MaxFrame())
		if err != nil {
			return err
		}
		if n == 0 {
			piece := make([]byte, 32<<10)
			k, err := conn.Read(piece)
			if buf = append(buf, piece[:k]...); err != nil {
				return err
			}
			continue
		}
		e, err := s.Receive(buf[:n])
		if err != nil {
			return err
		}
		buf = buf[n:]
		switch {
		case e.Reject != nil:
			time.Sleep(e.RejectAfter)
			return write(e.Reject)
		case e.Reply != nil:
			err = write(e.Reply)
		case e.Message != nil:
			for _, m := range c.answers(s, e.Message) {
				if err = s.Send(m, write); err != nil {
					break
				}
			}
		default: // the client has answered the PING that came after SUBSCRIBE
			err = s.Send(&protocol.Message{Op: protocol.OpGoAway,
				Body: &protocol.GoAway{Reason: "test over", GraceMs: 10}}, write)
		}
		if err != nil {
			return err
		}
	}
}

func (c *miniature) answers(s *protocol.ServerSession, m *protocol.Message) []*protocol.Message {
	fail := func(status protocol.Status) []*protocol.Message {
		return []*protocol.Message{m.Reply(status, &protocol.ErrorReply{Message: "no", RetryAfterMs: 7})}
	}
	version := func(v uint64) *protocol.Message {
		r := m.Reply(protocol.StatusOK, &protocol.PingReply{RulesVersion: v, ClockMs: 1})
		if m.Op == protocol.OpSubscribe {
			r.Flags = protocol.FlagMore
		}
		return r
	}
	switch m.Op {
	case protocol.OpPing:
		return []*protocol.Message{version(42)}
	case protocol.OpSubscribe:
		return []*protocol.Message{version(42), version(43), s.Ping()}
	case protocol.OpUpload:
		return c.upload(m, fail)
	case protocol.OpDownload:
		return c.download(m, fail)
	case protocol.OpRules:
		return []*protocol.Message{m.Reply(protocol.StatusOK, &protocol.RulesReply{Version: 42,
			Rules: []protocol.RuleRow{{{Name: "id", Value: int64(1)}, {Name: "note", Value: nil}}}})}
	}
	return fail(protocol.StatusOpUnsupported)
}

func (c *miniature) upload(m *protocol.Message, fail func(protocol.Status) []*protocol.Message) []*protocol.Message {
	u, err := m.UploadRequest()
	if err != nil {
		return fail(protocol.StatusOf(err))
	}
	digest, err := u.Digest()
	if err != nil {
		return fail(protocol.StatusOf(err))
	}
	before, again := c.ledger[m.RequestID]
	switch {
	case again && before.digest != digest:
		return fail(protocol.StatusRequestIDReused)
	case !again:
		n := uint64(u.Rows.Len())
		before = done{digest, protocol.UploadReply{Applied: n, ByOp: map[string]uint64{"insert": n}}}
		c.ledger[m.RequestID] = before
		c.tables[u.Table] = u.Rows
	}
	reply := before.reply
	reply.Duplicate = again
	return []*protocol.Message{m.Reply(protocol.StatusOK, &reply)}
}

// download answers with one message a row, so that a reply has several.
func (c *miniature) download(m *protocol.Message, fail func(protocol.Status) []*protocol.Message) []*protocol.Message {
	d, err := m.DownloadRequest()
	if err != nil {
		return fail(protocol.StatusOf(err))
	}
	rows, ok := c.tables[d.Table]
	if !ok {
		return fail(protocol.StatusNoRule)
	}
	var out []*protocol.Message
	for i := range rows.Len() {
		r := m.Reply(protocol.StatusOK, &protocol.DownloadReply{Columns: rows.Columns,
			Types: slices.Repeat([]string{"TEXT"}, len(rows.Columns)), Values: rows.Row(i)})
		r.Flags = protocol.FlagMore
		out = append(out, r)
	}
	return append(out,
		m.Reply(protocol.StatusOK, &protocol.DownloadReply{State: d.State, More: true, Total: uint64(rows.Len())}))
}

var pyKey = crypto.Key{Point: "point-中", ID: 7, Secret: [32]byte{1, 2, 3}}

func pyKeys(point string, id uint32) (crypto.Key, bool) {
	return pyKey, point == pyKey.Point && id == pyKey.ID
}

func pyArgs(mode, host, port string, k crypto.Key) []string {
	return []string{mode, host, port, k.Point, strconv.Itoa(int(k.ID)), base64.StdEncoding.EncodeToString(k.Secret[:])}
}

func TestPyclientSession(t *testing.T) {
	c := newMiniature(t, pyKeys)
	host, port, over := c.serve(t, 1)
	var got map[string]json.RawMessage
	pyclient(t, &got, pyArgs("session", host, port, pyKey)...)
	<-over
	for name, want := range map[string]string{
		"ping":             `[{"status":0,"rules_version":42,"clock_ms":1}]`,
		"upload":           `[{"status":0,"applied":4,"by_op":{"insert":4},"quarantined":[],"duplicate":false,"left_out":0,"unknown":[]}]`,
		"upload_again":     `[{"status":0,"applied":4,"by_op":{"insert":4},"quarantined":[],"duplicate":true,"left_out":0,"unknown":[]}]`,
		"upload_other":     `[{"status":204,"message":"no","retry_after_ms":7}]`,
		"upload_large":     `[{"status":0,"applied":7000,"by_op":{"insert":7000},"quarantined":[],"duplicate":false,"left_out":0,"unknown":[]}]`,
		"ping_in_flight":   `[{"status":0,"rules_version":42,"clock_ms":1}]`,
		"download_nothing": `[{"status":200,"message":"no","retry_after_ms":7}]`,
		"malformed":        `[{"status":3,"message":"no","retry_after_ms":7}]`,
		"rules":            `[{"status":0,"version":42,"rules":[[["id",1],["note",null]]]}]`,
		"file":             `[{"status":7,"message":"no","retry_after_ms":7}]`,
		"op_99":            `[{"status":7,"message":"no","retry_after_ms":7}]`,
		"subscribe":        `[{"rules_version":42,"clock_ms":1,"more":true,"status":0},{"rules_version":43,"clock_ms":1,"more":true,"status":0}]`,
		"goaway":           `{"reason":"test over","grace_ms":10}`,
	} {
		var compact bytes.Buffer
		if err := json.Compact(&compact, got[name]); err != nil || compact.String() != want {
			t.Errorf("%s: %s, %v\nwant %s", name, compact.Bytes(), err, want)
		}
	}
	var download struct {
		Parts, Total int
		Same, More   bool
		State        [][2]string
	}
	if err := json.Unmarshal(got["download"], &download); err != nil {
		t.Fatal(err)
	}
	if !download.Same || !download.More || download.Parts != 5 || download.Total != 4 ||
		download.State[0] != [2]string{"since", "2026-01-01"} {
		t.Errorf("what went up came down as %s", got["download"])
	}
	first := c.tables["awkward"].Row(0)
	if first[0] != int64(1) || first[1] != nil || first[2] != "" || len(first[3].([]byte)) != 0 || first[4] != 0.1 {
		t.Errorf("%#v", first)
	}
	if second := c.tables["awkward"].Row(1); second[1] != uint64(1<<64-1) ||
		second[2] != "it's \"q\" \\ % \n \x00 中 \U0001f600" || len(second[3].([]byte)) != 256 {
		t.Errorf("%#v", second)
	}
}

func TestPyclientIsRefused(t *testing.T) {
	wrong, unknown, revoked := pyKey, pyKey, pyKey
	wrong.Secret[31]++
	unknown.Point = "point-99"
	revoked.ID = 6
	host, port, _ := newMiniature(t, pyKeys).serve(t, 5)
	type outcome struct {
		Rejected     int
		RetryAfterMs int `json:"retry_after_ms"`
		Ms           int
	}
	for name, k := range map[string]crypto.Key{"wrong key": wrong, "unknown point": unknown, "revoked key": revoked} {
		var got outcome
		pyclient(t, &got, pyArgs("hello", host, port, k)...)
		if got.Rejected != int(protocol.StatusRejected) || got.RetryAfterMs != 0 || got.Ms < 50 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	var welcome struct {
		Welcome struct {
			MaxFrame int `json:"max_frame"`
		}
	}
	pyclient(t, &welcome, pyArgs("hello", host, port, pyKey)...)
	if welcome.Welcome.MaxFrame != protocol.DefaultMaxFrame {
		t.Errorf("%+v", welcome)
	}
	var busy outcome
	pyclient(t, &busy, pyArgs("hello", host, port, pyKey)...) // the fifth of four
	if busy.Rejected != int(protocol.StatusBusy) || busy.RetryAfterMs == 0 {
		t.Errorf("the fifth hello: %+v", busy)
	}
}

// The second client moves rows to the real server and back. MySQL stores exactly what Python sent.
func TestPyclientRows(t *testing.T) {
	python(t)
	w := New(t)
	w.Centre.Must(`CREATE TABLE odd (id BIGINT PRIMARY KEY, t LONGTEXT, b LONGBLOB, d DECIMAL(30,10), f DOUBLE, u ` +
		`BIGINT UNSIGNED, w DATETIME(6))
		CHARACTER SET utf8mb4`)
	w.Rule("server", "upload", "odd", "")
	w.Rule("server", "download", "odd", "")
	w.Point.Enrol(pointName)
	server := w.Serve()
	host, port, err := net.SplitHostPort(w.Point.Setting("SYNCGATE_AGENT_SERVER"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Upload, Again []struct {
			Status, Applied int
			Duplicate       bool
		}
		Same  bool
		Asked int
		Got   json.RawMessage
		Last  json.RawMessage
	}
	pyclient(t, &got, "rows", host, port, pointName, w.Point.Setting("SYNCGATE_AGENT_KEY_ID"),
		w.Point.Setting("SYNCGATE_AGENT_KEY"))
	if u := got.Upload[0]; u.Status != 0 || u.Applied != 3 || u.Duplicate {
		t.Errorf("upload: %+v", u)
	}
	if u := got.Again[0]; u.Status != 0 || u.Applied != 3 || !u.Duplicate {
		t.Errorf("the same again: %+v", u)
	}
	if !got.Same || got.Asked < 2 {
		t.Errorf("asked %d times, came back as %s, last %s\n%s", got.Asked, got.Got, got.Last, server.Log())
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM odd"); n != 3 {
		t.Errorf("%d rows at the centre", n)
	}
	server.Stop()
}
