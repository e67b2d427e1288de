package protocol

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"syncgate/internal/pyliteral"
)

// LegacySession is the server's side of one connection of the seed-era wire. It has the methods of ServerSession that a
// connection needs, and they mean the same:
//
//	new ── a request whose token fits ──> established ── another ──> established
//	 └───────────────── one that is refused ──┴──> the one answer, RejectAfter, close
//
// Requests have no ids on the wire, so one is answered before the next is received: the listener has one in flight.
//
// Send may be called by any goroutine; the other methods are by one.
type LegacySession struct {
	legacy *Legacy
	point  string
	cause  error

	mu      sync.Mutex
	pending *legacyRequest // that is being answered
}

// Point is the point that all requests of the connection are of; empty before the first.
func (s *LegacySession) Point() string { return s.point }

// Cause is why the connection was rejected, nil when it was not: for log and metric, never for the wire.
func (s *LegacySession) Cause() error { return s.cause }

// MaxFrame is the most hex digits a payload may have, for SplitLegacy.
func (s *LegacySession) MaxFrame() int { return legacyFrame }

// Expired is false: a seed-era connection has no end of its own.
func (s *LegacySession) Expired(time.Time) bool { return false }

// Receive takes one packet, when the one before it was answered. packet is not kept.
//
// A request of an agent gives Event.Message; its Body is an *UploadRequest, whose columns have empty names, or a
// *DownloadRequest. One of an agent that does not fit, or can't be taken now, gives the answer in Event.Reply instead.
// Everything else gives the same Event.Reject, the same time after Receive was called, whatever was wrong and however
// long it took to find out. An error means: close the connection, say nothing.
func (s *LegacySession) Receive(packet []byte) (Event, error) {
	l := s.legacy
	begun := l.opts.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause != nil || s.pending != nil {
		return Event{}, errUnexpected
	}
	r, err := s.authenticate(packet, begun)
	if r == nil {
		s.cause = err
		reply := l.refusal(err)
		return Event{Reject: reply, RejectAfter: max(0, rejectDelay-l.opts.Clock().Sub(begun))}, nil
	}
	e := Event{Established: s.point == ""}
	s.point = r.point
	if err == nil {
		e.Message, err = r.message(l.names)
	}
	if err != nil {
		e.Reply = l.failed(r, err)
		return e, nil
	}
	r.content = nil // its values are in the message
	r.id, r.op = e.Message.RequestID, e.Message.Op
	s.pending = r
	return e, nil
}

// authenticate reads a packet and admits its request. No request is a stranger's; one with an error is an agent's all
// the same, and can't be taken now.
func (s *LegacySession) authenticate(packet []byte, now time.Time) (*legacyRequest, error) {
	l := s.legacy
	text, err := openLegacy(packet, l.cbc)
	if err != nil {
		return nil, err
	}
	r, err := l.request(text)
	if err != nil {
		return nil, err
	}
	if d := now.Sub(r.time); d > l.opts.Window || d < -l.opts.Window {
		return nil, fmt.Errorf("%w: it is %v from ours", errLegacyTime, d)
	}
	if !validPoint(r.point) || s.point != "" && s.point != r.point || !l.opts.Allow(r.point) {
		return nil, fmt.Errorf("%w: %.64q", errLegacyPoint, r.point)
	}
	// A byte-identical upload may come again: it has the same id, and the ledger has its reply.
	err = l.memory.admit(r.token, r.digest, r.time, now, r.typ == l.names["UPLOAD_DB"])
	if err != nil && !errors.Is(err, errLegacyFull) {
		return nil, err
	}
	if r.shown {
		l.shown.Store(r.point, r.dialect)
	}
	return r, err
}

// refusal is the one answer to a request that is not known to be an agent's, which says nothing of what came. A packet
// that is damaged is told so: that much everybody can see.
func (l *Legacy) refusal(cause error) []byte {
	stranger := &legacyRequest{legacyPrinter: legacyPrinter{neutral: true}}
	if errors.Is(cause, errLegacyMD5) || errors.Is(cause, errLegacyPacket) {
		return l.packet(stranger, []byte(legacyNone), l.names["Receive_Data_Error"], "the packet could not be read")
	}
	return l.packet(stranger, []byte(legacyNone), l.names["Info_Certification_Error"], "refused")
}

// Send takes the reply to the request, in parts or whole, and calls write with the packet once it is whole, under the
// session's lock. The packet is not used again afterwards. When rows are too many for a reply the agent is told so and
// Send returns an error with StatusTooLarge; further parts find no request. GOAWAY and PING have no form here and are
// nothing.
func (s *LegacySession) Send(m *Message, write func(packet []byte) error) error {
	if m.Op == OpGoAway || m.Op == OpPing {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.pending
	if r == nil || r.id != m.RequestID {
		return errState
	}
	packet, err := s.legacy.reply(r, m)
	if err != nil {
		packet = s.legacy.failed(r, err)
	}
	if packet == nil {
		return nil
	}
	s.pending = nil
	return errors.Join(err, write(packet))
}

// legacyNone is a Content that holds nothing.
const legacyNone = "None"

// reply takes a message in and returns the packet once it is whole.
func (l *Legacy) reply(r *legacyRequest, m *Message) ([]byte, error) {
	if m.Status != StatusOK {
		e, err := m.ErrorReply()
		if err != nil {
			return nil, err
		}
		return l.failure(r, m.Status, e.Message), nil
	}
	if r.op == OpUpload {
		u, err := m.UploadReply()
		if err != nil {
			return nil, err
		}
		note := ""
		if n := len(u.Quarantined); n > 0 {
			note = fmt.Sprintf("%v: %d rows were put aside", StatusRowRefused, n)
		}
		return l.packet(r, []byte(legacyNone), "", note), nil
	}
	d, err := m.DownloadReply()
	if err == nil {
		err = r.add(d)
	}
	switch {
	case err != nil || m.More():
		return nil, err
	case r.lists == 0:
		return l.packet(r, []byte("[]"), "", ""), nil
	}
	return l.packet(r, append(r.reply, "]]"...), "", ""), nil
}

// add prints the rows of a part, of whose statement a list is open or is opened. Statements without a part have an
// empty list.
func (r *legacyRequest) add(d *DownloadReply) error {
	if len(d.Columns) == 0 {
		return nil
	}
	list := int(d.Statement) + 1
	if list < r.lists || list > r.lists+maxColumns {
		return fmt.Errorf("%w: list %d after %d", errBody, list, r.lists)
	}
	for ; r.lists < list; r.lists++ {
		open := "], ["
		if r.lists == 0 {
			open = "[["
		}
		r.reply, r.printed = append(r.reply, open...), 0
	}
	types := make([]string, len(d.Columns))
	for i := range min(len(types), len(d.Types)) {
		types[i] = legacyType(d.Types[i])
	}
	rows, row := d.Rows(), make(pyliteral.Tuple, len(types))
	for i := range rows.Len() {
		for k, v := range rows.Row(i) {
			var ok bool
			if row[k], ok = r.value(v, types[k]); !ok {
				return fmt.Errorf("%w: %T", ErrValue, v)
			}
		}
		if r.printed > 0 {
			r.reply = append(r.reply, ", "...)
		}
		text, err := pyliteral.Append(r.reply, row, r.dialect)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
		r.reply = text
		r.printed++
		if len(r.reply) > legacyMaxReply {
			return errLegacyReply
		}
	}
	return nil
}

// failure is the packet that answers a request which was not done.
func (l *Legacy) failure(r *legacyRequest, s Status, text string) []byte {
	return l.packet(r, []byte(legacyNone), l.names[s.Info().word], fmt.Sprintf("%v: %s", s, text))
}

// failed is failure for an error, whose text the agent is told when it is of this package: those hold no values.
func (l *Legacy) failed(r *legacyRequest, err error) []byte {
	text := "the server failed"
	var w *wireError
	if errors.As(err, &w) {
		text = strings.TrimPrefix(err.Error(), "protocol: ")
	}
	return l.failure(r, StatusOf(err), text)
}

// legacyRaw is printed as it stands.
type legacyRaw []byte

// packet prints a reply: an error word makes it one of a request that was not done.
func (l *Legacy) packet(r *legacyRequest, content []byte, word, info string) []byte {
	now := l.opts.Clock().In(l.opts.Zone).Format("2006-01-02 15:04:05.000000")
	var failure, note pyliteral.Value
	if word != "" {
		failure = pyliteral.Str(word)
	}
	if info != "" {
		note = r.text(info)
	}
	text := make([]byte, 0, len(content)+1024)
	for _, f := range []struct {
		before, key string
		value       pyliteral.Value
	}{
		{"{", "userid", r.userID},
		{", ", "Business", legacyRaw("{")}, {"", "Type", r.typed}, {", ", "Content", legacyRaw(content)},
		{", ", "Table_Name", r.named}, {", ", "Table_Field", r.tableField}, {", ", "Is_Syncdb", r.isSyncdb},
		{"}, ", "Error", legacyRaw("{")}, {"", "Error_Flag", word != ""},
		{", ", "Error_Type", failure}, {", ", "Error_Info", note},
		{"}, ", "Info_Status", legacyRaw("{")}, {"", "Info_Type", pyliteral.Str(l.names["RESPONSE"])},
		{", ", "Security_Token", pyliteral.Str(legacyToken(content, now, l.opts.TokenKey))},
		{", ", "Time", pyliteral.Str(now)}, {", ", "Is_End", true},
	} {
		text = append(text, f.before...)
		text = append(r.print(text, pyliteral.Str(l.names[f.key])), ": "...)
		if raw, ok := f.value.(legacyRaw); ok {
			text = append(text, raw...)
		} else {
			text = r.print(text, f.value)
		}
	}
	return sealLegacy(append(text, "}}"...), l.cbc)
}
