package protocol

import (
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// sourceBuckets bounds the memory of the limiter: sources share buckets by a hash nobody outside can know, so a source
// may at worst be counted with another one.
const sourceBuckets = 4096

// limiter bounds the handshakes accepted in a second. One source, an address or an IPv6 /64, has a tenth of them. Bursts
// are twice as large. Any goroutine may call it.
type limiter struct {
	seed    maphash.Seed
	total   *rate.Limiter
	sources []*rate.Limiter
}

func newLimiter(handshakes int) *limiter {
	l := &limiter{
		seed:    maphash.MakeSeed(),
		total:   rate.NewLimiter(rate.Limit(handshakes), 2*handshakes),
		sources: make([]*rate.Limiter, sourceBuckets),
	}
	for i := range l.sources {
		l.sources[i] = rate.NewLimiter(max(1, rate.Limit(handshakes)/10), max(1, handshakes/5))
	}
	return l
}

// wait is 0 when a handshake from that address may be taken up now, and then counts it; else how long to stay away.
func (l *limiter) wait(source netip.Addr, now time.Time) time.Duration {
	key := source.Unmap()
	if key.Is6() {
		// One site has a /64 at least, and so has one attacker.
		if p, err := key.Prefix(64); err == nil {
			key = p.Addr()
		}
	}
	bucket := maphash.Comparable(l.seed, key) % sourceBuckets
	for _, limit := range [...]*rate.Limiter{l.sources[bucket], l.total} {
		r := limit.ReserveN(now, 1)
		if d := r.DelayFrom(now); d > 0 {
			r.CancelAt(now)
			return d
		}
	}
	return 0
}
