package agent

import (
	"bytes"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// centre is a server whose answers a test can set. By default it keeps a ledger like the real one, answers downloads
// from a list of numbered rows, and sends rules.
type centre struct {
	ran      chan *protocol.Message // answers to RUN
	t        testing.TB
	listener net.Listener
	wire     *protocol.Server
	wg       sync.WaitGroup

	version atomic.Uint64
	hello   atomic.Int64 // connections seen
	pongs   atomic.Int64 // answered pings of the server

	mu      sync.Mutex
	conns   map[*peer]bool
	script  func(p *peer, m *protocol.Message) (handled bool)
	reject  []byte // sent instead of a WELCOME while set
	rules   []protocol.RuleRow
	ledger  map[protocol.RequestID]entered
	streams map[uint64]entered  // the last upload of each stream, by epoch
	rows    map[string][]string // applied rows by table, as text, in order
	source  map[string][]any    // downloads: values of one-column rows by table
	pages   int                 // rows of a part; two parts a page
	seen    []protocol.RequestID
	count   bool          // rows are not kept
	lenient bool          // batches may leave the outbox without an acknowledgement
	change  chan struct{} // closed and replaced at every applied upload
}

type entered struct {
	digest  [32]byte
	reply   protocol.UploadReply
	reached protocol.Reached
}

// peer is one connection of an agent.
type peer struct {
	*centre
	conn    net.Conn
	session *protocol.ServerSession
	damage  atomic.Bool // the next record gets a flipped bit
	asked   atomic.Bool // it has sent a request
}

var testKey = crypto.Key{Point: "point-01", ID: 3, Secret: [32]byte{1, 2, 3}}

func newCentre(t testing.TB, change ...func(*protocol.ServerOptions)) *centre {
	t.Helper()
	c := &centre{t: t, conns: make(map[*peer]bool), ledger: make(map[protocol.RequestID]entered),
		streams: make(map[uint64]entered),
		rows:    make(map[string][]string), source: make(map[string][]any), pages: 3, change: make(chan struct{})}
	c.version.Store(1)
	keys := func(point string, id uint32) (crypto.Key, bool) {
		return testKey, point == testKey.Point && id == testKey.ID
	}
	o := protocol.ServerOptions{Keys: keys, RulesVersion: c.version.Load, Clock: time.Now, Rand: rand.Reader,
		Handshakes: 10_000}
	for _, f := range change {
		f(&o)
	}
	var err error
	if c.wire, err = protocol.NewServer(o); err != nil {
		t.Fatal(err)
	}
	c.listen("127.0.0.1:0")
	t.Cleanup(c.stop)
	return c
}

func (c *centre) address() string { return c.listener.Addr().String() }

func (c *centre) listen(address string) {
	var err error
	if c.listener, err = net.Listen("tcp", address); err != nil {
		c.t.Fatal(err)
	}
	listener := c.listener
	c.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.hello.Add(1)
			p := &peer{centre: c, conn: conn, session: c.wire.NewSession(netip.MustParseAddr("127.0.0.1"))}
			c.mu.Lock()
			c.conns[p] = true
			c.mu.Unlock()
			c.wg.Go(p.serve)
		}
	})
}

// stop closes the listener and every connection, as a kill does. listen starts again.
func (c *centre) stop() {
	_ = c.listener.Close()
	c.cut()
	c.wg.Wait()
}

// sessions are the connections that have asked for something.
func (c *centre) sessions() (all []*peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.conns {
		if p.asked.Load() {
			all = append(all, p)
		}
	}
	return all
}

func (c *centre) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.conns {
		_ = p.conn.Close()
	}
}

// on sets a function that gets each message before the centre.
func (c *centre) on(script func(*peer, *protocol.Message) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.script = script
}

func (p *peer) serve() {
	defer func() {
		_ = p.conn.Close()
		p.mu.Lock()
		delete(p.conns, p)
		p.mu.Unlock()
	}()
	frames := newFrames(p.conn, p.session.MaxFrame)
	for {
		frame, err := next(frames)
		if err != nil {
			return
		}
		p.mu.Lock()
		reject := p.reject
		p.mu.Unlock()
		if reject != nil {
			_, _ = p.conn.Write(reject)
			return
		}
		e, err := p.session.Receive(frame)
		if err != nil {
			return
		}
		if e.Reply != nil {
			_, _ = p.conn.Write(e.Reply)
		}
		if e.Reject != nil {
			_, _ = p.conn.Write(e.Reject)
			return
		}
		switch {
		case e.Refused != nil:
			p.refuse(e.Message, protocol.StatusOf(e.Refused), e.Refused.Error(), 0)
		case e.Message != nil:
			if err := e.Message.Unpack(); err != nil {
				p.t.Error(err)
			}
			p.asked.Store(true)
			p.message(e.Message)
		case e.Answer != nil:
			p.ran <- e.Answer
		case e.Reply == nil:
			p.pongs.Add(1)
		}
	}
}

func (p *peer) message(m *protocol.Message) {
	p.mu.Lock()
	script := p.script
	p.mu.Unlock()
	if script == nil || !script(p, m) {
		p.answer(m)
	}
}

func (p *peer) send(m *protocol.Message) {
	_ = p.session.Send(m, func(frame []byte) error {
		frame = bytes.Clone(frame)
		if p.damage.Load() {
			frame[len(frame)/2] ^= 4
		}
		_, err := p.conn.Write(frame)
		return err
	})
}

func (p *peer) refuse(m *protocol.Message, s protocol.Status, text string, after time.Duration) bool {
	p.send(m.Reply(s, &protocol.ErrorReply{Message: text, RetryAfterMs: uint32(after.Milliseconds())}))
	return true
}

// answer does what the real server does.
func (p *peer) answer(m *protocol.Message) {
	switch m.Op {
	case protocol.OpPing:
		p.send(m.Reply(protocol.StatusOK, &protocol.PingReply{RulesVersion: p.version.Load()}))
	case protocol.OpSubscribe:
		r := m.Reply(protocol.StatusOK, &protocol.PingReply{RulesVersion: p.version.Load()})
		r.Flags = protocol.FlagMore
		p.send(r)
	case protocol.OpRules:
		p.mu.Lock()
		reply := &protocol.RulesReply{Version: p.version.Load(), Rules: p.rules}
		p.mu.Unlock()
		p.send(m.Reply(protocol.StatusOK, reply))
	case protocol.OpResync:
		p.send(m.Reply(protocol.StatusOK, &protocol.ResyncReply{}))
	case protocol.OpReport:
		p.send(m.Reply(protocol.StatusOK, &protocol.ReportReply{}))
	case protocol.OpUpload:
		p.upload(m)
	case protocol.OpDownload:
		p.download(m, -1)
	}
}

func (p *peer) upload(m *protocol.Message) {
	reply, ok := p.apply(m)
	if !ok {
		p.send(m.Reply(protocol.StatusRequestIDReused, &protocol.ErrorReply{Reached: reply.Reached}))
		return
	}
	p.send(m.Reply(protocol.StatusOK, reply))
}

// streamed is what apply does first with an upload of a stream. done: the answer is final.
func (c *centre) streamed(u *protocol.UploadRequest, id protocol.RequestID,
	digest [32]byte) (reply *protocol.UploadReply, ok, done bool) {
	last, known := c.streams[id.Epoch()]
	reached := &protocol.UploadReply{Reached: last.reached}
	const generationBits = 32
	switch seq := last.reached.Seq; {
	case u.After != 0:
		if known && seq > u.After && seq>>generationBits != u.After>>generationBits && seq != id.Seq() {
			return reached, false, true
		}
		last.reached.Seq = id.Seq()
		c.streams[id.Epoch()] = last
		return reached, true, true
	case seq == id.Seq() && last.digest == digest:
		last.reply.Duplicate = true
		return &last.reply, true, true
	case seq+1 != id.Seq():
		return reached, false, true
	}
	return nil, false, false
}

// apply runs an upload once, like the ledger.
func (c *centre) apply(m *protocol.Message) (*protocol.UploadReply, bool) {
	u, err := m.UploadRequest()
	if err != nil {
		c.t.Errorf("upload: %v", err)
		return nil, false
	}
	digest, err := u.Digest()
	if err != nil {
		c.t.Errorf("digest: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.After != 0 || len(u.State) > 0 {
		if reply, ok, done := c.streamed(u, m.RequestID, digest); done {
			return reply, ok
		}
	}
	c.seen = append(c.seen, m.RequestID)
	if old, ok := c.ledger[m.RequestID]; ok {
		if old.digest != digest {
			return &protocol.UploadReply{}, false
		}
		old.reply.Duplicate = true
		return &old.reply, true
	}
	for seq := uint64(1); seq <= u.Confirmed; seq++ {
		if _, ok := c.ledger[protocol.MakeRequestID(m.RequestID.Epoch(), seq)]; !ok && !c.lenient {
			c.t.Errorf("batch %v confirms %d, which never came", m.RequestID, seq)
		}
	}
	for i := range u.Rows.Len() {
		if c.count {
			break
		}
		c.rows[u.Table] = append(c.rows[u.Table], fmt.Sprint(u.Rows.Row(i)...))
	}
	reply := protocol.UploadReply{Applied: uint64(u.Rows.Len()),
		ByOp: map[string]uint64{"insert": uint64(u.Rows.Len())}}
	c.ledger[m.RequestID] = entered{digest: digest, reply: reply}
	if len(u.State) > 0 {
		c.streams[m.RequestID.Epoch()] = entered{digest, reply,
			protocol.Reached{Seq: m.RequestID.Seq(), State: u.State}}
	}
	close(c.change)
	c.change = make(chan struct{})
	return &reply, true
}

// download sends two parts of the source from the state on, and the end. When cutAfter is not negative, it closes the
// connection after that many messages.
func (p *peer) download(m *protocol.Message, cutAfter int) {
	d, err := m.DownloadRequest()
	if err != nil {
		p.t.Errorf("download: %v", err)
		return
	}
	p.mu.Lock()
	all := p.source[d.Table]
	n := p.pages
	p.mu.Unlock()
	from := 0
	if len(d.State) > 0 {
		from = int(d.State[0].Value.(int64))
	}
	sent := 0
	for range 2 {
		if sent == cutAfter {
			_ = p.conn.Close()
			return
		}
		to := min(from+n, len(all))
		if from < to {
			r := m.Reply(protocol.StatusOK,
				&protocol.DownloadReply{Columns: []string{"name"}, Types: []string{"VARCHAR"}, Values: all[from:to]})
			r.Flags = protocol.FlagMore
			p.send(r)
			sent++
		}
		from = to
	}
	p.send(m.Reply(protocol.StatusOK, &protocol.DownloadReply{
		State: []rowset.StateItem{{Name: "at", Value: int64(from)}}, More: from < len(all), Total: uint64(from)}))
}

// got waits until n rows of a table were applied and returns them.
func (c *centre) got(table string, n int) []string {
	c.t.Helper()
	deadline := time.After(waitLimit)
	for {
		c.mu.Lock()
		rows, change := c.rows[table], c.change
		c.mu.Unlock()
		if len(rows) >= n {
			return rows
		}
		select {
		case <-change:
		case <-deadline:
			c.t.Fatalf("%d rows of %s after %v, want %d", len(rows), table, waitLimit, n)
		}
	}
}

// waitLimit bounds waits that take well under a second on an idle machine.
const waitLimit = 30 * time.Second

// rejectFrame is a REJECT like the server's.
func rejectFrame(s protocol.Status, after time.Duration) []byte {
	frame := []byte{0xc5, 'S', 'G', 2, 4, 0, 0, 0, 0, 0, 0, 6}
	frame = binary.BigEndian.AppendUint16(frame, uint16(s))
	frame = binary.BigEndian.AppendUint32(frame, uint32(after.Milliseconds()))
	sum := md5.Sum(frame)
	return append(frame, sum[:]...)
}
