package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"

	"github.com/cloudwego/netpoll"
	"github.com/panjf2000/gnet/v2"

	"syncgate/reactor"
)

// The v2 wire's frame: 12 bytes of header with the body's length in the last four, the body, 16 bytes of digest.
const (
	headerSize  = 12
	trailerSize = 16
	maxBody     = 1 << 20
)

var errTooLarge = errors.New("frame too large")

// frameSize is the length of the frame that begins with this header.
func frameSize(header []byte) (int, error) {
	n := binary.BigEndian.Uint32(header[8:])
	if n > maxBody {
		return 0, errTooLarge
	}
	return headerSize + int(n) + trailerSize, nil
}

// A server echoes frames on addr until its process is ended.
type server func(addr string) error

var servers = map[string]server{
	"reactor": serveReactor, "gnet": serveGnet, "gnet-batched": serveGnetBatched, "netpoll": serveNetpoll,
	"net": serveNet,
}

type reactorEcho struct{}

func (reactorEcho) Open(c *reactor.Conn) error {
	c.Establish()
	c.SetMaxFrame(maxBody)
	return nil
}
func (reactorEcho) Frame(c *reactor.Conn, frame []byte) error { c.Write(frame); return nil }
func (reactorEcho) Timer(*reactor.Conn)                       {}
func (reactorEcho) Close(*reactor.Conn, error)                {}

func splitFrame(buf []byte, _ int) (int, error) {
	if len(buf) < headerSize {
		return 0, nil
	}
	n, err := frameSize(buf)
	if n > len(buf) {
		n = 0
	}
	return n, err
}

func serveReactor(addr string) error {
	r, err := reactor.New(reactor.Options{
		MaxConns: 20_000, MaxUnestablished: 20_000, MaxPerAddress: 20_000,
		Listeners: []reactor.Listener{{Address: addr, Split: splitFrame, Handler: reactorEcho{}}},
	})
	if err != nil {
		return err
	}
	return r.Run(context.Background())
}

// gnet as its documentation has it: frame by frame, each written when it is answered.
type gnetEcho struct {
	gnet.BuiltinEventEngine
	batched bool
}

func serveGnet(addr string) error { return runGnet(addr, gnetEcho{}) }

// serveGnetBatched is gnet with an application that collects a turn's replies by itself.
func serveGnetBatched(addr string) error { return runGnet(addr, gnetEcho{batched: true}) }

func runGnet(addr string, echo gnetEcho) error {
	return gnet.Run(&echo, "tcp://"+addr, gnet.WithMulticore(true), gnet.WithTCPNoDelay(gnet.TCPNoDelay))
}

func (e *gnetEcho) OnTraffic(c gnet.Conn) gnet.Action {
	if e.batched {
		return e.batch(c)
	}
	for c.InboundBuffered() >= headerSize {
		header, _ := c.Peek(headerSize)
		n, err := frameSize(header)
		if err != nil {
			return gnet.Close
		}
		if c.InboundBuffered() < n {
			break
		}
		frame, _ := c.Next(n)
		if _, err := c.Write(frame); err != nil {
			return gnet.Close
		}
	}
	return gnet.None
}

func (e *gnetEcho) batch(c gnet.Conn) gnet.Action {
	all, _ := c.Peek(-1)
	whole := 0
	for len(all)-whole >= headerSize {
		n, err := frameSize(all[whole:])
		if err != nil {
			return gnet.Close
		}
		if len(all)-whole < n {
			break
		}
		whole += n
	}
	if whole == 0 {
		return gnet.None
	}
	if _, err := c.Write(all[:whole]); err != nil {
		return gnet.Close
	}
	c.Discard(whole)
	return gnet.None
}

func serveNetpoll(addr string) error {
	ln, err := netpoll.CreateListener("tcp", addr)
	if err != nil {
		return err
	}
	loop, err := netpoll.NewEventLoop(func(_ context.Context, c netpoll.Connection) error {
		r, w := c.Reader(), c.Writer()
		for r.Len() >= headerSize {
			header, err := r.Peek(headerSize)
			if err != nil {
				return err
			}
			n, err := frameSize(header)
			if err != nil {
				return c.Close()
			}
			frame, err := r.Next(n) // waits for the rest
			if err != nil {
				return err
			}
			out, err := w.Malloc(n)
			if err != nil {
				return err
			}
			copy(out, frame)
		}
		r.Release()
		return w.Flush()
	})
	if err != nil {
		return err
	}
	return loop.Serve(ln)
}

func serveNet(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go echoNet(c)
	}
}

func echoNet(c net.Conn) {
	defer c.Close()
	r, w := bufio.NewReader(c), bufio.NewWriter(c)
	frame := make([]byte, headerSize)
	for {
		if _, err := io.ReadFull(r, frame[:headerSize]); err != nil {
			return
		}
		n, err := frameSize(frame[:headerSize])
		if err != nil {
			return
		}
		if cap(frame) < n {
			frame = append(make([]byte, 0, n), frame[:headerSize]...)
		}
		frame = frame[:n]
		if _, err := io.ReadFull(r, frame[headerSize:]); err != nil {
			return
		}
		if _, err := w.Write(frame); err != nil {
			return
		}
		if r.Buffered() == 0 { // a turn's replies leave in one write here too
			if err := w.Flush(); err != nil {
				return
			}
		}
	}
}
