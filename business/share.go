package business

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// Downloads that ask for the same and wait at the same time share one read: a thousand points that are told of one row
// cost one query. A read serves the requests that arrived before it began. The reads that are kept have at most
// sharedInAll bytes together, and each lives for a second.

const (
	sharedBytes = 256 << 10 // of one page
	sharedInAll = 16 << 20
	sharedFor   = time.Second
	sharedAsk   = 16 << 10 // of a request
)

// sharing holds the reads that several downloads may use.
type sharing struct {
	mu     sync.Mutex
	reads  map[sharedKey]*sharedRead
	bytes  int
	served uint64
}

type sharedKey struct {
	plan    *rule.Plan
	request string // the payload: table, state, rows
	frame   int
}

// sharedRead is a page and its parts, which belong to no request.
type sharedRead struct {
	began time.Time
	done  chan struct{} // closed when the following are set
	parts []*protocol.Message
	page  store.Page
	ok    bool // parts are the whole page

	size int
}

// asks is what a download asks for; "" when that is too long to be shared, or came over the v1 wire, which has other
// parts.
func (r *Request) asks() string {
	if len(r.Message.Payload) > sharedAsk {
		return ""
	}
	return string(r.Message.Payload)
}

// sharable reports whether the page behind a state may be the same for several points.
func sharable(p *rule.Plan, state []rowset.StateItem) bool {
	switch {
	case !p.Paged() || p.Binds(rule.PointNo):
		return false
	case p.ByNumber(): // while a table is loaded, rows do not say where they come from
		loading := slices.ContainsFunc(state, func(i rowset.StateItem) bool { return i.Name == rule.LoadItem(0) })
		return p.Load != nil && len(state) > 0 && !loading
	}
	return !p.Binds(rule.Origin)
}

// find is the read that serves r. leads: r has to make it. Both are false when r reads alone.
func (s *sharing) find(r *Request, key sharedKey, now time.Time) (read *sharedRead, leads bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.reads[key]; old != nil && !old.began.Before(r.Arrived) {
		return old, false
	}
	if !r.alike || s.bytes > sharedInAll-sharedBytes {
		return nil, false
	}
	if s.reads == nil {
		s.reads = map[sharedKey]*sharedRead{}
	}
	read = &sharedRead{began: now, done: make(chan struct{})}
	s.reads[key] = read
	s.bytes += sharedBytes
	time.AfterFunc(sharedFor, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bytes -= sharedBytes
		if s.reads[key] == read {
			delete(s.reads, key)
		}
	})
	return read, true
}

// keep takes a part of the page. It returns false when the page is too large to be shared.
func (s *sharedRead) keep(m *protocol.Message) bool {
	if s.size += len(m.Payload); s.size > sharedBytes {
		return false
	}
	part := *m
	part.Payload = bytes.Clone(m.Payload)
	s.parts = append(s.parts, &part)
	return true
}

// serves reports whether the page is the one that a point would get by a read of its own.
func (s *sharedRead) serves(point string) bool { return s.ok && !s.page.Origins[point] }

// send sends the page to the client of r. It is small, so that a slow client is not waited for.
func (s *sharedRead) send(r *Request, have protocol.Held) {
	for _, m := range s.parts {
		part := *m
		part.RequestID, part.Have = r.Message.RequestID, have
		_ = r.send(&part) // gone: see Request.send
	}
	r.Rows = s.page.Rows
}

// shared answers r with a page that it shares with others, if it can.
func (h *Handler) shared(ctx context.Context, r *Request, p *rule.Plan, env rule.Env, have protocol.Held,
) (answered bool, page store.Page) {
	key := sharedKey{p, r.asks(), r.MaxPayload}
	if key.request == "" || !sharable(p, env.State) {
		return false, page
	}
	read, leads := h.reads.find(r, key, h.o.Clock())
	switch {
	case leads:
		h.lead(ctx, r, p, env, read)
	case read == nil:
		return false, page
	default:
		select {
		case <-read.done:
		case <-ctx.Done():
			return false, page
		}
	}
	if !read.serves(r.Point) {
		return false, page
	}
	if p.ByNumber() {
		h.o.Store.NoteReader(p, r.Point, env.State)
	}
	read.send(r, have)
	if !leads {
		h.reads.mu.Lock()
		h.reads.served++
		h.reads.mu.Unlock()
	}
	return true, read.page
}

// Shared is how many downloads were answered from the read of another since the start.
func (h *Handler) Shared() uint64 {
	h.reads.mu.Lock()
	defer h.reads.mu.Unlock()
	return h.reads.served
}

// lead makes the read that others share. It is made for no point in particular.
func (h *Handler) lead(ctx context.Context, r *Request, p *rule.Plan, env rule.Env, read *sharedRead) {
	defer close(read.done)
	if p.ByNumber() {
		env.Point, env.Origin = "", ""
	}
	out := newParts(r, env.Limit)
	out.keep = read
	page, err := h.o.Store.Read(ctx, p, env, out)
	if err == nil && len(out.large) == 0 {
		err = out.end(page)
		read.page, read.ok = page, err == nil
	}
}
