package business_test

import (
	"context"
	"fmt"

	"syncgate/business"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// counter answers uploads with the number of their rows and has no database.
type counter struct{}

func (counter) Uploads(_ context.Context, batch []*business.Request) {
	for _, r := range batch {
		u, err := r.Message.UploadRequest()
		if err != nil {
			panic(err) // answered INTERNAL
		}
		r.Answer(&protocol.UploadReply{Applied: uint64(u.Rows.Len())})
	}
}

func (counter) Run(_ context.Context, r *business.Request) {
	r.Refuse(business.ErrUnsupported)
}

// printer is the way back to a client.
type printer chan string

func (p printer) Reply(_ *business.Request, m *protocol.Message) error {
	if m.Status != protocol.StatusOK {
		p <- m.Status.String()
		return nil
	}
	u, err := m.UploadReply()
	p <- fmt.Sprint(u.Applied, " rows")
	return err
}

func ExamplePool() {
	pool, err := business.NewPool(business.PoolOptions{Runner: counter{}})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- pool.Run(ctx) }()

	replies := make(printer)
	rows := rowset.Rows{Columns: []string{"id"}, Values: []any{int64(1), int64(2)}}
	for _, m := range []*protocol.Message{
		{Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(1, 1),
			Body: &protocol.UploadRequest{Table: "hits", Rows: rows}},
		{Op: protocol.OpFile, RequestID: protocol.MakeRequestID(1, 2)},
	} {
		if !pool.Submit(&business.Request{Point: "point-01", Message: m, Client: replies, Context: ctx}) {
			fmt.Println("busy")
		}
		fmt.Println(<-replies)
	}
	stop()
	fmt.Println(<-done)
	// Output:
	// 2 rows
	// SG0007
	// <nil>
}
