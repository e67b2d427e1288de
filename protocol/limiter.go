package protocol

import (
	"hash/maphash"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
)

// sourceBuckets bounds the memory of the limiter. Sources share buckets by a keyed hash, so an attacker cannot choose
// whose bucket to fill.
const sourceBuckets = 4096

// limiter bounds the handshakes accepted a second. One source, an IPv4 address or an IPv6 /64, may use a tenth of them.
// Bursts are twice as large. Any goroutine may call it.
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

// wait returns 0 and counts the handshake when the server may accept it now. Otherwise it returns how long the source
// should wait.
func (l *limiter) wait(source netip.Addr, now time.Time) time.Duration {
	key := source.Unmap()
	if key.Is6() {
		// A site has at least a /64, and so has an attacker.
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
