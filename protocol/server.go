package protocol

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/flynn/noise"

	"syncgate/crypto"
	"syncgate/internal/account"
	"syncgate/internal/limit"
)

// ServerOptions set up a Server. Keys, RulesVersion, Clock and Rand are required. A number that is zero takes its
// default from Limits.
type ServerOptions struct {
	Keys         func(point string, id uint32) (crypto.Key, bool) // live keys; called on every hello, must be quick
	RulesVersion func() uint64                                    // for WELCOME
	Clock        func() time.Time
	Rand         io.Reader       // cryptographic
	Ledger       *account.Ledger // points are charged for messages in pieces; may be nil

	ServerID     string        // at most 64 bytes; default "syncgate"
	MaxFrame     int           // largest body of a frame, in bytes
	MaxMessage   int           // largest payload that is taken in pieces, in bytes
	Uncompressed bool          // payloads are not packed
	MaxInFlight  int           // requests of one session without their last reply
	Keepalive    time.Duration // silence after which a client sends PING; whole seconds of it are used
	Handshakes   int           // accepted a second, see limiter
}

// Limits are the options' defaults and bounds.
func (o *ServerOptions) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Bytes("MaxFrame", &o.MaxFrame, DefaultMaxFrame, minMaxFrame, HardMaxFrame),
		limit.Bytes("MaxMessage", &o.MaxMessage, DefaultMaxMessage, 1<<20, hardMaxMessage),
		limit.Count("MaxInFlight", &o.MaxInFlight, 16, 1, math.MaxUint16),
		limit.Time("Keepalive", &o.Keepalive, time.Minute, time.Second, 10*time.Hour),
		limit.Count("Handshakes", &o.Handshakes, 500, 1, 1_000_000),
	}
}

// Server makes the server's side of sessions. It does no I/O. Any goroutine may call its methods.
type Server struct {
	opts    ServerOptions
	dh      noise.DHFunc
	limiter *limiter
	dummy   [crypto.KeySize]byte // replaces the key of a point that has none
	buffers sync.Pool            // *[]byte, in which Send encodes
	holds   *Holds
}

// NewServer checks the options and makes a Server.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Keys == nil || o.RulesVersion == nil || o.Clock == nil || o.Rand == nil {
		return nil, errors.New("protocol: server: Keys, RulesVersion, Clock and Rand are required")
	}
	if err := limit.Fill("protocol: server", o.Limits()); err != nil {
		return nil, err
	}
	if o.ServerID = cmp.Or(o.ServerID, "syncgate"); !validText(o.ServerID, maxSoftware) {
		return nil, fmt.Errorf("protocol: server: ServerID is more than %d bytes, or not UTF-8", maxSoftware)
	}
	s := &Server{opts: o, dh: noise.DH25519, limiter: newLimiter(o.Handshakes),
		holds: NewHolds(o.MaxMessage, o.Ledger, o.Clock)}
	s.buffers.New = func() any { return new([]byte) }
	if _, err := io.ReadFull(o.Rand, s.dummy[:]); err != nil {
		return nil, fmt.Errorf("protocol: server: %w", err)
	}
	return s, nil
}

// NewSession makes the session of one accepted connection.
func (s *Server) NewSession(remote netip.Addr) *ServerSession {
	return &ServerSession{server: s, remote: remote}
}

// Sweep forgets messages whose other pieces have not come for long. It is to be called now and then.
func (s *Server) Sweep() { s.holds.Sweep() }

// Event tells the caller of Receive what to do.
type Event struct {
	Reply       []byte // send it now
	Established bool   // the session became established; see ServerSession
	Reject      []byte // send it after RejectAfter, then close; receive nothing more
	RejectAfter time.Duration
	Message     *Message // a request
	Refused     error    // why Message, which came in pieces, is to be refused; it has no payload
	Answer      *Message // an answer to a RUN of the server's
}

// ServerSession is the server's side of one connection:
//
//	new ── HELLO opens: WELCOME ──> greeted ── first record opens ──> established ── Expired ──> GOAWAY, close
//	 └──── anything else: REJECT, close          └── the first record does not open: close
//
// Anybody who saw a HELLO can replay it, but only its maker can seal a record for the WELCOME. So the session is
// established at its first record. The limits of unestablished connections apply until then.
//
// One goroutine calls Receive, Cause and MaxFrame. Any goroutine may call the other methods.
type ServerSession struct {
	server *Server
	remote netip.Addr
	point  string
	keyID  uint32
	hello  hello

	established bool
	rejected    error // the cause, for the log only

	records atomic.Pointer[records] // nil before the WELCOME
	mu      sync.Mutex              // held while sealing and writing: records leave in the order of their counters
	asked   atomic.Uint64           // requests of the server's own
	joiner  joiner
}

// Point returns the authenticated point_no. It is empty before the WELCOME.
func (s *ServerSession) Point() string { return s.point }

// KeyID returns the id of the point's key.
func (s *ServerSession) KeyID() uint32 { return s.keyID }

// Software returns the client's own name and version: at most 64 bytes of UTF-8, and nothing to rely on.
func (s *ServerSession) Software() string { return s.hello.software }

// Cause returns why the server rejected the hello, or nil. It is for the log; the wire does not carry it. Point and key
// id in its text are the peer's claim.
func (s *ServerSession) Cause() error { return s.rejected }

// MaxFrame returns the largest body that the peer may send now, for Split. It changes when Receive returns Established.
func (s *ServerSession) MaxFrame() int {
	if s.established {
		return s.server.opts.MaxFrame
	}
	return HandshakeMax
}

// Expired reports that the session has used up its records or its hour. The server then sends GOAWAY, answers the
// requests in flight, and closes.
func (s *ServerSession) Expired(now time.Time) bool {
	r := s.records.Load()
	return r != nil && r.expired(now)
}

// Receive decodes one whole frame, in the order of arrival. It does not keep frame; Message.Payload is a new buffer.
// After an error the caller closes the connection and sends nothing.
func (s *ServerSession) Receive(frame []byte) (Event, error) {
	r := s.records.Load()
	switch {
	case s.rejected != nil:
		return Event{}, errUnexpected
	case r == nil:
		return s.receiveHello(frame)
	}
	m, err := r.open(nil, frame)
	if err != nil {
		return Event{}, err
	}
	e := Event{Established: !s.established, Message: m}
	s.established = true
	answer := m.RequestID.Epoch() == 0
	ran := answer && m.Op.clientAnswers() && m.Op != OpPing
	if !ran && (m.More() || m.Status != StatusOK || answer && m.Op != OpPing) {
		return Event{}, errEnvelope
	}
	if answer && !ran {
		e.Message = nil // the answer to our PING says no more than that the client is there
		return e, nil
	}
	e.Message, e.Refused = s.whole(m)
	if ran && e.Message != nil {
		e.Message, e.Answer = nil, m
		if err := cmp.Or(e.Refused, m.Unpack()); err != nil {
			return Event{}, err
		}
	}
	return e, nil
}

// whole returns m, or the message whose last piece it is, or nil. With an error m is to be refused, and has no payload.
func (s *ServerSession) whole(m *Message) (*Message, error) {
	var err error
	most := s.server.opts.MaxMessage
	switch m.Op {
	case OpSubscribe, OpHeld, OpRun: // they are read at once, with no charge
		most = mostAtOnce
	}
	if m.Flags&flagPiece != 0 {
		var whole bool
		if whole, err = s.joiner.add(m, most); err == nil && !whole {
			return nil, nil
		}
	}
	if err == nil && m.Flags&flagPacked != 0 {
		err = m.checkPacked(most)
	}
	if err != nil {
		m.Payload, m.Flags = nil, 0
	}
	return m, err
}

// Held answers a HELD of the session's point.
func (s *ServerSession) Held(r *HeldRequest) *HeldReply {
	return &HeldReply{s.server.holds.Of(s.point, r.Digest)}
}

// MaxPayload is the largest payload that Send takes.
func (s *ServerSession) MaxPayload() int {
	r := s.records.Load()
	return max(r.most, r.max-RecordOverhead)
}

// receiveHello answers a HELLO. A forged hello costs the server a few hashes and no elliptic-curve operation: the
// pre-shared key is mixed in before the first payload, so that the payload opens under the right key only. All bad
// hellos look the same from outside: without a key for the point, the server does the same work with a random key.
func (s *ServerSession) receiveHello(frame []byte) (Event, error) {
	if len(frame) >= headerSize && frameType(frame[4]) != frameHello {
		return Event{}, errUnexpected
	}
	reply, err := s.greet(frame, s.server.opts.Clock())
	s.rejected = err
	if told, ok := errors.AsType[*RejectError](err); ok {
		return Event{Reject: rejectFrame(told.Status, told.RetryAfter)}, nil
	}
	if err != nil {
		return Event{Reject: rejectFrame(StatusRejected, 0), RejectAfter: rejectDelay}, nil
	}
	return Event{Reply: reply}, nil
}

// greet returns the WELCOME. A *RejectError is one that the client may know, and is told at once.
func (s *ServerSession) greet(frame []byte, now time.Time) ([]byte, error) {
	if wait := s.server.limiter.source(s.remote, now); wait > 0 {
		return nil, &RejectError{StatusBusy, wait}
	}
	_, body, err := parseFrame(frame)
	if err != nil {
		return nil, err
	}
	point, id, message, err := parseHello(body)
	if err != nil {
		return nil, err
	}
	o := &s.server.opts
	key, known := o.Keys(point, id)
	if !known {
		key.Secret = s.server.dummy
	}
	key.Point, key.ID = point, id
	state, err := noise.NewHandshakeState(noiseConfig(s.server.dh, o.Rand, false, key))
	if err != nil {
		return nil, err
	}
	payload, _, _, err := state.ReadMessage(nil, message)
	switch {
	case !known:
		return nil, fmt.Errorf("%w: point %q, key id %d", errNoKey, point, id)
	case err != nil:
		return nil, fmt.Errorf("%w: point %q, key id %d", errAuth, point, id)
	}
	var h hello
	if err := decode(payload, &h); err != nil {
		return nil, err
	}
	if h.minVersion > Version || h.maxVersion < Version {
		return nil, &RejectError{Status: StatusVersionUnsupported}
	}
	if wait := s.server.limiter.authentic(point, now); wait > 0 {
		return nil, &RejectError{StatusBusy, wait}
	}
	granted := Welcome{Version, o.MaxFrame, o.MaxInFlight, o.Keepalive, now.UnixMilli(), o.ServerID,
		o.RulesVersion(), terms{}}
	if h.most > 0 {
		granted.most = o.MaxMessage
	}
	granted.packs = h.packs && !o.Uncompressed
	if payload, err = encode(nil, &granted); err != nil {
		return nil, err
	}
	reply, toServer, toClient, err := state.WriteMessage(nil, payload)
	if err != nil {
		return nil, err
	}
	s.records.Store(newRecords(toClient.UnsafeKey(), toServer.UnsafeKey(), o.MaxFrame, now,
		terms{h.most, granted.packs}))
	s.joiner = joiner{holds: s.server.holds, point: point}
	s.point, s.keyID, s.hello = point, id, h
	return plainFrame(frameWelcome, reply), nil
}

// Send is SendPaced without a wait.
func (s *ServerSession) Send(m *Message, write func(frame []byte) error) error {
	return s.SendPaced(m, func() (int, error) { return s.server.opts.MaxFrame, nil },
		func(frame []byte, _ bool) error { return write(frame) })
}

// SendPaced seals m and calls write with each frame, under the session's lock. So frames leave in the order of their
// counters, whichever goroutine sends. frame is valid during write only. SendPaced returns write's error. An error
// before write leaves the session unchanged. Before each record of a large message SendPaced calls wait, without the
// lock. wait returns how many bytes of the payload the record may have.
func (s *ServerSession) SendPaced(
	m *Message, wait func() (int, error), write func(frame []byte, last bool) error,
) error {
	scratch := s.server.buffers.Get().(*[]byte)
	defer s.server.buffers.Put(scratch)
	buf, err := m.plaintext((*scratch)[:0])
	if err != nil {
		return err
	}
	*scratch = buf
	r := s.records.Load()
	if r == nil {
		return errState
	}
	if payload := buf[headerSize+envelopeSize:]; !r.whole(len(payload)) {
		return s.sendPieces(r, m, payload, wait, write)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	frame, err := r.seal(buf, 0, m)
	if err != nil {
		return err
	}
	return write(frame, true)
}

func (s *ServerSession) sendPieces(r *records, m *Message, payload []byte, wait func() (int, error),
	write func(frame []byte, last bool) error) error {
	o, err := r.outgoing(m, payload)
	if err != nil {
		return err
	}
	scratch := s.server.buffers.Get().(*[]byte)
	defer s.server.buffers.Put(scratch)
	for more := true; more; {
		piece := unpaced
		if o.Size() > unpaced {
			if piece, err = wait(); err != nil {
				return err
			}
		}
		s.mu.Lock()
		*scratch, more, err = r.next((*scratch)[:0], o, piece)
		if err == nil {
			err = write(*scratch, !more)
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Ping makes a PING of the server's own. The client answers with the same id. Receive drops the answer.
func (s *ServerSession) Ping() *Message { return &Message{Op: OpPing, RequestID: s.RequestID()} }

// RequestID makes the next id of the server's own.
func (s *ServerSession) RequestID() RequestID { return MakeRequestID(0, s.asked.Add(1)) }
