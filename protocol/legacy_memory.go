package protocol

import (
	"sync"
	"time"

	"syncgate/internal/pyliteral"
)

// legacyRetries is how often an upload may come again with the same token. Each time costs a look into the ledger.
const legacyRetries = 100

// legacyPoints bounds the memory of which Python points use; what is forgotten shows again.
const legacyPoints = 1 << 16

// legacyMemory remembers the tokens whose time is still inside the window, and the Python of each point.
//
// Tokens are kept by the window-long slot that their own time falls into. A request's time is known before its token is
// looked up, so one map is asked, and a slot that has wholly left the window is dropped at once: at most four are kept.
type legacyMemory struct {
	window time.Duration
	max    int

	mu       sync.Mutex
	slots    map[int64]map[[16]byte]legacySeen
	tokens   int
	dialects map[string]pyliteral.Dialect
}

type legacySeen struct {
	text  [16]byte // of the SHA-256 of the whole text: the token covers Content and Time alone
	again int
}

func newLegacyMemory(window time.Duration, max int) *legacyMemory {
	return &legacyMemory{
		window:   window,
		max:      max,
		slots:    make(map[int64]map[[16]byte]legacySeen),
		dialects: make(map[string]pyliteral.Dialect),
	}
}

func (m *legacyMemory) slot(t time.Time) int64 { return t.UnixNano() / int64(m.window) }

// admit enters a token whose time at is inside the window now. One that is there is errLegacyReplay, unless it may come
// again and its text is the same to the byte. When the memory is full nothing new is admitted: forgetting would let a
// token in twice.
func (m *legacyMemory) admit(token, text [16]byte, at, now time.Time, mayRepeat bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldest := m.slot(now.Add(-m.window))
	for s, tokens := range m.slots {
		if s < oldest {
			m.tokens -= len(tokens)
			delete(m.slots, s)
		}
	}
	tokens := m.slots[m.slot(at)]
	if seen, known := tokens[token]; known {
		if !mayRepeat || seen.text != text || seen.again >= legacyRetries {
			return errLegacyReplay
		}
		seen.again++
		tokens[token] = seen
		return nil
	}
	if m.tokens >= m.max {
		return errLegacyFull
	}
	if tokens == nil {
		tokens = make(map[[16]byte]legacySeen)
		m.slots[m.slot(at)] = tokens
	}
	tokens[token] = legacySeen{text: text}
	m.tokens++
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
