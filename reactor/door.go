package reactor

import (
	"net/netip"
	"sync"
)

// door counts who is inside.
type door struct {
	mu               sync.Mutex
	opts             *Options
	conns, strangers int
	from             map[netip.Addr]int
}

// household is what MaxPerAddress counts by: a whole /64 is one subscriber's to use.
func household(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

func (d *door) enter(a netip.Addr) error {
	a = household(a)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.conns >= d.opts.MaxConns:
		return ErrConnLimit
	case d.strangers >= d.opts.MaxUnestablished:
		return ErrUnestablishedLimit
	case d.from[a] >= d.opts.MaxPerAddress:
		return ErrAddressLimit
	}
	d.conns++
	d.strangers++
	d.from[a]++
	return nil
}

func (d *door) establish() {
	d.mu.Lock()
	d.strangers--
	d.mu.Unlock()
}

func (d *door) leave(a netip.Addr, established bool) {
	a = household(a)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns--
	if !established {
		d.strangers--
	}
	if d.from[a]--; d.from[a] == 0 {
		delete(d.from, a)
	}
}
