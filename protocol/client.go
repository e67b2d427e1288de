package protocol

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/flynn/noise"

	"syncgate/crypto"
	"syncgate/internal/rowset"
)

// ClientOptions set up a Client. Clock and Rand are required.
type ClientOptions struct {
	Point    string // 1..64 bytes of UTF-8
	KeyID    uint32
	Key      [crypto.KeySize]byte
	Software string // name and version for the server's log, at most 64 bytes; default "syncgate-agent"
	Clock    func() time.Time
	Rand     io.Reader // cryptographic

	Holds *Holds // of messages that come in pieces; nil: none are taken
	Packs bool   // payloads may be packed
}

// Client is the client's side of one connection. It does no I/O. The caller writes the result of Hello, passes each
// received frame to Receive, and after the WELCOME writes the results of Seal in their order. A new connection needs a
// new Client.
//
// One goroutine may call Receive while another calls Seal.
type Client struct {
	opts    ClientOptions
	state   *noise.HandshakeState
	records *records
	welcome Welcome

	// The session is established at its first record, which must be small. So the first record is a PING of the
	// client's own. Receive drops the answer.
	first     RequestID
	confirmed bool
	ping      []byte // its frame, until Seal has returned it
	epoch     uint64
	seq       atomic.Uint64
	joiner    joiner
}

// NewClient checks the options and makes a Client.
func NewClient(o ClientOptions) (*Client, error) {
	o.Software = cmp.Or(o.Software, "syncgate-agent")
	if !validPoint(o.Point) || !validText(o.Software, maxSoftware) || o.Clock == nil || o.Rand == nil {
		return nil, errors.New("protocol: client: Point (1 to 64 bytes), Clock and Rand are required; " +
			"Software has up to 64")
	}
	return &Client{opts: o}, nil
}

// Hello returns the first frame of a connection.
func (c *Client) Hello() ([]byte, error) {
	if c.state != nil {
		return nil, errUnexpected
	}
	key := crypto.Key{Point: c.opts.Point, ID: c.opts.KeyID, Secret: c.opts.Key}
	state, err := noise.NewHandshakeState(noiseConfig(noise.DH25519, c.opts.Rand, true, key))
	if err != nil {
		return nil, fmt.Errorf("protocol: client: %w", err)
	}
	payload, err := encode(nil, &hello{Version, Version, c.opts.Software, c.opts.Clock().UnixMilli(), c.terms()})
	if err != nil {
		return nil, err
	}
	body, _, _, err := state.WriteMessage(appendName(nil, key.Point, key.ID), payload)
	if err != nil {
		return nil, fmt.Errorf("protocol: client: %w", err)
	}
	var epoch [8]byte
	if _, err := io.ReadFull(c.opts.Rand, epoch[:]); err != nil {
		return nil, fmt.Errorf("protocol: client: %w", err)
	}
	c.epoch = max(binary.BigEndian.Uint64(epoch[:])&^LegacyEpoch, 1)
	c.state = state
	return plainFrame(frameHello, body), nil
}

func (c *Client) terms() terms {
	t := terms{packs: c.opts.Packs}
	if c.opts.Holds != nil {
		t.most = c.opts.Holds.most
	}
	return t
}

// RequestID makes the next id of this connection, for requests that have no id in an outbox. Its epoch is random, and
// none of the v1 wire. Any goroutine may call it after Hello.
func (c *Client) RequestID() RequestID {
	return MakeRequestID(c.epoch, c.seq.Add(1))
}

// Receive decodes one whole frame, in the order of arrival. The message is nil for the WELCOME, after which Welcome
// returns what the server granted, for the answer to the client's first PING, and for a piece of a message that is not
// whole yet. A REJECT returns a *RejectError.
// After any error the caller closes the connection.
//
// A PING whose id has epoch 0 comes from the server. The answer is a PING with the same id.
func (c *Client) Receive(frame []byte) (*Message, error) {
	if c.records == nil {
		return nil, c.receiveAnswer(frame)
	}
	m, err := c.records.open(nil, frame)
	if err != nil {
		return nil, err
	}
	if m.Op == OpPing && m.RequestID == c.first {
		return nil, nil
	}
	if m.Flags&flagPiece != 0 {
		if whole, err := c.joiner.add(m, c.terms().most); !whole {
			return nil, err
		}
	}
	if m.Flags&flagPacked != 0 {
		if err := m.checkPacked(c.terms().most + DefaultMaxMessage); err != nil {
			return nil, err
		}
	}
	return m, m.Unpack()
}

// Held is what has come of the reply to a request, when the connection has ended within it.
func (c *Client) Held(id RequestID) Held { return c.joiner.held(id) }

// receiveAnswer decodes the answer to HELLO: WELCOME or REJECT.
func (c *Client) receiveAnswer(frame []byte) error {
	typ, body, err := parseFrame(frame)
	switch {
	case err != nil:
		return err
	case typ == frameReject && c.state != nil:
		return parseReject(body)
	case typ != frameWelcome || c.state == nil:
		return errUnexpected
	case len(body) < noiseMin:
		return errWelcome
	}
	payload, toServer, toClient, err := c.state.ReadMessage(nil, body)
	if err != nil {
		return errAuth
	}
	var w Welcome
	if err := decode(payload, &w); err != nil {
		return err
	}
	c.first = c.RequestID()
	c.welcome = w
	c.records = newRecords(toServer.UnsafeKey(), toClient.UnsafeKey(), w.MaxFrame, c.opts.Clock(), w.terms)
	c.joiner = joiner{holds: c.opts.Holds, point: c.opts.Point}
	return nil
}

// Welcome returns what the server granted; before the WELCOME it is zero.
func (c *Client) Welcome() Welcome { return c.welcome }

// MaxFrame returns the largest body that the server may send now, for Split.
func (c *Client) MaxFrame() int {
	if c.records == nil {
		return HandshakeMax
	}
	return c.welcome.MaxFrame
}

// Seal appends the frame of m to dst, and does not allocate when dst has room. The first call appends the client's own
// PING before it.
func (c *Client) Seal(dst []byte, m *Message) ([]byte, error) {
	if c.records == nil {
		return nil, errState
	}
	if m.RequestID.Epoch() == 0 && !m.Op.clientAnswers() {
		return nil, errRequestID
	}
	if !c.confirmed {
		var err error
		if c.ping, err = c.records.append(nil, &Message{Op: OpPing, RequestID: c.first}); err != nil {
			return nil, err
		}
		c.confirmed = true
	}
	frames, err := c.records.append(append(dst, c.ping...), m)
	if err == nil {
		c.ping = nil // kept until a message could be sealed, since both leave together
	}
	return frames, err
}

// Prepare makes m ready to be sent by Next. Any goroutine may call it.
func (c *Client) Prepare(m *Message) (*Outgoing, error) {
	if c.records == nil {
		return nil, errState
	}
	payload := m.Payload
	if m.Body != nil {
		var err error
		var room []byte
		if u, ok := m.Body.(*UploadRequest); ok { // a large row needs much, so that it does not grow step by step
			room = make([]byte, 0, 4<<10+rowset.Size(u.Rows.Values))
		}
		if payload, err = AppendPayload(room, m.Body); err != nil {
			return nil, err
		}
	}
	return c.records.outgoing(m, payload)
}

// Next appends to dst the frame of the next record of o, which carries at most so many bytes of the payload. more
// reports whether there is another. Records of other messages may be sealed between them.
func (c *Client) Next(dst []byte, o *Outgoing, piece int) (frames []byte, more bool, err error) {
	m, more := c.records.cut(o, piece)
	frames, err = c.Seal(dst, &m)
	return frames, more, err
}

// Expired reports that the session has used up its records or its hour. The client then opens another connection for
// new requests, and closes this one after its last reply.
func (c *Client) Expired(now time.Time) bool { return c.records != nil && c.records.expired(now) }
