package reactor

import (
	"container/list"
	"net/netip"
	"sync"

	"syncgate/internal/account"
)

// admission counts connections against the caps.
//
// Each listener has its own budget of connections that are not established, shared by account.Fits, so that one address
// gets half of it and many addresses leave each other room. When it is used up all the same, the oldest such connection
// makes room for a new one: a client shakes hands in milliseconds, and who is silent goes.
type admission struct {
	mu                   sync.Mutex
	opts                 *Options
	conns, unestablished int
	wires                []wireBudget               // by listener
	addresses            map[netip.Addr]addressLoad // by account.Source
}

type wireBudget struct {
	used   int        // connections that are not established
	oldest *list.List // of stranger: those of them that a loop has adopted
	places map[ConnID]*list.Element
}

// stranger is a connection that is not established.
type stranger struct {
	id   ConnID
	addr netip.Addr // its account.Source
}

type addressLoad struct{ conns, unestablished int }

// fewStrangers is how many connections of one address are never too many for it.
const fewStrangers = 16

func (a *admission) init(o *Options) {
	a.opts, a.addresses = o, make(map[netip.Addr]addressLoad)
	for range o.Listeners {
		a.wires = append(a.wires, wireBudget{oldest: list.New(), places: make(map[ConnID]*list.Element)})
	}
}

// admit counts a new connection, or says which cap it would exceed. victim, unless 0, is to be closed for it.
func (a *admission) admit(listener int, addr netip.Addr) (victim ConnID, err error) {
	k := account.Source(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	w, from, most := &a.wires[listener], a.addresses[k], a.opts.MaxUnestablished
	many := from.unestablished >= fewStrangers && !account.Fits(int64(from.unestablished), int64(w.used), int64(most))
	oldest := w.oldest.Front()
	switch {
	case a.conns >= a.opts.MaxConns:
		return 0, ErrConnLimit
	case from.conns >= a.opts.MaxPerAddress:
		return 0, ErrAddressLimit
	case many, w.used >= most && oldest == nil:
		return 0, ErrUnestablishedLimit
	case w.used >= most:
		victim = oldest.Value.(stranger).id
		a.settle(listener, victim)
		from = a.addresses[k] // the victim may be of the same address
	}
	a.conns++
	from.conns++
	a.addresses[k] = from
	a.count(listener, k, 1)
	return victim, nil
}

// count changes the number of connections that are not established. With mu held.
func (a *admission) count(listener int, k netip.Addr, n int) {
	a.unestablished += n
	a.wires[listener].used += n
	from := a.addresses[k]
	from.unestablished += n
	a.addresses[k] = from
}

// settle takes a connection out of the budget of those that are not established, if it is there. With mu held.
func (a *admission) settle(listener int, id ConnID) {
	w := &a.wires[listener]
	if e := w.places[id]; e != nil {
		delete(w.places, id)
		a.count(listener, w.oldest.Remove(e).(stranger).addr, -1)
	}
}

// adopted makes c the youngest of its listener's connections that are not established.
func (a *admission) adopted(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &a.wires[c.from.index]
	w.places[c.id] = w.oldest.PushBack(stranger{c.id, account.Source(c.Remote().Addr())})
}

func (a *admission) establish(c *Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.settle(c.from.index, c.id)
}

// release counts a connection out; id is 0 when no loop has adopted it.
func (a *admission) release(id ConnID, listener int, addr netip.Addr) {
	k := account.Source(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns--
	if id == 0 {
		a.count(listener, k, -1)
	} else {
		a.settle(listener, id)
	}
	from := a.addresses[k]
	if from.conns--; from.conns == 0 {
		delete(a.addresses, k)
	} else {
		a.addresses[k] = from
	}
}
