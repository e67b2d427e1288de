package protocol

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"syncgate/crypto"
	"syncgate/internal/limit"
	"syncgate/internal/pyliteral"
)

// The v1 wire, which the original's agents use:
//
//	packet ── openLegacy ──> text ── request ──> legacyRequest ── check time, point, replay ──> Message
//	packet <── sealLegacy ── text <── packet ─── reply, part by part <────────────────────────── Message
//
// All points share the AES key and the token key. So this wire tells agents from strangers, but not one agent from
// another. LegacyOptions.Networks and Allow restrict its use: an agent cannot act for a point that has used the v2
// wire.

// Errors of the v1 wire, for log and metric. Until a request is known to be an agent's, all errors get the same answer.
var (
	errLegacyPacket  = newError(StatusMalformed, "v1 packet is not as documented")
	errLegacyMD5     = newError(StatusBadMD5, "v1 packet's MD5 does not match")
	errLegacyText    = newError(StatusRejected, "v1 text is not a request; another key?")
	errLegacyToken   = newError(StatusRejected, "security token does not match")
	errLegacyTime    = newError(StatusRejected, "time is outside the window")
	errLegacyReplay  = newError(StatusRejected, "the token was used before")
	errLegacyPoint   = newError(StatusLegacyRefused, "the point may not use the v1 wire, or is not the connection's")
	errLegacyNetwork = newError(StatusLegacyRefused, "not one of the source networks")
	errLegacyFull    = newError(StatusBusy, "no room to remember another token")
	errLegacyFit     = newError(StatusRequestMismatch, "the request's content is not as documented")
	errLegacyReply   = newError(StatusTooLarge, "rows exceed one v1 reply, see legacy.max_reply; page them")
)

// LegacyOptions set up the v1 wire. Key, TokenKey, Networks, Allow and Clock are required.
type LegacyOptions struct {
	Key      []byte         // AES: 16, 24 or 32 bytes
	IV       []byte         // 16 bytes; default the first 16 of Key
	TokenKey string         // the secret at the end of a token's input
	Networks []netip.Prefix // source networks that may connect
	// Allow reports whether the point is known and may use this wire. It is called on every request and must be quick.
	Allow func(point string) bool
	Clock func() time.Time

	Zone         *time.Location    // of the times that agents write; default time.Local
	Window       time.Duration     // how far such a time may be from Clock; zero takes the default of Limits
	MaxPacket    int               // hex digits of a request's payload, which is twice its text
	MaxReply     int               // bytes of a reply's Content
	Names        map[string]string // other names for legacyWords: keys, constants and error words
	Dialect      pyliteral.Dialect // the Python that replies are printed for, until a point's requests show another
	FixedDialect bool              // Dialect holds for every point, whatever its requests show
}

// Limits are the options' defaults and bounds.
func (o *LegacyOptions) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Time("Window", &o.Window, 5*time.Minute, time.Second, time.Hour),
		limit.Bytes("MaxPacket", &o.MaxPacket, 16<<20, 64<<10, 256<<20),
		limit.Bytes("MaxReply", &o.MaxReply, 32<<20, 64<<10, 200<<20),
	}
}

const legacyMaxTokens = 1 << 18 // tokens remembered, 80 bytes each; when full, new requests are refused as busy

// Legacy makes the sessions of the v1 wire's listener. It does no I/O. Any goroutine may call its methods.
type Legacy struct {
	opts   LegacyOptions
	cbc    *crypto.CBC
	names  legacyNames
	memory *legacyMemory
	shown  sync.Map // point_no to the pyliteral.Dialect that its requests showed last
}

// NewLegacy checks the options and makes a Legacy.
func NewLegacy(o LegacyOptions) (*Legacy, error) {
	if o.TokenKey == "" || len(o.Networks) == 0 || o.Allow == nil || o.Clock == nil {
		return nil, errors.New("protocol: legacy: TokenKey, Networks, Allow and Clock are required")
	}
	o.Zone = cmp.Or(o.Zone, time.Local)
	if o.IV == nil && len(o.Key) >= 16 {
		o.IV = o.Key[:16]
	}
	if err := limit.Fill("protocol: legacy", o.Limits()); err != nil {
		return nil, err
	}
	cbc, err := crypto.NewCBC(o.Key, o.IV)
	if err != nil {
		return nil, fmt.Errorf("protocol: legacy: %w", err)
	}
	names, err := newLegacyNames(o.Names)
	if err != nil {
		return nil, err
	}
	return &Legacy{opts: o, cbc: cbc, names: names, memory: newLegacyMemory(o.Window, legacyMaxTokens)}, nil
}

// MaxPacket is the most hex digits of a request's payload.
func (l *Legacy) MaxPacket() int { return l.opts.MaxPacket }

// NewSession makes the session of one accepted connection. After an error the caller closes the connection and sends
// nothing.
func (l *Legacy) NewSession(remote netip.Addr) (*LegacySession, error) {
	remote = remote.Unmap()
	if !slices.ContainsFunc(l.opts.Networks, func(p netip.Prefix) bool { return p.Contains(remote) }) {
		return nil, fmt.Errorf("%w: %v", errLegacyNetwork, remote)
	}
	return &LegacySession{legacy: l}, nil
}

// legacyNames maps the default of each word in a packet to the word in use: deployments of the original differ in them.
// The configuration names a word by its default.
type legacyNames map[string]string

// legacyWords are the defaults: the keys of the four dicts, two pairs of constants, and the error words. The words in
// use must differ within a line, except the last.
const legacyWords = `userid Business Error Info_Status
Type Content Table_Name Table_Field Is_Syncdb
Error_Flag Error_Type Error_Info
Info_Type Security_Token Time Is_End
UPLOAD_DB DOLOAD_DB
REQUEST RESPONSE
Receive_Data_Error Info_Certification_Error Server_config_Error Client_Data_Pack_Error Server_DB_Error`

// newLegacyNames applies changes, a map from default to word, to the defaults.
func newLegacyNames(changes map[string]string) (legacyNames, error) {
	names := make(legacyNames)
	lines := strings.Split(legacyWords, "\n")
	for i, line := range lines {
		used := make(map[string]bool)
		for _, name := range strings.Fields(line) {
			word, changed := changes[name]
			if !changed {
				word = name
			}
			if word == "" || !validText(word, maxName) {
				return nil, fmt.Errorf("protocol: legacy: %q is not usable as the name of %s", word, name)
			}
			if used[word] && i < len(lines)-1 {
				return nil, fmt.Errorf("protocol: legacy: the name %q is used twice", word)
			}
			used[word], names[name] = true, word
		}
	}
	for name := range changes {
		if names[name] == "" {
			return nil, fmt.Errorf("protocol: legacy: a packet has no name %q", name)
		}
	}
	return names, nil
}

// A packet of the v1 wire carries one request or one reply:
//
//	 0                16              16+n              32+n       35+n
//	| MD5 hex [0:16]  | payload n     | MD5 hex [16:32] | 0A 0D 0A |     MD5 of the payload, 32 hex digits
//
//	payload = lower-case hex of AES-CBC over the text and NUL bytes up to the block
//	text    = the repr of one Python dict: {'userid': …, 'Business': {…}, 'Error': {…}, 'Info_Status': {…}}
const (
	legacyHalf     = md5.Size // hex digits of each half of the MD5
	legacyEnd      = "\n\r\n" // none of its bytes can occur before it
	legacyOverhead = 2*legacyHalf + len(legacyEnd)
)

// SplitLegacy is Split for the v1 wire. A frame is a packet with its end, and max is the most hex digits of its
// payload. Bytes without an end are refused once they exceed the longest packet.
func SplitLegacy(buf []byte, max int) (n int, err error) {
	room := min(len(buf), max+legacyOverhead)
	end := bytes.IndexByte(buf[:room], '\n')
	if end < 0 {
		if len(buf) >= max+legacyOverhead {
			return 0, ErrTooLarge
		}
		return 0, nil
	}
	tail := buf[end:]
	if p := min(len(tail), len(legacyEnd)); string(tail[:p]) != legacyEnd[:p] {
		return 0, errLegacyPacket
	}
	n = end + len(legacyEnd)
	switch {
	case n > max+legacyOverhead:
		return 0, ErrTooLarge
	case n < legacyOverhead:
		return 0, errLegacyPacket
	case len(buf) < n:
		return 0, nil
	}
	return n, nil
}

// openLegacy checks and decrypts a whole packet and returns its text in new memory. A wrong key is not detected here.
func openLegacy(packet []byte, cbc *crypto.CBC) ([]byte, error) {
	if len(packet) < legacyOverhead || string(packet[len(packet)-len(legacyEnd):]) != legacyEnd {
		return nil, fmt.Errorf("%w: it is not whole", errLegacyPacket)
	}
	body := packet[:len(packet)-len(legacyEnd)]
	payload := body[legacyHalf : len(body)-legacyHalf]
	sum := legacyMD5(payload)
	if string(body[:legacyHalf]) != sum[:legacyHalf] || string(body[len(body)-legacyHalf:]) != sum[legacyHalf:] {
		return nil, errLegacyMD5
	}
	box := make([]byte, len(payload)/2)
	if _, err := hex.Decode(box, payload); err != nil {
		return nil, fmt.Errorf("%w: %w", errLegacyPacket, err)
	}
	if bytes.ContainsAny(payload, "ABCDEF") {
		return nil, fmt.Errorf("%w: its hex is in upper case", errLegacyPacket)
	}
	text, err := cbc.Open(box)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLegacyPacket, err)
	}
	return text, nil
}

// sealLegacy makes the packet of a text. It overwrites text.
func sealLegacy(text []byte, cbc *crypto.CBC) []byte {
	box := cbc.Seal(text)
	packet := make([]byte, legacyHalf, legacyOverhead+2*len(box))
	packet = hex.AppendEncode(packet, box)
	sum := legacyMD5(packet[legacyHalf:])
	copy(packet, sum[:legacyHalf])
	packet = append(packet, sum[legacyHalf:]...)
	return append(packet, legacyEnd...)
}

// legacyMD5 returns the MD5 of the joined parts in hex.
func legacyMD5(parts ...[]byte) string {
	h := md5.New()
	for _, p := range parts {
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// legacyToken returns a Security_Token: the MD5 of str(Content), Time and the token key.
func legacyToken(content []byte, time, key string) string {
	return legacyMD5(content, []byte(time), []byte(key))
}

// legacyRetries bounds the repetitions of an upload with the same token. Each one costs a look-up in the ledger.
const legacyRetries = 100

// legacyMemory remembers the tokens whose time is inside the window, so that a request cannot be replayed.
type legacyMemory struct {
	window time.Duration
	max    int

	mu     sync.Mutex
	tokens map[[16]byte]legacySeen
	sweep  time.Time // when to remove the tokens that have left the window
}

type legacySeen struct {
	text  [16]byte // half of the SHA-256 of the whole text: the token covers only Content and Time
	at    time.Time
	again int
}

func newLegacyMemory(window time.Duration, max int) *legacyMemory {
	return &legacyMemory{window: window, max: max, tokens: make(map[[16]byte]legacySeen)}
}

// admit adds a token whose time is at, inside the window. It returns errLegacyReplay for a known token, unless
// mayRepeat is set and the text is the same to the byte. A full memory admits no new token: forgetting one would allow
// its replay.
func (m *legacyMemory) admit(token, text [16]byte, at, now time.Time, mayRepeat bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !now.Before(m.sweep) {
		maps.DeleteFunc(m.tokens, func(_ [16]byte, s legacySeen) bool { return now.Sub(s.at) > m.window })
		m.sweep = now.Add(m.window)
	}
	seen, known := m.tokens[token]
	switch {
	case !known && len(m.tokens) >= m.max:
		return errLegacyFull
	case !known:
		seen = legacySeen{text: text, at: at}
	case !mayRepeat || seen.text != text || seen.again >= legacyRetries:
		return errLegacyReplay
	default:
		seen.again++
	}
	m.tokens[token] = seen
	return nil
}
