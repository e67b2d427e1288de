package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Op says what a message asks for or answers. A reply carries the op of its request.
type Op uint8

// The ops of version 2. A server answers an op it does not know with StatusOpUnsupported.
const (
	OpPing      Op = 1  // asks whether the peer is there
	OpUpload    Op = 2  // rows for the centre
	OpDownload  Op = 3  // asks for the centre's rows
	OpRules     Op = 4  // asks for the rules that the point itself runs
	OpFile      Op = 5  // reserved; answered with StatusOpUnsupported in this version
	OpSubscribe Op = 6  // asks for a reply now, one at each change of the rules and one when a table has news
	OpGoAway    Op = 7  // finish what is in flight, and reconnect
	OpCompare   Op = 8  // asks for checksums of ranges of the centre's rows, or for the rows that differ in one range
	OpResync    Op = 9  // reports a comparison that the centre has asked for, and asks for the next
	OpReport    Op = 10 // says how the point and its rules are
	OpRun       Op = 11 // asks the client to run a rule now
	OpHeld      Op = 12 // asks how much has come of a message in pieces
)

// ops declares each op once. The names, the messages that a session accepts and the table of ops in docs/protocol.md
// derive from it. A new op is a number above, a line here, its payloads in payload.go and their accessors below.
var ops = [...]struct {
	name           string
	from           sides   // who may ask
	request, reply payload // nil: no payload
	several        bool    // replies; all but the last have FlagMore
}{
	OpPing:      {"ping", fromClient | fromServer, nil, (*PingReply)(nil), false},
	OpUpload:    {"upload", fromClient, (*UploadRequest)(nil), (*UploadReply)(nil), false},
	OpDownload:  {"download", fromClient, (*DownloadRequest)(nil), (*DownloadReply)(nil), true},
	OpRules:     {"rules", fromClient, nil, (*RulesReply)(nil), false},
	OpFile:      {"file", fromClient, nil, nil, false},
	OpSubscribe: {"subscribe", fromClient, (*SubscribeRequest)(nil), (*SubscribeReply)(nil), true},
	OpGoAway:    {"goaway", fromServer, (*GoAway)(nil), nil, false},
	OpCompare:   {"compare", fromClient, (*CompareRequest)(nil), (*CompareReply)(nil), false},
	OpResync:    {"resync", fromClient, (*ResyncRequest)(nil), (*ResyncReply)(nil), false},
	OpReport:    {"report", fromClient, (*ReportRequest)(nil), (*ReportReply)(nil), false},
	OpRun:       {"run", fromServer, (*RunRequest)(nil), (*RunReply)(nil), true},
	OpHeld:      {"held", fromClient, (*HeldRequest)(nil), (*HeldReply)(nil), false},
}

type sides uint8

const (
	fromClient sides = 1 << iota
	fromServer
)

// String is the op's lower-case name, or op(n) for a number this version does not know.
func (o Op) String() string {
	if int(o) < len(ops) && ops[o].name != "" {
		return ops[o].name
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// clientAnswers reports whether the op is one that the server asks and the client replies to.
func (o Op) clientAnswers() bool {
	return int(o) < len(ops) && ops[o].from&fromServer != 0 && ops[o].reply != nil
}

// FlagMore in Message.Flags says that more replies follow for the same request. All other bits must be 0.
const FlagMore uint8 = 1

// RequestID names a request and every reply to it. For an upload it is (epoch, sequence) of the agent's outbox, the key
// of the ledger that makes uploads exactly once. Epoch 0 is the server's, for its own PING, RUN and GOAWAY. Epochs from
// LegacyEpoch on are the v1 wire's.
type RequestID [16]byte

// MakeRequestID joins an epoch and a sequence, both big-endian.
func MakeRequestID(epoch, seq uint64) RequestID {
	var id RequestID
	binary.BigEndian.PutUint64(id[:8], epoch)
	binary.BigEndian.PutUint64(id[8:], seq)
	return id
}

// Epoch returns the first half of the id.
func (id RequestID) Epoch() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// Seq returns the second half of the id.
func (id RequestID) Seq() uint64 { return binary.BigEndian.Uint64(id[8:]) }

// String is epoch and sequence in hex, 16 digits each, joined by a dash.
func (id RequestID) String() string {
	return fmt.Sprintf("%x-%x", id[:8], id[8:])
}

// Message is one request or reply, of either wire.
//
// Body, when set, points to one of this package's payloads; otherwise Payload holds the CBOR of one. The methods named
// after the payloads return Body, or decode Payload and fail with ErrPayload or ErrLimit. An empty Payload is a payload
// whose fields are all zero. The text and bytes in a result alias Payload or one copy of it.
type Message struct {
	Op        Op
	Flags     uint8
	Status    Status
	RequestID RequestID
	Payload   []byte
	Body      any
	Have      Held // of a reply that is to be sent: what its receiver has, if it is the same
}

// More reports whether more replies follow for the same request.
func (m *Message) More() bool { return m.Flags&FlagMore != 0 }

// Reply makes the reply to m: same op, same id.
func (m *Message) Reply(status Status, body any) *Message {
	return &Message{Op: m.Op, RequestID: m.RequestID, Status: status, Body: body}
}

// UploadRequest also refuses a request of the v2 wire under an epoch of the v1 wire (LegacyEpoch), with
// StatusRequestIDReused: both wires share a ledger.
func (m *Message) UploadRequest() (*UploadRequest, error) {
	if m.Body == nil && m.RequestID.Epoch()&LegacyEpoch != 0 {
		return nil, errEpoch
	}
	return bodyOf[UploadRequest](m)
}

func (m *Message) UploadReply() (*UploadReply, error)         { return bodyOf[UploadReply](m) }
func (m *Message) DownloadRequest() (*DownloadRequest, error) { return bodyOf[DownloadRequest](m) }
func (m *Message) DownloadReply() (*DownloadReply, error)     { return bodyOf[DownloadReply](m) }
func (m *Message) RulesReply() (*RulesReply, error)           { return bodyOf[RulesReply](m) }
func (m *Message) PingReply() (*PingReply, error)             { return bodyOf[PingReply](m) }
func (m *Message) CompareRequest() (*CompareRequest, error)   { return bodyOf[CompareRequest](m) }
func (m *Message) CompareReply() (*CompareReply, error)       { return bodyOf[CompareReply](m) }
func (m *Message) ResyncRequest() (*ResyncRequest, error)     { return bodyOf[ResyncRequest](m) }
func (m *Message) ResyncReply() (*ResyncReply, error)         { return bodyOf[ResyncReply](m) }
func (m *Message) ReportRequest() (*ReportRequest, error)     { return bodyOf[ReportRequest](m) }
func (m *Message) ReportReply() (*ReportReply, error)         { return bodyOf[ReportReply](m) }
func (m *Message) HeldRequest() (*HeldRequest, error)         { return bodyOf[HeldRequest](m) }
func (m *Message) HeldReply() (*HeldReply, error)             { return bodyOf[HeldReply](m) }
func (m *Message) ErrorReply() (*ErrorReply, error)           { return bodyOf[ErrorReply](m) }
func (m *Message) GoAway() (*GoAway, error)                   { return bodyOf[GoAway](m) }

func bodyOf[T any, P interface {
	*T
	payload
}](m *Message) (*T, error) {
	if m.Body != nil {
		b, ok := m.Body.(*T)
		if !ok {
			return nil, fmt.Errorf("%w: %T", errBody, m.Body)
		}
		return b, nil
	}
	if err := m.Unpack(); err != nil {
		return nil, err
	}
	b := P(new(T))
	if err := decode(m.Payload, b); err != nil {
		return nil, err
	}
	return b, nil
}

// AppendPayload appends to dst the CBOR of a typed payload that body points to.
func AppendPayload(dst []byte, body any) ([]byte, error) {
	p, ok := body.(payload)
	if !ok {
		return dst, fmt.Errorf("%w: %T", errBody, body)
	}
	return encode(dst, p)
}

// tableWithin is the longest start of a payload that holds the table.
const tableWithin = 32 + maxName

// Forget drops the payload of a request that will not run, but for what Table reads.
func (m *Message) Forget() {
	m.Payload = bytes.Clone(m.Payload[:min(len(m.Payload), packedHead+tableWithin)])
}

// Table returns the table of an UPLOAD, DOWNLOAD or COMPARE without decoding the rows. It is "" when there is none;
// decoding the request then returns an error.
func (m *Message) Table() string {
	switch b := m.Body.(type) {
	case *UploadRequest:
		return b.Table
	case *DownloadRequest:
		return b.Table
	case *CompareRequest:
		return b.Table
	}
	payload := m.start()
	c := coder{decoder: decoder{buf: payload[:min(len(payload), tableWithin)]}, reading: true}
	c.entries = c.expect(majorMap, "a map")
	table := ""
	switch m.Op {
	case OpUpload:
		c.text(2, &table, maxName)
	case OpDownload, OpCompare:
		c.text(1, &table, maxName)
	}
	return table
}
