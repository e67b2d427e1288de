package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff gives growing pauses with jitter: the n-th is between half and all of
// first·2ⁿ, at most limit. Jitter keeps a thousand points, all cut off by the same
// outage, from coming back in the same instant.
type backoff struct {
	first, limit time.Duration
	tries        int
}

func (b *backoff) next() time.Duration {
	d := min(b.first<<min(b.tries, 30), b.limit)
	b.tries++
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.tries = 0 }

// pause waits for d or until wake is signalled; false when ctx ended first.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-wake:
	}
	return true
}

// signal is an edge that is remembered until somebody takes it.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}
