package reactor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The model test lets clients act at random and holds the reactor to three laws: every complete frame is delivered
// once and in order; every reply goes to the connection that asked, or to nobody; everything is freed at the end
// (which serve looks after).
//
// Seeds that once failed are kept in testdata/model and tried first. REACTOR_SEED=n tries n alone.
func TestModel(t *testing.T) {
	try := func(text string) bool {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return t.Run("seed "+text, func(t *testing.T) { runModel(t, seed) })
	}
	if text := os.Getenv("REACTOR_SEED"); text != "" {
		try(text)
		return
	}
	kept, err := filepath.Glob("testdata/model/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range kept {
		try(filepath.Base(name))
	}
	first := rand.Uint64() >> 16
	for i := range uint64(scaled(10, 1000)) {
		if text := strconv.FormatUint(first+i, 10); !try(text) {
			err := errors.Join(os.MkdirAll("testdata/model", 0o755), os.WriteFile("testdata/model/"+text, nil, 0o644))
			if err != nil {
				t.Error(err)
			}
			t.Fatalf("REACTOR_SEED=%s tries this again; it is kept in testdata/model", text)
		}
	}
}

// The first byte of a frame's body says how it is to be answered. Then come client and sequence, four bytes each, and
// filler. The answer begins with the same nine bytes.
const (
	answerNow    = iota // Conn.Write
	answerLater         // Begin, Send from a worker
	answerMuch          // Begin, SendWait of 64 KiB from a worker
	answerNot           // none
	answerByTime        // Begin, Conn.Write from the timer
	answerLast          // Conn.Write, CloseAfterFlush
	answerKinds
)

const modelHeader = 9

var errLast = errors.New("that was the last frame")

func modelBody(how byte, client, seq uint32, filler int) []byte {
	b := binary.BigEndian.AppendUint32([]byte{how}, client)
	return append(binary.BigEndian.AppendUint32(b, seq), make([]byte, filler)...)
}

// model is the server's side, and the place where either side leaves the first law it saw broken.
type model struct {
	jobs    chan func()
	mu      sync.Mutex
	clients []modelled
	broken  error
}

// modelled is what the server knows of one client.
type modelled struct {
	delivered uint32 // frames
	last      bool   // answerLast was delivered
	closed    int    // calls of Close
}

// modelConn is what the server's loop knows of one connection.
type modelConn struct {
	client uint32
	timed  [][]byte // answers for the timer
}

func (m *model) fail(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == nil {
		m.broken = fmt.Errorf(format, args...)
	}
}

func (m *model) handler() hooks {
	return hooks{frame: m.frame, timer: m.timer, close: func(c *Conn, err error) {
		if known, ok := c.Data.(*modelConn); ok {
			m.mu.Lock()
			m.clients[known.client].closed++
			m.mu.Unlock()
		}
	}}
}

func (m *model) frame(c *Conn, b []byte) error {
	how, client, seq := b[4], binary.BigEndian.Uint32(b[5:]), binary.BigEndian.Uint32(b[9:])
	if c.Data == nil {
		c.Data = &modelConn{client: client}
	}
	conn := c.Data.(*modelConn)
	m.note(conn, how, client, seq)
	b = bytes.Clone(b)
	r, id := c.loop().reactor, c.ID()
	switch how {
	case answerNow:
		c.Write(b)
	case answerLater:
		c.Begin()
		m.jobs <- func() { m.sent(r.Send(id, b, true)) }
	case answerMuch:
		c.Begin()
		m.jobs <- func() {
			m.sent(r.SendWait(context.Background(), id, frame(append(b[4:], make([]byte, 64<<10)...)), true, 1<<20))
		}
	case answerByTime:
		c.Begin()
		conn.timed = append(conn.timed, b)
		c.SetTimer(time.Millisecond)
	case answerLast:
		c.Write(b)
		c.CloseAfterFlush(errLast)
	}
	return nil
}

func (m *model) note(conn *modelConn, how byte, client, seq uint32) {
	m.mu.Lock()
	known := &m.clients[client]
	delivered, last := known.delivered, known.last
	known.delivered++
	known.last = how == answerLast
	m.mu.Unlock()
	switch {
	case conn.client != client:
		m.fail("client %d's frame came as client %d's", client, conn.client)
	case last:
		m.fail("client %d: frame %d delivered after the last", client, seq)
	case delivered != seq:
		m.fail("client %d: frame %d delivered as number %d", client, seq, delivered)
	}
}

func (m *model) timer(c *Conn) {
	conn := c.Data.(*modelConn)
	for _, b := range conn.timed {
		c.Write(b)
		c.Done()
	}
	conn.timed = nil
}

func (m *model) sent(err error) {
	if err != nil && err != ErrConnGone {
		m.fail("Send: %v", err)
	}
}

// runModel plays one seed: a reactor with limits drawn at random, and clients that each follow a script of their own.
func runModel(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	pick := func(of ...int) int { return of[rng.IntN(len(of))] }
	m := &model{jobs: make(chan func(), 10_000), clients: make([]modelled, 24)}
	s := serve(t, m.handler(), func(o *Options) {
		o.Loops = pick(1, 2, 3)
		o.Listeners[0].MaxInFlight = pick(1, 2, 16)
		o.TurnBytes = pick(1, 1000, 100_000)
		o.HighWater = pick(1, 1000, 256<<10)
		o.LingerTimeout = 50 * time.Millisecond
	})
	var workers, clients sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for job := range m.jobs {
				job()
			}
		})
	}
	for i := range m.clients {
		c := &modelClient{model: m, number: uint32(i), rng: rand.New(rand.NewPCG(seed, uint64(i)+1)), conn: s.dial(t)}
		clients.Go(c.play)
	}
	clients.Wait()
	eventually(t, "every connection is gone", func() bool { return s.Load().Conns == 0 })
	s.stop(t)
	close(m.jobs)
	workers.Wait()
	for i, known := range m.clients {
		if known.closed > 1 || known.closed == 0 && known.delivered > 0 {
			t.Errorf("client %d: Close was called %d times", i, known.closed)
		}
	}
	if m.broken != nil {
		t.Fatal(m.broken)
	}
}

// modelClient is one client. Two goroutines: play acts, hear reads what comes.
type modelClient struct {
	model  *model
	number uint32
	rng    *rand.Rand
	conn   *net.TCPConn

	mu       sync.Mutex
	kinds    []byte // of the frames sent whole, by sequence
	answered map[uint32]bool
}

func (c *modelClient) play() {
	c.answered = map[uint32]bool{}
	defer c.conn.Close()
	heard := make(chan error, 1)
	go func() { heard <- c.hear() }()
	cut := false // whether the server may be the one to end
	for range c.rng.IntN(40) {
		if !c.act(&cut) {
			break
		}
	}
	switch c.rng.IntN(4) {
	case 0:
		reset(c.conn)
		<-heard
		c.check(false, cut)
	case 1:
		c.conn.Close()
		<-heard
		c.check(false, cut)
	case 2:
		c.conn.Write([]byte{0, 0, 9}) // and never the rest
		fallthrough
	default:
		c.conn.CloseWrite()
		err := <-heard
		if !cut && err != io.EOF {
			c.model.fail("client %d: instead of the end: %v", c.number, err)
		}
		c.check(err == io.EOF, cut)
	}
}

// act does one random thing; false when the connection is at its end.
func (c *modelClient) act(cut *bool) bool {
	switch c.rng.IntN(10) {
	case 0:
		time.Sleep(time.Duration(c.rng.IntN(3000)) * time.Microsecond)
		return true
	case 1: // one byte at a time
		b := c.next(cut, 20)
		for i := range b {
			if _, err := c.conn.Write(b[i : i+1]); err != nil {
				return false
			}
		}
		return true
	case 2, 3: // many in one segment
		var all []byte
		for range c.rng.IntN(30) {
			all = append(all, c.next(cut, 100)...)
		}
		_, err := c.conn.Write(all)
		return err == nil
	case 4: // a large one, in two parts
		b := c.next(cut, 200<<10)
		half := c.rng.IntN(len(b))
		if _, err := c.conn.Write(b[:half]); err != nil {
			return false
		}
		time.Sleep(time.Duration(c.rng.IntN(1000)) * time.Microsecond)
		_, err := c.conn.Write(b[half:])
		return err == nil
	default:
		_, err := c.conn.Write(c.next(cut, 5000))
		return err == nil
	}
}

// next makes the next frame, and notes that it is about to be sent whole.
func (c *modelClient) next(cut *bool, filler int) []byte {
	how := byte(c.rng.IntN(answerKinds))
	if how == answerLast && c.rng.IntN(20) > 0 {
		how = answerNow
	}
	*cut = *cut || how == answerLast
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds = append(c.kinds, how)
	return frame(modelBody(how, c.number, uint32(len(c.kinds)-1), c.rng.IntN(filler)))
}

// hear checks every answer against what was asked, and returns why there are no more.
func (c *modelClient) hear() error {
	for {
		b, err := readFrame(c.conn)
		if err != nil {
			return err
		}
		if len(b) < modelHeader {
			c.model.fail("client %d: an answer of %d bytes", c.number, len(b))
			continue
		}
		how, client, seq := b[0], binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:])
		c.mu.Lock()
		asked := int(seq) < len(c.kinds) && c.kinds[seq] == how && how != answerNot
		again := c.answered[seq]
		c.answered[seq] = true
		c.mu.Unlock()
		if client != c.number || !asked || again {
			c.model.fail("client %d: answer %d for client %d, asked %v, had before %v",
				c.number, seq, client, asked, again)
		}
	}
}

// check is the account at the end. A client that said goodbye in order has had everything it asked for, up to its
// answerLast if it sent one; a client that did not can only have had what it asked for, which hear has seen to.
func (c *modelClient) check(orderly, cut bool) {
	if !orderly {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for seq, how := range c.kinds {
		if how != answerNot && !c.answered[uint32(seq)] {
			c.model.fail("client %d: frame %d of %d was never answered", c.number, seq, len(c.kinds))
			return
		}
		if how == answerLast {
			return
		}
	}
	c.model.mu.Lock()
	delivered := c.model.clients[c.number].delivered
	c.model.mu.Unlock()
	if int(delivered) != len(c.kinds) {
		c.model.fail("client %d: %d of %d frames were delivered", c.number, delivered, len(c.kinds))
	}
}
