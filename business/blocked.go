package business

import (
	"time"

	"syncgate/protocol"
	"syncgate/store"
)

// blocks holds, for each queue, the upload that failed in such a way that its agent sends it again. The agent may have
// sent later ones already. If those ran, the older rows would come after the newer ones and undo them. So the later
// uploads of its epoch are refused until it has come. A block ends by itself after a while, because the agent's
// operator may have dropped the batch. The Pool's mutex guards it.
//
// Each point has room for blocksPerPoint tables. When it needs more, one block of all its tables replaces them: its
// order still holds, and only the point itself waits longer than it had to. So what one point sends costs no other its
// order.
type blocks map[string]map[queueKey]block

const blocksPerPoint = 64

type block struct {
	id    protocol.RequestID
	until time.Time
}

// all is the key of the block of all tables of a point.
func all(k queueKey) queueKey { return queueKey{point: k.point, op: k.op} }

func (b blocks) add(k queueKey, id protocol.RequestID, now time.Time, d time.Duration) {
	of := b[k.point]
	if of == nil {
		of = map[queueKey]block{}
		b[k.point] = of
	}
	if _, ok := of[all(k)]; ok {
		k = all(k)
	}
	if old, ok := of[k]; ok && old.before(id) && now.Before(old.until) {
		return // an earlier one is awaited already
	} else if !ok && len(of) >= blocksPerPoint {
		k = all(k)
		for table, old := range of {
			if old.before(id) && now.Before(old.until) {
				id = old.id
			}
			delete(of, table)
		}
	}
	of[k] = block{id, now.Add(d)}
}

// before reports whether id comes after the awaited upload.
func (b block) before(id protocol.RequestID) bool {
	// The store keeps the order of generations. A new one is begun because the awaited upload may never come.
	return b.id.Epoch() == id.Epoch() && b.id.Seq() < id.Seq() &&
		b.id.Seq()>>store.GenerationBits == id.Seq()>>store.GenerationBits
}

// failed reports whether an upload of the queue is awaited.
func (b blocks) failed(k queueKey) bool {
	of := b[k.point]
	_, ok := of[k]
	if !ok {
		_, ok = of[all(k)]
	}
	return ok
}

// blocked reports whether id must wait, and lifts the block when id is the upload that was awaited.
func (b blocks) blocked(k queueKey, id protocol.RequestID, now time.Time) bool {
	of := b[k.point]
	for _, k := range [...]queueKey{all(k), k} {
		old, ok := of[k]
		switch {
		case !ok:
		case !now.Before(old.until), id == old.id:
			delete(of, k)
			if len(of) == 0 {
				delete(b, k.point)
			}
		case old.before(id):
			return true
		}
	}
	return false
}
