package reactor_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"

	"syncgate/reactor"
)

// shout answers each line in capitals. It embeds nothing and holds no lock: its methods run on the connection's loop.
type shout struct{}

func (shout) Open(c *reactor.Conn) error { c.Establish(); return nil }

func (shout) Frame(c *reactor.Conn, line []byte) error {
	c.Write(bytes.ToUpper(line))
	return nil
}

func (shout) Timer(*reactor.Conn)        {}
func (shout) Close(*reactor.Conn, error) {}

// lines frames by line feeds.
func lines(buf []byte, max int) (int, error) { return bytes.IndexByte(buf, '\n') + 1, nil }

func Example() {
	r, err := reactor.New(reactor.Options{
		Listeners: []reactor.Listener{{Address: "127.0.0.1:0", Split: lines, Handler: shout{}}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error)
	go func() { ended <- r.Run(context.Background()) }()

	c, err := net.Dial("tcp", r.Addrs()[0].String())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(c, "can you hear me?")
	answer, _ := bufio.NewReader(c).ReadString('\n')
	fmt.Print(answer)
	c.Close()

	fmt.Println(r.Drain(context.Background()), <-ended)
	// Output:
	// CAN YOU HEAR ME?
	// <nil> <nil>
}
