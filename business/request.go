package business

import (
	"context"
	"time"

	"syncgate/protocol"
)

// Client is the way back to the sender of a request.
type Client interface {
	// Reply sends m, an answer to r. The last answer has no FlagMore. One that has it waits while the client is slow to
	// read. The error says that the client is gone.
	Reply(r *Request, m *protocol.Message) error
}

// Request is one message of a point on its way through the server. Whoever runs it answers it exactly once.
type Request struct {
	Point    string
	Message  *protocol.Message
	Client   Client
	MaxFrame int             // bytes of the largest frame that the client takes; 0: no limit (the v1 wire has none)
	Arrived  time.Time       // for metrics
	Rows     uint64          // that it moved, known when its last reply is sent
	Context  context.Context // ends when the client is gone: a download stops then, an upload is finished all the same

	answered bool
	status   protocol.Status // of the last answer

	// These are the Pool's.
	queue *queue // nil for a download
	size  int    // bytes of an upload, about
	leads bool   // it is the first of a batch of small uploads
}

// send hands m to the client. What was done stays done when the client is gone.
func (r *Request) send(m *protocol.Message) error {
	r.answered, r.status = r.answered || !m.More(), m.Status
	return r.Client.Reply(r, m)
}

// Answer answers the request with a body.
func (r *Request) Answer(body any) {
	_ = r.send(r.Message.Reply(protocol.StatusOK, body)) // gone: see send
}

// Refuse answers the request, unless it has been answered, with the number of err and a text that holds neither SQL nor
// values. It returns the number.
func (r *Request) Refuse(err error) protocol.Status {
	if !r.answered {
		_ = r.send(Refusal(r.Message, err)) // gone: see send
	}
	return StatusOf(err)
}

func (r *Request) setSize() {
	r.size = len(r.Message.Payload)
	if u, ok := r.Message.Body.(*protocol.UploadRequest); ok { // the v1 wire
		r.size = 16 * len(u.Rows.Values)
	}
}
