package protocol

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"syncgate/internal/account"
)

const (
	// sourceBuckets bounds the memory of the limiter. Sources share buckets by a keyed hash, so an attacker cannot
	// choose whose bucket to fill.
	sourceBuckets = 4096
	// longestWait is the longest that a client is told to wait.
	longestWait = time.Minute
)

// limiter bounds the handshakes accepted a second. One source, an IPv4 address or an IPv6 /64, may try a tenth of them,
// and so may one point. A hello counts for its source when it comes, and in all only when it has opened under its
// point's key: until then it has cost a few hashes, and strangers must not use up what is the points'. Bursts are twice
// as large. Any goroutine may call it.
type limiter struct {
	seed    maphash.Seed
	total   bucket
	sources []bucket
	points  []bucket
}

// bucket is a rate with a queue: each that is refused is told to come when those refused before it have come.
type bucket struct {
	*rate.Limiter
	mu   sync.Mutex
	last time.Time // when the last of those that were refused comes
}

func newLimiter(handshakes int) *limiter {
	l := &limiter{
		seed:    maphash.MakeSeed(),
		sources: make([]bucket, sourceBuckets),
		points:  make([]bucket, sourceBuckets),
	}
	l.total.Limiter = rate.NewLimiter(rate.Limit(handshakes), 2*handshakes)
	for i := range sourceBuckets {
		for _, b := range [...]*bucket{&l.sources[i], &l.points[i]} {
			b.Limiter = rate.NewLimiter(max(1, rate.Limit(handshakes)/10), max(1, handshakes/5))
		}
	}
	return l
}

// source returns 0 and counts a hello when the server may look at it now. Otherwise it returns how long the source
// should wait.
func (l *limiter) source(source netip.Addr, now time.Time) time.Duration {
	return l.sources[maphash.Comparable(l.seed, account.Source(source))%sourceBuckets].wait(now)
}

// authentic does the same for a hello of that point.
func (l *limiter) authentic(point string, now time.Time) time.Duration {
	if d := l.points[maphash.String(l.seed, point)%sourceBuckets].wait(now); d > 0 {
		return d
	}
	return l.total.wait(now)
}

func (b *bucket) wait(now time.Time) time.Duration {
	r := b.ReserveN(now, 1)
	d := r.DelayFrom(now)
	if d <= 0 {
		return 0
	}
	r.CancelAt(now)
	b.mu.Lock()
	defer b.mu.Unlock()
	gap := time.Duration(float64(time.Second) / float64(b.Limit()))
	if next := b.last.Add(gap); next.After(now.Add(d)) {
		d = min(next.Sub(now), longestWait)
	}
	b.last = now.Add(d)
	return d
}
