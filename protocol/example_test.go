package protocol_test

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// A client and a server, with function calls in the place of the network.
func Example() {
	key := crypto.Key{Point: "point-01", ID: 7, Secret: [32]byte{1, 2, 3}}
	live := func(point string, id uint32) (crypto.Key, bool) { return key, point == key.Point && id == key.ID }
	server, err := protocol.NewServer(protocol.ServerOptions{
		Keys: live, RulesVersion: func() uint64 { return 42 }, Clock: time.Now, Rand: rand.Reader,
	})
	must(err)
	client, err := protocol.NewClient(protocol.ClientOptions{
		Point: key.Point, KeyID: key.ID, Key: key.Secret, Clock: time.Now, Rand: rand.Reader,
	})
	must(err)

	session := server.NewSession(netip.MustParseAddr("192.0.2.1"))
	hello, err := client.Hello()
	must(err)
	event, err := session.Receive(hello)
	must(err)
	_, err = client.Receive(event.Reply)
	must(err)
	fmt.Println("rules version", client.Welcome().RulesVersion)

	stream, err := client.Seal(nil, &protocol.Message{
		Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(1, 1),
		Body: &protocol.UploadRequest{Table: "t", Rows: rowset.Rows{Columns: []string{"id"}, Values: []any{int64(5)}}},
	})
	must(err)
	for len(stream) > 0 { // the first Seal made two frames
		n, err := protocol.Split(stream, session.MaxFrame())
		must(err)
		event, err = session.Receive(stream[:n])
		must(err)
		fmt.Printf("%s asks for %s %q\n", session.Point(), event.Message.Op, event.Message.Table())
		stream = stream[n:]
	}

	reply := event.Message.Reply(protocol.StatusOK, &protocol.UploadReply{Applied: 1})
	must(session.Send(reply, func(frame []byte) error {
		m, err := client.Receive(frame)
		must(err)
		r, err := m.UploadReply()
		must(err)
		fmt.Println("applied", r.Applied)
		return nil
	}))
	// Output:
	// rules version 42
	// point-01 asks for ping ""
	// point-01 asks for upload "t"
	// applied 1
}

// The rows of a driver go straight into the record that carries them.
func ExampleRowEncoder() {
	var e protocol.RowEncoder
	must(e.Begin(0, []rowset.Column{{Name: "id", Type: "INT"}, {Name: "hash", Type: "BINARY", Binary: true}}))
	must(e.Append([]any{int64(1), []byte{0xab, 0xcd}}))
	must(e.Append([]any{int64(2), nil}))
	m, err := e.Last(protocol.MakeRequestID(1, 1), []rowset.StateItem{{Name: "id", Value: int64(2)}}, false)
	must(err)
	r, err := m.DownloadReply()
	must(err)
	fmt.Println(r.Columns, r.Rows().Row(0), r.Rows().Row(1), r.State, r.Total)
	// Output: [id hash] [1 [171 205]] [2 <nil>] [{id 2}] 2
}

// An outbox stores a request once, and inserts the latest confirmed sequence at each try.
func ExampleWithConfirmed() {
	stored, err := protocol.AppendPayload(nil, &protocol.UploadRequest{Table: "t"})
	must(err)
	payload, err := protocol.WithConfirmed(stored, 17)
	must(err)
	m := protocol.Message{Op: protocol.OpUpload, Payload: payload}
	u, err := m.UploadRequest()
	must(err)
	fmt.Println(u.Table, u.Confirmed)
	// Output: t 17
}

func ExampleStatus() {
	s := protocol.Status(104)
	fmt.Println(s, s.Info().Name)
	// Output: SG0104 UNKNOWN_COLUMN
}

func ExampleSplit() {
	for _, buf := range []string{"", "\xc5SG", "GET / HTTP/1.1"} {
		n, err := protocol.Split([]byte(buf), protocol.HandshakeMax)
		fmt.Println(n, err)
	}
	// Output:
	// 0 <nil>
	// 0 <nil>
	// 0 protocol: frame does not start with C5 53 47 02
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
