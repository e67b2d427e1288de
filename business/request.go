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
	MaxFrame int // bytes of the largest frame the client takes; 0: no limit (the v1 wire has none)

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

// size is how many bytes an upload has, about.
func (r *Request) size() int {
	if u, ok := r.Message.Body.(*protocol.UploadRequest); ok { // the v1 wire
		return 16 * len(u.Rows.Values)
	}
	return len(r.Message.Payload)
}
