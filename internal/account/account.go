// Package account keeps the one ledger of the bytes that a server holds for its clients.
//
// Each byte is charged to a holder before it is kept: to a point, or, before a client has said who it is, to its
// address. A holder may have as much as is free (Fits): one greedy holder gets half, two get a third each, and what
// they leave is for the others. Nobody needs to be evicted, and a holder with little is never refused because of one
// with much. The last eighth is kept for holders that have next to nothing.
//
// Addresses share a small pot of their own, with a small cap for each: strangers cannot spend what is the points'.
package account

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// Floor is what a holder may have even when the others leave nothing free.
	Floor = 64 << 10
	// StrangerShare is what one address may have before its client is known.
	StrangerShare = 64 << 10

	reserve      = 8  // a holder with more than Floor does not get at the last max/reserve bytes
	strangersPot = 16 // all strangers together have max/strangersPot bytes
)

// Fits is the rule for everything that holders share, bytes and slots alike: who holds held may take more while at
// least as much is free, of size in all, as it holds already.
func Fits(held, used, size int64) bool { return used < size && held <= size-used }

// Source is the address that stands for all of its client's: one subscriber can use every address of an IPv6 /64.
func Source(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap(); addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}

// Ledger counts bytes by holder. Any goroutine may call its methods.
type Ledger struct {
	points, strangers pot

	mu      sync.Mutex
	holders map[string]*Holder
}

// pot is what holders share.
type pot struct {
	size int64
	used atomic.Int64
}

// New makes a ledger of max bytes.
func New(max int64) *Ledger {
	return &Ledger{points: pot{size: max}, strangers: pot{size: max / strangersPot}, holders: map[string]*Holder{}}
}

// Holder is who is charged.
type Holder struct {
	ledger   *Ledger
	pot      *pot
	name     string
	stranger bool
	refs     atomic.Int64 // changes under Ledger.mu
	held     atomic.Int64
}

// Point returns the holder of that name until Close.
func (l *Ledger) Point(name string) *Holder { return l.holder(name, false) }

// Stranger returns the holder of an address until Close.
func (l *Ledger) Stranger(address string) *Holder { return l.holder("address "+address, true) }

func (l *Ledger) holder(name string, stranger bool) *Holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.holders[name]
	if h == nil {
		h = &Holder{ledger: l, pot: &l.points, name: name, stranger: stranger}
		if stranger {
			h.pot = &l.strangers
		}
		l.holders[name] = h
	}
	h.refs.Add(1)
	return h
}

// Close ends one use of the holder. The ledger forgets it when every use has ended and every byte is returned, so that
// who leaves with work under way and comes back still has that on its account.
func (h *Holder) Close() {
	h.ledger.mu.Lock()
	defer h.ledger.mu.Unlock()
	h.refs.Add(-1)
	h.forget()
}

// forget drops a holder that is not used and holds nothing. With mu held.
func (h *Holder) forget() {
	if h.refs.Load() == 0 && h.held.Load() == 0 && h.ledger.holders[h.name] == h {
		delete(h.ledger.holders, h.name)
	}
}

// Name names the point, or the address.
func (h *Holder) Name() string { return h.name }

// Stranger tells whether h is an address.
func (h *Holder) Stranger() bool { return h.stranger }

// EverMayTake tells whether h may take more at n bytes while nobody else holds any.
func (h *Holder) EverMayTake(n int64) bool { return Fits(n, n, h.pot.size) }

// Held is what h holds.
func (h *Holder) Held() int64 { return h.held.Load() }

// Add charges n bytes that are held already, or returns -n.
func (h *Holder) Add(n int64) {
	h.pot.used.Add(n)
	if h.held.Add(n) == 0 && h.refs.Load() == 0 {
		h.ledger.mu.Lock()
		defer h.ledger.mu.Unlock()
		h.forget()
	}
}

// Take charges n bytes, unless h has its share.
func (h *Holder) Take(n int64) bool {
	ok := h.MayTake(n)
	if ok {
		h.Add(n)
	}
	return ok
}

// MayTake tells whether h may take n bytes now. The size of a single charge does not count against a point: who holds
// little gets a large frame as soon as anything is free, and those who ask for small ones do not keep it waiting.
func (h *Holder) MayTake(n int64) bool {
	held, used, size := h.held.Load(), h.pot.used.Load(), h.pot.size
	if h.stranger {
		return held+n <= StrangerShare && used+n <= size
	}
	if held+n <= Floor {
		return used < size
	}
	return Fits(held, used, size-size/reserve)
}

// Held is what the holder of that name holds.
func (l *Ledger) Held(name string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.holders[name]; h != nil {
		return h.Held()
	}
	return 0
}

// Used is what all holders hold.
func (l *Ledger) Used() int64 { return l.points.used.Load() + l.strangers.used.Load() }

// Size is what all points together may hold.
func (l *Ledger) Size() int64 { return l.points.size }

// Use is a holder and what it holds.
type Use struct {
	Name  string
	Bytes int64
}

// Largest returns the holders with the most bytes, at most so many, the largest first.
func (l *Ledger) Largest(most int) []Use {
	l.mu.Lock()
	all := make([]Use, 0, len(l.holders))
	for _, h := range l.holders {
		if n := h.Held(); n > 0 {
			all = append(all, Use{h.name, n})
		}
	}
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Use) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return all[:min(most, len(all))]
}
