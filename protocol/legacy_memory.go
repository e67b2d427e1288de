package protocol

import (
	"maps"
	"sync"
	"time"
)

// legacyRetries is how often an upload may come again with the same token. Each time costs a look into the ledger.
const legacyRetries = 100

// legacyMemory remembers the tokens whose time is still inside the window.
type legacyMemory struct {
	window time.Duration
	max    int

	mu     sync.Mutex
	tokens map[[16]byte]legacySeen
	sweep  time.Time // when tokens are next looked through for those that have left the window
}

type legacySeen struct {
	text  [16]byte // of the SHA-256 of the whole text: the token covers Content and Time alone
	at    time.Time
	again int
}

func newLegacyMemory(window time.Duration, max int) *legacyMemory {
	return &legacyMemory{window: window, max: max, tokens: make(map[[16]byte]legacySeen)}
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
