package business

import (
	"syncgate/protocol"
)

// Replier takes a request's replies. Reply blocks while the client is slow to read, and fails when it is gone. The last
// reply of a request has no FlagMore.
type Replier interface {
	Reply(m *protocol.Message) error
}

// Request is one message of a point with the way back. Whoever runs it answers it exactly once.
type Request struct {
	Point    string
	Message  *protocol.Message
	Replier  Replier
	MaxFrame int // bytes of the largest frame the client takes; 0: no limit (the seed era has none)

	answered bool
}

// send hands m to the client. A client that is gone is told nothing, and what was done stays done.
func (r *Request) send(m *protocol.Message) error {
	r.answered = r.answered || !m.More()
	return r.Replier.Reply(m)
}

// reply answers the request with a body.
func (r *Request) reply(body any) {
	_ = r.send(r.Message.Reply(protocol.StatusOK, body)) // gone: see send
}

// fail answers the request, unless it has been answered, with the number of err and a text that holds neither SQL nor
// values.
func (r *Request) fail(err error) protocol.Status {
	s := StatusOf(err)
	if !r.answered {
		_ = r.send(Refusal(r.Message, err)) // gone: see send
	}
	return s
}

// shape is the table an upload is about and how many bytes it has, about. It is found without decoding the rows, because
// Submit is called on an event loop. An upload that has no table here is refused later, when it is decoded.
func (r *Request) shape() (table string, size int) {
	if r.Message.Op != protocol.OpUpload {
		return "", 0
	}
	if u, ok := r.Message.Body.(*protocol.UploadRequest); ok { // the seed-era wire
		return u.Table, 16 * len(u.Rows.Values)
	}
	return peekTable(r.Message.Payload), len(r.Message.Payload)
}

// peekTable reads the head of an UploadRequest's CBOR: a map whose ascending keys begin with 1 (Confirmed, an unsigned
// number, which may be missing) and 2 (Table, a text).
func peekTable(b []byte) string {
	if len(b) < 2 {
		return ""
	}
	b = b[1:]
	if b[0] == 1 {
		_, b = cborHead(b[1:])
	}
	if len(b) < 2 || b[0] != 2 || b[1]>>5 != 3 {
		return ""
	}
	n, b := cborHead(b[1:])
	if n > uint64(len(b)) {
		return ""
	}
	return string(b[:n])
}

// cborHead reads a head (RFC 8949, 3) and returns its number and what follows it; nothing when it is not whole.
func cborHead(b []byte) (n uint64, rest []byte) {
	if len(b) == 0 {
		return 0, nil
	}
	low := b[0] & 31
	if low < 24 {
		return uint64(low), b[1:]
	}
	if low > 27 || len(b) < 1+1<<(low-24) {
		return 0, nil
	}
	b = b[1:]
	for range 1 << (low - 24) {
		n, b = n<<8|uint64(b[0]), b[1:]
	}
	return n, b
}
