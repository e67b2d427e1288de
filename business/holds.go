package business

import (
	"time"

	"syncgate/protocol"
)

// holds remembers, a lane, the upload that failed in a way that brings it again. Its agent may have sent later ones
// already; were they run, the older rows would come after the newer ones and undo them. So the later ones of its epoch
// are refused until it has come. A hold ends by itself after a while, because the agent's operator may have dropped the
// batch. The Pool's mutex guards it.
type holds struct {
	limit int // entries; over it new failures are not remembered rather than memory be spent without end
	by    map[laneKey]hold
}

type hold struct {
	id    protocol.RequestID
	until time.Time
}

func (h *holds) set(k laneKey, id protocol.RequestID, now time.Time, d time.Duration) {
	old, ok := h.by[k]
	if ok && old.id.Epoch() == id.Epoch() && old.id.Seq() < id.Seq() && now.Before(old.until) {
		return // an earlier one is awaited already
	}
	if !ok && len(h.by) >= h.limit {
		for k, old := range h.by {
			if !now.Before(old.until) {
				delete(h.by, k)
			}
		}
		if len(h.by) >= h.limit {
			return
		}
	}
	if h.by == nil {
		h.by = map[laneKey]hold{}
	}
	h.by[k] = hold{id, now.Add(d)}
}

// held tells whether id must wait, and lifts the hold when id is the one that was awaited.
func (h *holds) held(k laneKey, id protocol.RequestID, now time.Time) bool {
	old, ok := h.by[k]
	if !ok {
		return false
	}
	if !now.Before(old.until) || id == old.id {
		delete(h.by, k)
		return false
	}
	return id.Epoch() == old.id.Epoch() && id.Seq() > old.id.Seq()
}
