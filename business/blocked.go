package business

import (
	"time"

	"syncgate/protocol"
)

// blocks has, for each queue, the upload that failed in such a way that its agent sends it again. The agent may have
// sent later ones already. If those ran, the older rows would come after the newer ones and undo them. So the later
// uploads of its epoch are refused until it has come. A block ends by itself after a while, because the operator of the
// agent may have dropped the batch. The Pool's mutex guards it.
type blocks struct {
	limit int // entries; when they are used up, a new failure blocks nothing, so that memory stays bounded
	by    map[queueKey]block
}

type block struct {
	id    protocol.RequestID
	until time.Time
}

func (b *blocks) add(k queueKey, id protocol.RequestID, now time.Time, d time.Duration) {
	old, ok := b.by[k]
	if ok && old.id.Epoch() == id.Epoch() && old.id.Seq() < id.Seq() && now.Before(old.until) {
		return // an earlier one is awaited already
	}
	if !ok && len(b.by) >= b.limit {
		for k, old := range b.by {
			if !now.Before(old.until) {
				delete(b.by, k)
			}
		}
		if len(b.by) >= b.limit {
			return
		}
	}
	if b.by == nil {
		b.by = map[queueKey]block{}
	}
	b.by[k] = block{id, now.Add(d)}
}

// blocked reports whether id must wait, and lifts the block when id is the upload that was awaited.
func (b *blocks) blocked(k queueKey, id protocol.RequestID, now time.Time) bool {
	old, ok := b.by[k]
	if !ok {
		return false
	}
	if !now.Before(old.until) || id == old.id {
		delete(b.by, k)
		return false
	}
	return id.Epoch() == old.id.Epoch() && id.Seq() > old.id.Seq()
}
