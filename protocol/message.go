package protocol

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Op says what a message asks for or answers. A reply carries the op of its request.
type Op uint8

// The ops of version 2. A server answers an op it does not know with StatusOpUnsupported.
const (
	OpPing      Op = 1 // is the peer there; the server's answer carries PingReply
	OpUpload    Op = 2 // UploadRequest → UploadReply
	OpDownload  Op = 3 // DownloadRequest → a stream of DownloadReply, FlagMore on all but the last
	OpRules     Op = 4 // empty → RulesReply: the rules the point itself has to run
	OpFile      Op = 5 // reserved; answered StatusOpUnsupported in this version
	OpSubscribe Op = 6 // empty → PingReply with FlagMore now and at each change of the rules
	OpGoAway    Op = 7 // server → client, unasked: GoAway; finish what is in flight and reconnect
)

// String is the op's lower-case name, or op(n) for a number this version does not know.
func (o Op) String() string {
	switch o {
	case OpPing:
		return "ping"
	case OpUpload:
		return "upload"
	case OpDownload:
		return "download"
	case OpRules:
		return "rules"
	case OpFile:
		return "file"
	case OpSubscribe:
		return "subscribe"
	case OpGoAway:
		return "goaway"
	}
	return fmt.Sprintf("op(%d)", uint8(o))
}

// FlagMore in Message.Flags: more replies follow for the same request. All other bits are 0 and refused otherwise.
const FlagMore uint8 = 1

// RequestID names a request and every reply to it. For an upload it is the agent's (epoch, sequence), the key of the
// ledger that makes uploads exactly once. Epoch 0 belongs to the server (its own PING and GOAWAY); a client never
// makes one up.
type RequestID [16]byte

// MakeRequestID joins an epoch and a sequence, both big-endian.
func MakeRequestID(epoch, seq uint64) RequestID {
	var id RequestID
	binary.BigEndian.PutUint64(id[:8], epoch)
	binary.BigEndian.PutUint64(id[8:], seq)
	return id
}

// Epoch is the first half of the id.
func (id RequestID) Epoch() uint64 { return binary.BigEndian.Uint64(id[:8]) }

// Seq is the second half of the id.
func (id RequestID) Seq() uint64 { return binary.BigEndian.Uint64(id[8:]) }

// String is epoch and sequence in hex, 16 digits each, joined by a dash.
func (id RequestID) String() string {
	return hex.EncodeToString(id[:8]) + "-" + hex.EncodeToString(id[8:])
}

// Message is one request or reply, of either wire.
//
// Body, when set, is one of the typed payloads of this package (a value or a pointer) and wins; else Payload is its
// CBOR. The methods named after the payloads return Body or decode Payload. Text and bytes they return alias Payload
// or one copy of it.
type Message struct {
	Op        Op
	Flags     uint8
	Status    Status
	RequestID RequestID
	Payload   []byte
	Body      any

	// room is the buffer in which Payload stands with space before it for the frame's head and after it for the tag
	// and the trailer, so that sealing needs no copy. RowEncoder makes it; sealing uses the message up.
	room []byte
}

// More reports whether more replies follow for the same request.
func (m *Message) More() bool { return m.Flags&FlagMore != 0 }

// Reply makes the reply to m: same op, same id.
func (m *Message) Reply(status Status, body any) *Message {
	return &Message{Op: m.Op, RequestID: m.RequestID, Status: status, Body: body}
}
