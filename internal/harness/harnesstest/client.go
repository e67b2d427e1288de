// Package harnesstest is a client of the v2 wire for tests, which can send what an agent never sends.
package harnesstest

import (
	"crypto/rand"
	"fmt"
	"net"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// Patience bounds waits that take well under a second on an idle machine.
const Patience = 2 * time.Minute

// Client is one connection on the v2 wire. It can send what an agent never sends.
type Client struct {
	Conn net.Conn
	Wire *protocol.Client
	t    testing.TB
	buf  []byte
}

// Dial connects to an address until the test ends.
func Dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		err = conn.SetDeadline(time.Now().Add(2 * Patience))
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// Knock connects and sends a HELLO. It does not wait for the answer.
func Knock(t testing.TB, address string, key crypto.Key) *Client {
	t.Helper()
	c := &Client{t: t}
	var err error
	c.Wire, err = protocol.NewClient(protocol.ClientOptions{Point: key.Point, KeyID: key.ID, Key: key.Secret,
		Clock: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	hello, err := c.Wire.Hello()
	if err != nil {
		t.Fatal(err)
	}
	c.Conn = Dial(t, address)
	if _, err := c.Conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	return c
}

// Handshake is Knock that waits for the answer. The error is the server's refusal.
func Handshake(t testing.TB, address string, key crypto.Key) (*Client, error) {
	t.Helper()
	c := Knock(t, address, key)
	_, err := c.Next()
	return c, err
}

// Next reads one frame. The message is nil when the frame concerns the connection alone.
func (c *Client) Next() (*protocol.Message, error) {
	for {
		n, err := protocol.Split(c.buf, c.Wire.MaxFrame())
		if err != nil {
			return nil, err
		}
		if n > 0 {
			m, err := c.Wire.Receive(c.buf[:n])
			c.buf = c.buf[n:]
			return m, err
		}
		piece := make([]byte, 64<<10)
		if n, err = c.Conn.Read(piece); err != nil {
			return nil, err
		}
		c.buf = append(c.buf, piece[:n]...)
	}
}

// Read reads the next message that does not concern the connection alone.
func (c *Client) Read() *protocol.Message {
	c.t.Helper()
	for {
		m, err := c.Next()
		if err != nil {
			c.t.Fatal(err)
		}
		if m != nil {
			return m
		}
	}
}

// Send seals a message and writes it.
func (c *Client) Send(m *protocol.Message) {
	c.t.Helper()
	frame, err := c.Wire.Seal(nil, m)
	if err == nil {
		_, err = c.Conn.Write(frame)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Ask sends a request and reads its one reply, which must be the next message.
func (c *Client) Ask(op protocol.Op, id protocol.RequestID, body any) *protocol.Message {
	c.t.Helper()
	c.Send(&protocol.Message{Op: op, RequestID: id, Body: body})
	m := c.Read()
	if m.Op != op || m.RequestID != id {
		c.t.Fatalf("asked %v %v, answered %v %v", op, id, m.Op, m.RequestID)
	}
	return m
}

// Replies reads all replies to a request and passes over other messages.
func (c *Client) Replies(id protocol.RequestID) (all []*protocol.Message) {
	c.t.Helper()
	for {
		m := c.Read()
		if m.RequestID != id {
			continue
		}
		if all = append(all, m); !m.More() {
			return all
		}
	}
}

// Status is a reply's status, and its text when it is a refusal.
func (c *Client) Status(m *protocol.Message) string {
	c.t.Helper()
	if m.Status == protocol.StatusOK {
		return "OK"
	}
	e, err := m.ErrorReply()
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprintf("%s: %s", m.Status.Info().Name, e.Message)
}

// Upload sends rows and returns the status and, when it is OK, the reply.
func (c *Client) Upload(table string, rows rowset.Rows) (protocol.Status, *protocol.UploadReply) {
	c.t.Helper()
	id := c.Wire.RequestID()
	c.Send(&protocol.Message{Op: protocol.OpUpload, RequestID: id,
		Body: &protocol.UploadRequest{Table: table, Rows: rows}})
	m := c.Replies(id)[0]
	if m.Status != protocol.StatusOK {
		return m.Status, nil
	}
	reply, err := m.UploadReply()
	if err != nil {
		c.t.Fatal(err)
	}
	return m.Status, reply
}

// Download is one request for a table from a state on.
type Download struct {
	Rows   rowset.Rows
	Last   *protocol.DownloadReply // nil after a refusal
	Parts  int
	Status protocol.Status
	Text   string // Client.Status of the last reply
}

// Download sends a request and collects the parts of its reply.
func (c *Client) Download(id protocol.RequestID, r *protocol.DownloadRequest) (d Download) {
	c.t.Helper()
	c.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: id, Body: r})
	for _, m := range c.Replies(id) {
		d.Status, d.Text, d.Last = m.Status, c.Status(m), nil
		if m.Status != protocol.StatusOK {
			return d
		}
		var err error
		if d.Last, err = m.DownloadReply(); err != nil {
			c.t.Fatal(err)
		}
		d.Parts++
		if len(d.Last.Columns) > 0 {
			d.Rows.Columns = d.Last.Columns
		}
		d.Rows.Values = append(d.Rows.Values, d.Last.Values...)
	}
	return d
}
