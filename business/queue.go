package business

import (
	"slices"
	"time"

	"syncgate/internal/account"
	"syncgate/protocol"
)

// slots counts what of a fixed number is in use, by who uses it.
type slots struct {
	size, used int
	by         map[string]int
}

func newSlots(size int) slots { return slots{size: size, by: map[string]int{}} }

// free reports whether key may have one more, with which it has no more than are free.
func (s *slots) free(key string) bool {
	return account.Fits(int64(s.by[key]+1), int64(s.used), int64(s.size))
}

func (s *slots) take(key string) {
	s.by[key]++
	s.used++
}

func (s *slots) release(key string) {
	decrement(s.by, key)
	s.used--
}

// gather lets the next batch of small uploads of a table wait for the clients of the last one. They got their replies
// together and send again together: without a pause the first of them would get a commit of its own.
type gather struct {
	size  int // requests that are waited for, with those that wait already
	until time.Time
}

// The next batch waits at most for a part of the time of the last one, and not for longer than gatherMost.
const (
	gatherShare = 2
	gatherMost  = 5 * time.Millisecond
)

type queueKey struct {
	point, table string
	op           protocol.Op
}

// queue holds the requests of one point for one table. It exists while one of them waits or runs.
type queue struct {
	key      queueKey
	requests []*Request // waiting
	running  int
}

// finish makes room for what waited for r. With mu held.
func (p *Pool) finish(r *Request) {
	decrement(p.points, r.Point)
	q := r.queue
	if q == nil {
		return
	}
	if r.leads {
		decrement(p.shared, q.key.table)
	}
	if q.key.op == protocol.OpUpload && r.status.Info().Retry {
		p.blocks.add(q.key, r.Message.RequestID, p.o.Clock(), p.o.BlockFor)
	}
	if q.running--; q.running > 0 {
		return
	}
	if len(q.requests) == 0 {
		delete(p.queues, q.key)
		return
	}
	p.ready = append(p.ready, q)
}

// beginGather lets the next batch behind a batch wait. With mu held.
func (p *Pool) beginGather(batch []*Request, wait time.Duration) {
	first := batch[0]
	if !first.leads {
		return
	}
	table := first.queue.key.table
	if size := min(len(batch)+p.uploads[table], p.o.Batch); size > 1 {
		p.gathers[table] = gather{size, time.Now().Add(wait)}
		time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.gathering(table, time.Now()) // forgets it, also when no more came
			p.work.Signal()
		})
	}
}

// gathering reports whether more small uploads of a table are waited for. With mu held.
func (p *Pool) gathering(table string, now time.Time) bool {
	g, ok := p.gathers[table]
	if ok && (p.closing || p.uploads[table] >= g.size || !now.Before(g.until)) {
		delete(p.gathers, table)
		ok = false
	}
	return ok
}

// decrement counts one down, and keeps no zeros.
func decrement(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

// takeWork takes the next request of the first ready queue whose turn it can be. When that is a small upload, it also
// takes the small uploads of the same table that stand first in other queues. With mu held.
func (p *Pool) takeWork() []*Request {
	var batch []*Request
	rest, now := p.ready[:0], time.Now()
	for _, q := range p.ready {
		small := p.small(q)
		switch {
		case len(batch) == 0 && p.mayRun(q, small, now):
			batch = p.pop(batch, q, small)
			p.occupy(batch[0], 1)
			if small {
				p.shared[q.key.table]++
				batch[0].leads = true
			}
		case small && len(batch) > 0 && len(batch) < p.o.Batch &&
			batch[0].leads && batch[0].queue.key.table == q.key.table:
			batch = p.pop(batch, q, small)
		default:
			rest = append(rest, q)
		}
	}
	clear(p.ready[len(rest):])
	p.ready = rest
	p.waiting -= len(batch)
	return batch
}

// mayRun reports whether a worker may take the next request of a queue. With mu held.
func (p *Pool) mayRun(q *queue, small bool, now time.Time) bool {
	return !(small && (p.shared[q.key.table] >= p.o.Shared || p.gathering(q.key.table, now))) &&
		p.working.free(q.key.point) && p.tables.free(q.key.table)
}

// occupy counts the worker of a batch that r leads: 1 when it begins, -1 when it ends. With mu held.
func (p *Pool) occupy(r *Request, n int) {
	count := func(s *slots, key string) {
		if n > 0 {
			s.take(key)
		} else {
			s.release(key)
		}
	}
	if r.queue == nil {
		count(&p.loading, r.Point)
		return
	}
	count(&p.working, r.Point)
	count(&p.tables, r.queue.key.table)
}

// small reports whether the next request of a queue may share a transaction. After a failure an upload runs alone: if
// it waits for a lock once more, its neighbours need not.
func (p *Pool) small(q *queue) bool {
	return q.key.op == protocol.OpUpload && q.requests[0].size <= p.o.Small && !p.blocks.failed(q.key)
}

// takeDownload takes the first download whose point has not its share of the download workers. With mu held.
func (p *Pool) takeDownload() []*Request {
	for i, r := range p.downloads {
		if p.loading.free(r.Point) {
			p.downloads = slices.Delete(p.downloads, i, i+1)
			asks := r.asks()
			decrement(p.alike, asks)
			r.alike = p.alike[asks] > 0
			p.occupy(r, 1)
			return []*Request{r}
		}
	}
	return nil
}

// pop moves the next request of a queue to a batch, and small ones behind it that may run in the same transaction. With
// mu held.
func (p *Pool) pop(batch []*Request, q *queue, small bool) []*Request {
	for first := true; first || small && len(batch) < p.o.Batch && len(q.requests) > 0 && p.small(q) &&
		q.requests[0].isV1() && batch[len(batch)-1].isV1(); first = false {
		batch = append(batch, q.requests[0])
		q.requests[0] = nil
		q.requests = q.requests[1:]
		if q.running++; q.key.op == protocol.OpUpload {
			decrement(p.uploads, q.key.table)
		}
	}
	return batch
}
