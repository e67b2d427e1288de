package test

import (
	"bytes"
	"crypto/md5"
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

	"syncgate/internal/harness/harnesstest"
)

const legacyKey = "0123456789abcdef"

// legacySettings are the settings of a server that speaks the v1 wire to this host.
func legacySettings() []string {
	return []string{"SYNCGATE_LISTEN_LEGACY=127.0.0.1:0", "SYNCGATE_LEGACY_KEY=text:" + legacyKey,
		"SYNCGATE_LEGACY_TOKEN_KEY=" + legacyTokenKey,
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
	return &legacyClient{t: t, conn: harnesstest.Dial(t, address), cbc: cbc, dialect: dialect}
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
	var user pyliteral.Value = pyliteral.Unicode(point)
	if n, err := strconv.ParseInt(point, 10, 64); err == nil {
		user = n
	}
	signed, isText := pyliteral.Text(content)
	if !isText {
		signed = show(content)
	}
	return c.seal(fmt.Sprintf("{'userid': %s, 'Business': {'Type': '%s', 'Content': %s, 'Table_Name': %s, "+
		"'Table_Field': None, 'Is_Syncdb': True}, 'Error': {'Error_Flag': False, 'Error_Type': None, "+
		"'Error_Info': None}, 'Info_Status': {'Info_Type': 'REQUEST', 'Security_Token': '%x', 'Time': '%s', "+
		"'Is_End': True}}",
		show(user), kind, show(content), show(pyliteral.Unicode(table)), md5.Sum([]byte(signed+at+legacyTokenKey)), at))
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
	for seen := 0; !bytes.Contains(c.buf[max(0, seen-2):], []byte("\n\r\n")); {
		seen = len(c.buf)
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
	r := legacyReply{content: get("Business", "Content"), word: get("Error", "Error_Type"),
		info: get("Error", "Error_Info")}
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
