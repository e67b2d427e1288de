package protocol

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"syncgate/crypto"
	"syncgate/internal/limit"
	"syncgate/internal/pyliteral"
)

// The seed-era wire, version 1, which agents already in the field speak:
//
//	frame ── openLegacy ──> text ── request ──> legacyRequest ── time, point, replay ──> Message
//	frame <── sealLegacy ── text <── packet ─── reply, part by part <────────────────── Message
//
// AES and token keys are the same for all points, so this wire tells strangers from agents, and no agent from another.
// Whoever may use it is therefore bounded by source network, and by Allow, which keeps a point that has spoken the
// modern wire from being spoken for here.

// Errors of the seed-era wire, for log and metric. Those before the request is known to be an agent's are all answered
// alike.
var (
	errLegacyPacket  = newError(StatusMalformed, "seed-era packet is not as documented")
	errLegacyMD5     = newError(StatusBadMD5, "seed-era packet's MD5 does not fit")
	errLegacyText    = newError(StatusRejected, "seed-era text is not a request; another key?")
	errLegacyToken   = newError(StatusRejected, "security token does not fit")
	errLegacyTime    = newError(StatusRejected, "time is outside the window")
	errLegacyReplay  = newError(StatusRejected, "the token was used before")
	errLegacyPoint   = newError(StatusLegacyRefused, "the point may not use the seed-era wire, or is another than before")
	errLegacyNetwork = newError(StatusLegacyRefused, "not one of the source networks")
	errLegacyFull    = newError(StatusBusy, "no room to remember another token")
	errLegacyFit     = newError(StatusRequestMismatch, "the request's content is not as documented")
	errLegacyReply   = newError(StatusTooLarge, "rows are more than one seed-era reply may hold")
)

// LegacyOptions set up the seed-era wire. Key, TokenKey, Networks, Allow and Clock are required; a zero elsewhere means
// the default.
type LegacyOptions struct {
	Key      []byte                  // AES: 16, 24 or 32 bytes
	IV       []byte                  // 16 bytes; default the first 16 of Key
	TokenKey string                  // ends what a token is the MD5 of
	Networks []netip.Prefix          // who may connect
	Allow    func(point string) bool // whether the point is known and may (still) speak this wire; called on every request, must be quick
	Clock    func() time.Time

	Zone         *time.Location    // of the times agents write; default time.Local
	Window       time.Duration     // how far such a time may be from the server's; a zero takes its default from Limits
	Names        map[string]string // other names for legacyWords: keys, constants and error words
	Dialect      pyliteral.Dialect // the Python that replies are printed for, until a point's requests show another
	FixedDialect bool              // Dialect holds for every point, whatever its requests show
}

// Limits are the options' defaults and bounds.
func (o *LegacyOptions) Limits() []limit.Limit {
	return []limit.Limit{limit.Time("Window", &o.Window, 5*time.Minute, time.Second, time.Hour)}
}

const (
	legacyFrame     = 4 << 20  // hex digits of a request's payload, which is twice its text
	legacyMaxReply  = 16 << 20 // bytes of a reply's Content
	legacyMaxTokens = 1 << 18  // tokens remembered, 80 bytes each; more within twice the window are refused as busy
)

// Legacy makes the sessions of the seed-era listener. It does no I/O; all methods may be called by any goroutine.
type Legacy struct {
	opts   LegacyOptions
	cbc    *crypto.CBC
	names  legacyNames
	memory *legacyMemory
	shown  sync.Map // from a point's name to the pyliteral.Dialect that its requests showed last
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

// NewSession is the session of one accepted connection, or errLegacyNetwork: close it, say nothing.
func (l *Legacy) NewSession(remote netip.Addr) (*LegacySession, error) {
	remote = remote.Unmap()
	if !slices.ContainsFunc(l.opts.Networks, func(p netip.Prefix) bool { return p.Contains(remote) }) {
		return nil, fmt.Errorf("%w: %v", errLegacyNetwork, remote)
	}
	return &LegacySession{legacy: l}, nil
}

// legacyNames are the words in a packet that fielded agents differ in, each under its default, which is also its name in
// configuration.
type legacyNames map[string]string

// legacyWords are the defaults: the keys of the four dicts, two pairs of constants, and the error words. No word may
// stand twice in a line but the last.
const legacyWords = `userid Business Error Info_Status
Type Content Table_Name Table_Field Is_Syncdb
Error_Flag Error_Type Error_Info
Info_Type Security_Token Time Is_End
UPLOAD_DB DOLOAD_DB
REQUEST RESPONSE
Receive_Data_Error Info_Certification_Error Server_config_Error Client_Data_Pack_Error Server_DB_Error`

// newLegacyNames are the defaults with changes, which go from default to other word.
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
				return nil, fmt.Errorf("protocol: legacy: %q can't stand for %s", word, name)
			}
			if used[word] && i < len(lines)-1 {
				return nil, fmt.Errorf("protocol: legacy: the name %q is there twice", word)
			}
			used[word], names[name] = true, word
		}
	}
	for name := range changes {
		if names[name] == "" {
			return nil, fmt.Errorf("protocol: legacy: no name %q in a packet", name)
		}
	}
	return names, nil
}
