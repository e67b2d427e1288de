package reactor

// ConnID names a connection to every goroutine. It is made of loop, slot and generation: once a connection is gone, its
// id finds nothing, even when another has the slot and the descriptor. 0 is the id of no connection.
type ConnID uint64

const (
	generationBits = 32
	slotBits       = 24
)

func makeConnID(loop, slot int, generation uint32) ConnID {
	return ConnID(loop)<<(slotBits+generationBits) | ConnID(slot)<<generationBits | ConnID(generation)
}

func (id ConnID) loop() int { return int(id >> (slotBits + generationBits)) }
func (id ConnID) slot() int { return int(id >> generationBits & (1<<slotBits - 1)) }

// table has a loop's connections by slot. Only the loop changes it, and does so under EventLoop.mu; the loop reads it
// without the lock, other goroutines with it. Slot 0 stays empty, so that 0 can mean no connection.
type table struct {
	conns       []*Conn
	generations []uint32 // each slot's latest, never 0
	free        []uint32
}

// add gives c a slot and an id.
func (t *table) add(loop int, c *Conn) {
	slot := max(len(t.conns), 1)
	if n := len(t.free); n > 0 {
		slot = int(t.free[n-1])
		t.free = t.free[:n-1]
	} else {
		t.conns = append(t.conns, make([]*Conn, slot+1-len(t.conns))...)
		t.generations = append(t.generations, make([]uint32, slot+1-len(t.generations))...)
	}
	if t.generations[slot]++; t.generations[slot] == 0 {
		t.generations[slot] = 1
	}
	c.id = makeConnID(loop, slot, t.generations[slot])
	t.conns[slot] = c
}

// remove makes c's id invalid and frees its slot.
func (t *table) remove(c *Conn) {
	slot := c.id.slot()
	t.conns[slot] = nil
	t.free = append(t.free, uint32(slot))
}

// find returns the connection of that id, or nil.
func (t *table) find(id ConnID) *Conn {
	if slot := id.slot(); slot < len(t.conns) {
		if c := t.conns[slot]; c != nil && c.id == id {
			return c
		}
	}
	return nil
}
