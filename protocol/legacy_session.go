package protocol

import (
	"crypto/aes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
)

// LegacySession is the server's side of one connection of the v1 wire. It has the methods of ServerSession that a
// connection needs, with the same meaning:
//
//	new ── request with a valid token ──> established ── another ──> established
//	 └──────────── refused request ───────────┴──> wait RejectAfter, send the one answer, close
//
// Requests have no ids on this wire, so the listener allows one in flight: it is answered before the next is received.
//
// Any goroutine may call Send. One goroutine calls the other methods.
type LegacySession struct {
	legacy *Legacy
	point  string
	cause  error

	mu      sync.Mutex
	pending *legacyRequest // the request in flight
}

// Point returns the point of all requests of the connection. It is empty before the first.
func (s *LegacySession) Point() string { return s.point }

// Cause returns why the server rejected the connection, or nil. It is for log and metric; the wire does not carry it.
func (s *LegacySession) Cause() error { return s.cause }

// MaxFrame returns the most hex digits of a payload, for SplitLegacy.
func (s *LegacySession) MaxFrame() int { return s.legacy.opts.MaxPacket }

// Expired is false: a connection of the v1 wire has no end of its own.
func (s *LegacySession) Expired(time.Time) bool { return false }

// Receive decodes one packet. The caller has answered the packet before it. Receive does not keep packet.
//
// For an agent's request Event.Message has a Body: an *UploadRequest, whose columns have empty names, or a
// *DownloadRequest. For an agent's request that is malformed, or that the server cannot accept now, Event.Reply has the
// answer. Anything else leads to the same Event.Reject at the same time after the call, whatever is wrong with the
// packet. After an error the caller closes the connection and sends nothing.
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
	r.content = nil // the message has its values
	r.id, r.op = e.Message.RequestID, e.Message.Op
	s.pending = r
	return e, nil
}

// Peek tells whether the beginning of a packet, at least some hundred bytes, can be an agent's: whether its first bytes
// decrypt to those of a request, which only a holder of the key can bring about. If not, Peek returns the Event that
// refuses the connection, as Receive does for the whole packet. So a stranger cannot make the server keep a large one.
func (s *LegacySession) Peek(part []byte) (Event, bool) {
	l := s.legacy
	box := make([]byte, 2*aes.BlockSize)
	if len(part) >= legacyHalf+hex.EncodedLen(len(box)) {
		if _, err := hex.Decode(box, part[legacyHalf:][:hex.EncodedLen(len(box))]); err == nil {
			if text, err := l.cbc.Open(box); err == nil && l.begins(string(text)) {
				return Event{}, true
			}
		}
	}
	s.cause = errLegacyText
	return Event{Reject: l.refusal(s.cause), RejectAfter: rejectDelay}, false
}

// begins tells whether text can be the beginning of a request: a dict whose first key is one of the four.
func (l *Legacy) begins(text string) bool {
	text, ok := strings.CutPrefix(text, "{")
	text = strings.TrimLeft(strings.TrimLeft(text, " \t\r\n"), "uUbB")
	if !ok || text == "" || text[0] != '\'' && text[0] != '"' {
		return false
	}
	key := text[1:]
	for _, name := range [...]string{"userid", "Business", "Error", "Info_Status"} {
		if name = l.names[name]; strings.HasPrefix(key, name[:min(len(name), len(key))]) {
			return true
		}
	}
	return false
}

// authenticate decodes a packet and admits its request. A nil request means that the packet is not an agent's. A
// request with an error is an agent's, and the server cannot accept it now.
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
		return nil, fmt.Errorf("%w: it is %v from the server's", errLegacyTime, d)
	}
	if !validPoint(r.point) || s.point != "" && s.point != r.point || !l.opts.Allow(r.point) {
		return nil, fmt.Errorf("%w: %.64q", errLegacyPoint, r.point)
	}
	// An upload may be repeated byte for byte: it has the same id, and the ledger has its reply.
	err = l.memory.admit(r.token, r.digest, r.time, now, r.typ == l.names["UPLOAD_DB"])
	if err != nil && !errors.Is(err, errLegacyFull) {
		return nil, err
	}
	if r.shown {
		l.shown.Store(r.point, r.dialect)
	}
	return r, err
}

// refusal is the one answer to a request that is not known to be an agent's. It repeats nothing of the request. A
// damaged packet gets another word, since anybody can see the damage.
func (l *Legacy) refusal(cause error) []byte {
	stranger := &legacyRequest{legacyPrinter: legacyPrinter{neutral: true}}
	if errors.Is(cause, errLegacyMD5) || errors.Is(cause, errLegacyPacket) {
		return l.packet(stranger, []byte(legacyNone), l.names["Receive_Data_Error"], "the packet could not be read")
	}
	return l.packet(stranger, []byte(legacyNone), l.names["Info_Certification_Error"], "refused")
}

// Refusal is a reply to a packet of which nothing more is known than that an agent sent it. It repeats nothing of the
// request. text says what is wrong, and what would cure it.
func (l *Legacy) Refusal(status Status, text string) []byte {
	return l.failure(&legacyRequest{legacyPrinter: legacyPrinter{neutral: true}}, status, text)
}

// Send collects the parts of the reply to the request in flight. With the last part it calls write with the packet,
// under the session's lock; write may keep the packet. When the rows exceed a reply, Send answers with an error instead
// and returns an error with StatusTooLarge; it refuses further parts. Send ignores GOAWAY and PING, which this wire
// does not have.
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

// legacyNone is an empty Content.
const legacyNone = "None"

// reply adds a message to the reply and returns the packet once it is complete.
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
		if n := uint64(len(u.Quarantined)) + u.LeftOut; n > 0 {
			note = fmt.Sprintf("%v: %d rows were put aside", StatusRowRefused, n)
		}
		return l.packet(r, []byte(legacyNone), "", note), nil
	}
	d, err := m.DownloadReply()
	if err == nil {
		err = l.add(r, d)
	}
	switch {
	case err != nil || m.More():
		return nil, err
	case r.lists == 0:
		return l.packet(r, []byte("[]"), "", ""), nil
	}
	return l.finish(r, append(r.reply, "]]"...), r.begun, "", ""), nil
}

// add prints the rows of a part into the list of its statement, behind the beginning of the reply. A statement without
// a part has an empty list.
func (l *Legacy) add(r *legacyRequest, d *DownloadReply) error {
	if len(d.Columns) == 0 {
		return nil
	}
	list := int(d.Statement) + 1
	if list < r.lists || list > r.lists+maxColumns {
		return fmt.Errorf("%w: list %d after %d", errBody, list, r.lists)
	}
	if r.reply == nil {
		r.reply = l.begin(r)
		r.begun = len(r.reply)
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
	rows := d.Rows()
	if size := 2 * rowset.Size(rows.Values); cap(r.reply)-len(r.reply) < size {
		r.reply = slices.Grow(r.reply, len(r.reply)+size) // so that a large reply is seldom copied
	}
	for i := range rows.Len() {
		if r.printed > 0 {
			r.reply = append(r.reply, ", "...)
		}
		if err := r.row(rows.Row(i), types); err != nil {
			return err
		}
		r.printed++
		if len(r.reply)-r.begun > l.opts.MaxReply {
			return errLegacyReply
		}
	}
	return nil
}

// row prints a row as a tuple.
func (r *legacyRequest) row(values []any, types []string) (err error) {
	dst := append(r.reply, '(')
	for k, v := range values {
		if k > 0 {
			dst = append(dst, ", "...)
		}
		if dst, err = r.appendValue(dst, v, types[k]); err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
	}
	if len(values) == 1 {
		dst = append(dst, ',')
	}
	r.reply = append(dst, ')')
	return nil
}

// failure makes the packet for a request that was not done.
func (l *Legacy) failure(r *legacyRequest, s Status, text string) []byte {
	return l.packet(r, []byte(legacyNone), l.names[s.Info().word], fmt.Sprintf("%v: %s", s, text))
}

// failed is failure for an error. The agent gets the text of this package's errors only: those hold no values.
func (l *Legacy) failed(r *legacyRequest, err error) []byte {
	text := "the server failed"
	if _, ok := errors.AsType[*wireError](err); ok {
		text = strings.TrimPrefix(err.Error(), "protocol: ")
	}
	return l.failure(r, StatusOf(err), text)
}

// legacyField is one entry of a reply: what stands before its key, the key, and its value. A legacyRaw is printed as it
// is.
type legacyField struct {
	before, key string
	value       pyliteral.Value
}

type legacyRaw string

func (l *Legacy) print(r *legacyRequest, text []byte, fields []legacyField) []byte {
	for _, f := range fields {
		text = append(text, f.before...)
		text = append(r.print(text, pyliteral.Str(l.names[f.key])), ": "...)
		if raw, ok := f.value.(legacyRaw); ok {
			text = append(text, raw...)
		} else {
			text = r.print(text, f.value)
		}
	}
	return text
}

// packet prints a reply. A word, which is an Error_Type, marks a request that was not done.
func (l *Legacy) packet(r *legacyRequest, content []byte, word, info string) []byte {
	text := l.begin(r)
	begun := len(text)
	return l.finish(r, append(text, content...), begun, word, info)
}

// begin prints a reply up to its Content.
func (l *Legacy) begin(r *legacyRequest) []byte {
	return l.print(r, make([]byte, 0, 1024), []legacyField{
		{"{", "userid", r.userID}, {", ", "Business", legacyRaw("{")},
		{"", "Type", r.typed}, {", ", "Content", legacyRaw("")},
	})
}

// finish prints a reply behind its Content, which begins at begun.
func (l *Legacy) finish(r *legacyRequest, text []byte, begun int, word, info string) []byte {
	now := l.opts.Clock().In(l.opts.Zone).Format("2006-01-02 15:04:05.000000")
	token := legacyToken(text[begun:], now, l.opts.TokenKey)
	var failure, note pyliteral.Value
	if word != "" {
		failure = pyliteral.Str(word)
	}
	if info != "" {
		note = r.text(info)
	}
	text = l.print(r, text, []legacyField{
		{", ", "Table_Name", r.named}, {", ", "Table_Field", r.tableField}, {", ", "Is_Syncdb", r.isSyncdb},
		{"}, ", "Error", legacyRaw("{")}, {"", "Error_Flag", word != ""},
		{", ", "Error_Type", failure}, {", ", "Error_Info", note},
		{"}, ", "Info_Status", legacyRaw("{")}, {"", "Info_Type", pyliteral.Str(l.names["RESPONSE"])},
		{", ", "Security_Token", pyliteral.Str(token)}, {", ", "Time", pyliteral.Str(now)}, {", ", "Is_End", true},
	})
	return sealLegacy(append(text, "}}"...), l.cbc)
}
