package reactor

import (
	"net/netip"
	"sync"
)

// admission counts connections against the caps.
type admission struct {
	mu                   sync.Mutex
	opts                 *Options
	conns, unestablished int
	perAddress           map[netip.Addr]int // by limitKey
}

// limitKey is what MaxPerAddress counts by: one subscriber can use every address of an IPv6 /64.
func limitKey(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}

// admit counts a new connection, or says which cap it would exceed.
func (a *admission) admit(addr netip.Addr) error {
	k := limitKey(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.conns >= a.opts.MaxConns:
		return ErrConnLimit
	case a.unestablished >= a.opts.MaxUnestablished:
		return ErrUnestablishedLimit
	case a.perAddress[k] >= a.opts.MaxPerAddress:
		return ErrAddressLimit
	}
	a.conns++
	a.unestablished++
	a.perAddress[k]++
	return nil
}

func (a *admission) establish() {
	a.mu.Lock()
	a.unestablished--
	a.mu.Unlock()
}

func (a *admission) release(addr netip.Addr, established bool) {
	k := limitKey(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns--
	if !established {
		a.unestablished--
	}
	if a.perAddress[k]--; a.perAddress[k] == 0 {
		delete(a.perAddress, k)
	}
}
