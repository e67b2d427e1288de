package protocol

import (
	"maps"
	"sync"
	"time"

	"syncgate/internal/pyliteral"
)

// legacyRetries is how often an upload may come again with the same token. Each time costs a look into the ledger.
const legacyRetries = 100

// legacyPoints bounds the memory of which Python points use; what is forgotten shows again.
const legacyPoints = 1 << 16

// legacyMemory remembers the tokens whose time is still inside the window, and the Python of each point.
type legacyMemory struct {
	window time.Duration
	max    int

	mu       sync.Mutex
	tokens   map[[16]byte]legacySeen
	sweep    time.Time // when tokens are next looked through for those that have left the window
	dialects map[string]pyliteral.Dialect
}

type legacySeen struct {
	text  [16]byte // of the SHA-256 of the whole text: the token covers Content and Time alone
	at    time.Time
	again int
}

func newLegacyMemory(window time.Duration, max int) *legacyMemory {
	return &legacyMemory{
		window: window, max: max,
		tokens: make(map[[16]byte]legacySeen), dialects: make(map[string]pyliteral.Dialect),
	}
}

// admit enters a token whose time at is inside the window now. One that is there is errLegacyReplay, unless it may come
// again and its text is the same to the byte. When the memory is full nothing new is admitted: forgetting would let a
// token in twice.
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

// dialect is the Python that the point showed last.
func (m *legacyMemory) dialect(point string) (pyliteral.Dialect, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.dialects[point]
	return d, ok
}

// shown remembers which Python a point uses.
func (m *legacyMemory) shown(point string, d pyliteral.Dialect) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.dialects[point]; known || len(m.dialects) < legacyPoints {
		m.dialects[point] = d
	}
}
