package business

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"syncgate/internal/account"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

// Client is the way back to the sender of a request.
type Client interface {
	// Reply sends m, an answer to r. The last answer has no FlagMore. One that has it waits while the client is slow to
	// read, and returns ErrSlow when m was sent without the client having read what was before it in time. Any other
	// error says that the client is gone.
	Reply(r *Request, m *protocol.Message) error
}

// Request is one message of a point on its way through the server. Whoever runs it answers it exactly once.
type Request struct {
	Point      string
	Message    *protocol.Message
	Client     Client
	MaxPayload int             // bytes of the largest payload that the client takes; 0: no limit (the v1 wire has none)
	Payer      *account.Holder // is charged for the request until it is answered; may be nil
	Arrived    time.Time       // for metrics
	Context    context.Context // ends when the client is gone: a download stops then, an upload is still finished

	// Known when the last reply is sent:
	RuleID      uint64 // of the rule that it came under; 0: none
	Rows        uint64 // that it moved
	Quarantined uint64 // that it put into sync_quarantine
	Sent        uint64 // bytes of its replies' payloads
	Sample      string // of its values, for who watches requests

	answered    bool
	status      protocol.Status // of the last answer
	interrupted atomic.Bool     // the pool has ended it, because the database does not answer

	// These are the Pool's.
	queue *queue // nil for a download
	size  int    // bytes of an upload, about
	paid  int64  // what Payer is charged
	leads bool   // it is the first of a batch of small uploads
	alike bool   // others ask for the same and wait
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
	if r.interrupted.Load() && errors.Is(err, context.Canceled) {
		err = store.ErrUnavailable
	}
	if !r.answered {
		_ = r.send(Refusal(r.Message, err)) // gone: see send
	}
	return StatusOf(err)
}

// isV1 reports whether the request came over the v1 wire.
func (r *Request) isV1() bool { return r.Message.RequestID.Epoch()&protocol.LegacyEpoch != 0 }

func (r *Request) setSize() {
	r.size = max(len(r.Message.Payload), r.Message.Packed())
	if u, ok := r.Message.Body.(*protocol.UploadRequest); ok { // the v1 wire
		r.size = sizeOf(&u.Rows)
	}
}

// sizeOf is about how many bytes of memory rows take.
func sizeOf(rows *rowset.Rows) int {
	const value = 16 // an interface
	return value*len(rows.Values) + rowset.Size(rows.Values)
}

// accept charges what r holds while it waits. It returns false when its payer has its share.
func (r *Request) accept() bool {
	r.setSize()
	if r.Payer == nil || r.size == 0 {
		return true
	}
	if !r.Payer.Take(int64(r.size)) {
		return false
	}
	r.paid = int64(r.size)
	return true
}

// pay charges n bytes more, or returns them. They are held in any case.
func (r *Request) pay(n int) {
	if r.Payer != nil {
		r.Payer.Add(int64(n))
		r.paid += int64(n)
	}
}

// settle returns all that r was charged.
func (r *Request) settle() {
	if r.paid != 0 {
		r.Payer.Add(-r.paid)
		r.paid = 0
	}
}
