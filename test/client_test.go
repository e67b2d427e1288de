package test

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// setting is the last value that the agent's environment has for a name.
func (w *world) setting(name string) string {
	w.t.Helper()
	for i := len(w.agent) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(w.agent[i], name+"="); ok {
			return value
		}
	}
	w.t.Fatalf("the agent has no %s", name)
	return ""
}

// modernClient is one connection on the v2 wire. It sends what an agent never sends.
type modernClient struct {
	t    testing.TB
	conn net.Conn
	wire *protocol.Client
	buf  []byte
}

// dialModern shakes hands as the named point. The error is the server's refusal.
func (w *world) dialModern(point string) (*modernClient, error) {
	w.t.Helper()
	c := w.knock(point)
	_, err := c.next()
	return c, err
}

// knock connects and sends a HELLO under the key of the world's agent. It does not wait for the answer.
func (w *world) knock(point string) *modernClient {
	w.t.Helper()
	key, err := base64.StdEncoding.DecodeString(w.setting("SYNCGATE_AGENT_KEY"))
	if err != nil || len(key) != crypto.KeySize {
		w.t.Fatal(len(key), err)
	}
	id, err := strconv.ParseUint(w.setting("SYNCGATE_AGENT_KEY_ID"), 10, 32)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &modernClient{t: w.t}
	c.wire, err = protocol.NewClient(protocol.ClientOptions{Point: point, KeyID: uint32(id), Key: [crypto.KeySize]byte(key), Clock: time.Now, Rand: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	hello, err := c.wire.Hello()
	if err != nil {
		w.t.Fatal(err)
	}
	c.conn = dial(w.t, w.setting("SYNCGATE_AGENT_SERVER"))
	if _, err := c.conn.Write(hello); err != nil {
		w.t.Fatal(err)
	}
	return c
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		err = conn.SetDeadline(time.Now().Add(2 * patience))
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (c *modernClient) next() (*protocol.Message, error) {
	for {
		n, err := protocol.Split(c.buf, c.wire.MaxFrame())
		if err != nil {
			return nil, err
		}
		if n > 0 {
			m, err := c.wire.Receive(c.buf[:n])
			c.buf = c.buf[n:]
			return m, err
		}
		piece := make([]byte, 64<<10)
		if n, err = c.conn.Read(piece); err != nil {
			return nil, err
		}
		c.buf = append(c.buf, piece[:n]...)
	}
}

// ask sends a request and returns all of its replies in order.
func (c *modernClient) ask(op protocol.Op, body any) []*protocol.Message {
	c.t.Helper()
	id := c.wire.RequestID()
	frame, err := c.wire.Seal(nil, &protocol.Message{Op: op, RequestID: id, Body: body})
	if err == nil {
		_, err = c.conn.Write(frame)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	var all []*protocol.Message
	for {
		m, err := c.next()
		if err != nil {
			c.t.Fatal(err)
		}
		if m == nil || m.RequestID != id {
			continue
		}
		if all = append(all, m); !m.More() {
			return all
		}
	}
}

// upload sends rows and returns the status and, when it is OK, the reply.
func (c *modernClient) upload(table string, rows rowset.Rows) (protocol.Status, *protocol.UploadReply) {
	c.t.Helper()
	m := c.ask(protocol.OpUpload, &protocol.UploadRequest{Table: table, Rows: rows})[0]
	if m.Status != protocol.StatusOK {
		return m.Status, nil
	}
	reply, err := m.UploadReply()
	if err != nil {
		c.t.Fatal(err)
	}
	return m.Status, reply
}

// download returns the rows of a table from a state on.
func (c *modernClient) download(table string, state ...rowset.StateItem) (protocol.Status, []any) {
	c.t.Helper()
	var values []any
	for _, m := range c.ask(protocol.OpDownload, &protocol.DownloadRequest{Table: table, State: state}) {
		if m.Status != protocol.StatusOK {
			return m.Status, nil
		}
		reply, err := m.DownloadReply()
		if err != nil {
			c.t.Fatal(err)
		}
		values = append(values, reply.Values...)
	}
	return protocol.StatusOK, values
}

const legacyKey = "0123456789abcdef"

// legacySettings are the settings of a server that speaks the v1 wire to this host.
func legacySettings() []string {
	return []string{"SYNCGATE_LISTEN_LEGACY=127.0.0.1:0", "SYNCGATE_LEGACY_KEY=text:" + legacyKey, "SYNCGATE_LEGACY_TOKEN_KEY=" + legacyTokenKey,
		"SYNCGATE_LEGACY_NETWORKS=127.0.0.0/8", "SYNCGATE_LEGACY_TIME_ZONE=UTC"}
}

// legacyClient is one connection on the v1 wire. It shares the cipher and the literals with the server, but reads and
// writes packets with code of its own.
type legacyClient struct {
	t       testing.TB
	conn    net.Conn
	cbc     *crypto.CBC
	dialect pyliteral.Dialect
	buf     []byte
}

// legacyReply holds the parts of a reply that such an agent reads.
type legacyReply struct {
	content pyliteral.Value
	text    string // of Content
	failed  bool
	word    pyliteral.Value
	info    pyliteral.Value
}

func dialLegacy(t testing.TB, address string, dialect pyliteral.Dialect) *legacyClient {
	t.Helper()
	cbc, err := crypto.NewCBC([]byte(legacyKey), []byte(legacyKey))
	if err != nil {
		t.Fatal(err)
	}
	return &legacyClient{t: t, conn: dial(t, address), cbc: cbc, dialect: dialect}
}

// packet is a request as the client's Python prints it.
func (c *legacyClient) packet(point, kind, table string, content pyliteral.Value) []byte {
	c.t.Helper()
	show := func(v pyliteral.Value) string {
		text, err := pyliteral.Append(nil, v, c.dialect)
		if err != nil {
			c.t.Fatal(err)
		}
		return string(text)
	}
	at := time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	signed, isText := pyliteral.Text(content)
	if !isText {
		signed = show(content)
	}
	return c.seal(fmt.Sprintf("{'userid': %s, 'Business': {'Type': '%s', 'Content': %s, 'Table_Name': %s, 'Table_Field': None, 'Is_Syncdb': True}, "+
		"'Error': {'Error_Flag': False, 'Error_Type': None, 'Error_Info': None}, "+
		"'Info_Status': {'Info_Type': 'REQUEST', 'Security_Token': '%x', 'Time': '%s', 'Is_End': True}}",
		show(pyliteral.Unicode(point)), kind, show(content), show(pyliteral.Unicode(table)), md5.Sum([]byte(signed+at+legacyTokenKey)), at))
}

func (c *legacyClient) seal(text string) []byte {
	payload := hex.EncodeToString(c.cbc.Seal([]byte(text)))
	sum := md5.Sum([]byte(payload))
	digits := hex.EncodeToString(sum[:])
	return []byte(digits[:16] + payload + digits[16:] + "\n\r\n")
}

// ask sends a packet and reads the reply.
func (c *legacyClient) ask(packet []byte) legacyReply {
	c.t.Helper()
	c.send(packet)
	return c.receive()
}

func (c *legacyClient) send(packet []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(packet); err != nil {
		c.t.Fatal(err)
	}
}

// receive reads one reply and checks its MD5 and its token.
func (c *legacyClient) receive() legacyReply {
	c.t.Helper()
	for !strings.Contains(string(c.buf), "\n\r\n") {
		piece := make([]byte, 64<<10)
		n, err := c.conn.Read(piece)
		if err != nil {
			c.t.Fatal(err)
		}
		c.buf = append(c.buf, piece[:n]...)
	}
	body, rest, _ := strings.Cut(string(c.buf), "\n\r\n")
	c.buf = []byte(rest)
	payload := body[16 : len(body)-16]
	sum := md5.Sum([]byte(payload))
	if body[:16]+body[len(body)-16:] != hex.EncodeToString(sum[:]) {
		c.t.Fatal("the MD5 of the reply does not fit")
	}
	box, err := hex.DecodeString(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := c.cbc.Open(box)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.read(text)
}

// read evaluates a reply and prints its Content again, as agents on the v1 wire do to check the token.
func (c *legacyClient) read(text []byte) legacyReply {
	c.t.Helper()
	node, err := pyliteral.Parse(text, pyliteral.Limits{Dialect: c.dialect})
	if err != nil {
		c.t.Fatalf("%v in %s", err, text)
	}
	get := func(group, key string) pyliteral.Value {
		n := node.Get(group)
		if n == nil || n.Get(key) == nil {
			c.t.Fatalf("no %s, %s in %s", group, key, text)
		}
		return n.Get(key).Value
	}
	r := legacyReply{content: get("Business", "Content"), word: get("Error", "Error_Type"), info: get("Error", "Error_Info")}
	r.failed, _ = get("Error", "Error_Flag").(bool)
	printed, err := pyliteral.Append(nil, r.content, c.dialect)
	if err != nil {
		c.t.Fatal(err)
	}
	r.text = string(printed)
	at, _ := pyliteral.Text(get("Info_Status", "Time"))
	token, _ := pyliteral.Text(get("Info_Status", "Security_Token"))
	if want := fmt.Sprintf("%x", md5.Sum([]byte(r.text+at+legacyTokenKey))); token != want {
		c.t.Fatalf("the token of the reply is %s, not %s: %s", token, want, text)
	}
	return r
}

// closed waits for the server to close the connection.
func (c *legacyClient) closed() {
	c.t.Helper()
	if n, err := c.conn.Read(make([]byte, 1)); err != io.EOF {
		c.t.Fatalf("the connection is open: %d bytes, %v", n, err)
	}
}
