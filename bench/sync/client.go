package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// client is one connection of one point, as lean as a client can be: what is measured is the server.
type client struct {
	conn  net.Conn
	in    *bufio.Reader
	wire  *protocol.Client
	out   []byte
	epoch uint64
	seq   uint64
}

// readBuffer is what a client needs that reads whole frames of any size.
const readBuffer = 2 << 20

func dial(ctx context.Context, address string, key crypto.Key, buffer int) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, buffer), epoch: uint64(time.Now().UnixNano())}
	c.wire, err = protocol.NewClient(protocol.ClientOptions{Point: key.Point, KeyID: key.ID, Key: key.Secret,
		Clock: time.Now, Rand: rand.Reader})
	if err != nil {
		return nil, err
	}
	hello, err := c.wire.Hello()
	if err == nil {
		_, err = conn.Write(hello)
	}
	if err == nil {
		err = c.frame(func(frame []byte) error { _, err := c.wire.Receive(frame); return err })
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// frame hands the next whole frame to f; the bytes are valid only during the call.
func (c *client) frame(f func([]byte) error) error {
	for want := 12; ; {
		buf, err := c.in.Peek(want)
		if err != nil {
			return err
		}
		if have := c.in.Buffered(); have > want {
			if buf, err = c.in.Peek(have); err != nil {
				return err
			}
		}
		n, err := protocol.Split(buf, c.wire.MaxFrame())
		if err != nil {
			return err
		}
		if n > 0 {
			if err := f(buf[:n]); err != nil {
				return err
			}
			_, err := c.in.Discard(n)
			return err
		}
		want = len(buf) + 1
	}
}

// send seals a message under the next request id.
func (c *client) send(m *protocol.Message) error {
	c.seq++
	m.RequestID = protocol.MakeRequestID(c.epoch, c.seq)
	var err error
	if c.out, err = c.wire.Seal(c.out[:0], m); err != nil {
		return err
	}
	_, err = c.conn.Write(c.out)
	return err
}

// next waits for the next message that is not the connection's own business.
func (c *client) next() (*protocol.Message, error) {
	for {
		var m *protocol.Message
		err := c.frame(func(frame []byte) (err error) { m, err = c.wire.Receive(frame); return err })
		if err != nil || m != nil {
			return m, err
		}
	}
}

// reply waits for the next message that answers a request other than a ping.
func (c *client) reply() (*protocol.Message, error) {
	for {
		m, err := c.next()
		if err != nil {
			return nil, err
		}
		if m.Op == protocol.OpPing {
			continue
		}
		if m.Status != protocol.StatusOK {
			text := ""
			if e, err := m.ErrorReply(); err == nil {
				text = e.Message
			}
			return nil, fmt.Errorf("%v: %s", m.Status, text)
		}
		return m, nil
	}
}

// upload sends rows.
func (c *client) upload(table string, rows rowset.Rows) error {
	return c.send(&protocol.Message{Op: protocol.OpUpload, Body: &protocol.UploadRequest{Table: table, Rows: rows}})
}

// acknowledged waits for one acknowledgement.
func (c *client) acknowledged(rows int) error {
	m, err := c.reply()
	if err != nil {
		return err
	}
	r, err := m.UploadReply()
	if err != nil {
		return err
	}
	if int(r.Applied) != rows {
		return fmt.Errorf("%d of %d rows were applied", r.Applied, rows)
	}
	return nil
}

// download reads a whole table, decodes every row, and tells when the first one was there.
func (c *client) download(table string) (rows int, first time.Duration, err error) {
	began := time.Now()
	var state []rowset.StateItem
	for more := true; more; {
		if err := c.send(&protocol.Message{Op: protocol.OpDownload,
			Body: &protocol.DownloadRequest{Table: table, State: state}}); err != nil {
			return rows, first, err
		}
		for last := false; !last; {
			m, err := c.reply()
			if err != nil {
				return rows, first, err
			}
			r, err := m.DownloadReply()
			if err != nil {
				return rows, first, err
			}
			if rows == 0 && len(r.Values) > 0 {
				first = time.Since(began)
			}
			rows += r.Rows().Len()
			last, more, state = !m.More(), r.More, r.State
		}
	}
	return rows, first, nil
}
