package protocol

import (
	"maps"
	"sync"
	"time"
)

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
