package business

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"syncgate/internal/limit"
	"syncgate/protocol"
)

// Runner does the work that a Pool schedules. Handler is the one in use.
type Runner interface {
	// Uploads runs small uploads of one table together (or one large one) and answers each. It returns the status each
	// was answered with, in the order of the batch.
	Uploads(ctx context.Context, batch []*Request) []protocol.Status
	// Run runs and answers any other request.
	Run(ctx context.Context, r *Request)
}

// PoolOptions bound a Pool. A number that is zero takes its default from Limits.
type PoolOptions struct {
	Runner Runner // required

	Workers       int           // goroutines for everything but downloads: they wait for the database
	Downloads     int           // goroutines for downloads, which live as long as the slowest reader
	Queue         int           // requests waiting, downloads apart
	DownloadQueue int           // downloads waiting
	PerPoint      int           // requests of one point waiting or running
	Batch         int           // small uploads run together
	Shared        int           // such batches of one table at once: fewer make larger ones, and fewer commits
	Small         int           // bytes up to which an upload is small
	Timeout       time.Duration // for one batch of uploads, or one RULES
	Drain         time.Duration // for what is accepted when Run is told to stop
	Hold          time.Duration // how long a table's later uploads wait for a failed one to come again

	Clock  func() time.Time // time.Now
	Logger zerolog.Logger   // panics are logged here, with their stack
}

// Limits are the options' defaults and bounds.
func (o *PoolOptions) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Count("Workers", &o.Workers, max(8, 4*runtime.GOMAXPROCS(0)), 1, 10_000),
		limit.Count("Downloads", &o.Downloads, 8, 1, 10_000),
		limit.Count("Queue", &o.Queue, 1024, 1, 1<<20),
		limit.Count("DownloadQueue", &o.DownloadQueue, 256, 1, 1<<20),
		limit.Count("PerPoint", &o.PerPoint, 64, 1, 1<<20),
		limit.Count("Batch", &o.Batch, 64, 1, 10_000),
		limit.Count("Shared", &o.Shared, 2, 1, 10_000),
		limit.Bytes("Small", &o.Small, 16<<10, 1, 1<<30),
		limit.Time("Timeout", &o.Timeout, 2*time.Minute, time.Millisecond, 24*time.Hour),
		limit.Time("Drain", &o.Drain, 20*time.Second, time.Millisecond, time.Hour),
		limit.Time("Hold", &o.Hold, 30*time.Second, time.Millisecond, time.Hour),
	}
}

// ErrDrainCut is what Run's error wraps when the drain deadline came before the last request was done.
var ErrDrainCut = errors.New("requests were cut at the drain deadline")

// Pool runs requests on a fixed number of goroutines, behind a bounded queue.
//
// The unit of order is a lane: one point's uploads of one table run one at a time, in the order they arrived, so that an
// agent may have several batches under way and two upserts of one key keep their order. Lanes run side by side and take
// turns. A worker that takes a small upload takes the small uploads at the head of other lanes of the same table with
// it: they share a transaction. A table has two such batches under way, so that what comes meanwhile makes the next.
//
// Order has to survive failure too. When an upload fails in a way that makes the agent send it again, those behind it in
// its lane are refused until it has come again (see holds).
//
// Downloads have goroutines and a queue of their own, and one point has at most half of them, so that clients that read
// slowly delay downloads and nothing else.
type Pool struct {
	o PoolOptions

	mu        sync.Mutex
	work      sync.Cond // a lane became ready, or closing began
	load      sync.Cond // a download may be taken, or closing began
	lanes     map[laneKey]*lane
	ready     []*lane        // lanes with a task and none running; first come, first served
	shared    map[string]int // batches of small uploads running, by table
	waiting   int            // tasks in lanes
	downloads []*task
	loading   map[string]int // running downloads of a point
	points    map[string]int // waiting and running tasks of a point
	running   int
	holds     holds
	closing   bool
	cut       int // tasks refused because the drain deadline came
}

// PoolStats is a moment's load, for metrics.
type PoolStats struct{ Waiting, WaitingDownloads, Running int }

type laneKey struct {
	point, table string
	op           protocol.Op
}

type lane struct {
	key   laneKey
	tasks []*task
}

// task is a request in the pool's hands. ctx ends when its client is gone.
type task struct {
	*Request
	ctx   context.Context
	lane  *lane // nil for a download
	size  int
	leads bool // a batch of small uploads
}

// NewPool checks o and makes a pool; nothing runs before Run.
func NewPool(o PoolOptions) (*Pool, error) {
	if o.Runner == nil {
		return nil, errors.New("business: a pool needs a Runner")
	}
	if err := limit.Fill("business: pool", o.Limits()); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	p := &Pool{o: o, lanes: map[laneKey]*lane{}, shared: map[string]int{}, loading: map[string]int{}, points: map[string]int{}, holds: holds{limit: 8192}}
	p.work.L, p.load.L = &p.mu, &p.mu
	return p, nil
}

// Stats is the load at this moment.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{p.waiting, len(p.downloads), p.running}
}

// Submit hands r to the pool and never blocks. False means that the pool is full, that r's point has its share, or that
// the pool is draining; r was not touched then, and the caller answers it. ctx ends when nobody waits for r's answer any
// more: a download stops then, an upload is finished all the same.
func (p *Pool) Submit(ctx context.Context, r *Request) bool {
	t := &task{Request: r, ctx: ctx, size: r.size()}
	key := laneKey{r.Point, r.Message.Table(), r.Message.Op}
	p.mu.Lock()
	defer p.mu.Unlock()
	download := r.Message.Op == protocol.OpDownload
	full := p.waiting >= p.o.Queue
	if download {
		full = len(p.downloads) >= p.o.DownloadQueue
	}
	if full || p.closing || p.points[r.Point] >= p.o.PerPoint {
		if key.op == protocol.OpUpload {
			p.holds.set(key, r.Message.RequestID, p.o.Clock(), p.o.Hold)
		}
		return false
	}
	p.points[r.Point]++
	if download {
		p.downloads = append(p.downloads, t)
		p.load.Signal()
		return true
	}
	l := p.lanes[key]
	if l == nil {
		l = &lane{key: key}
		p.lanes[key] = l
		p.ready = append(p.ready, l)
		p.work.Signal()
	}
	t.lane = l
	l.tasks = append(l.tasks, t)
	p.waiting++
	return true
}

// Run works until ctx ends, then finishes what was accepted; what is left at the drain deadline is interrupted and
// answered GOING_AWAY, and the error (ErrDrainCut) says how much that was. It returns when every goroutine has ended.
func (p *Pool) Run(ctx context.Context) error {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var wg sync.WaitGroup
	for range p.o.Workers {
		wg.Go(func() { p.worker(hard, &p.work, p.takeWork) })
	}
	for range p.o.Downloads {
		wg.Go(func() { p.worker(hard, &p.load, p.takeDownload) })
	}
	<-ctx.Done()
	p.mu.Lock()
	p.closing = true
	p.work.Broadcast()
	p.load.Broadcast()
	p.mu.Unlock()
	deadline := time.AfterFunc(p.o.Drain, func() {
		p.mu.Lock()
		p.cut = p.running
		p.mu.Unlock()
		cancel()
	})
	wg.Wait()
	deadline.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == 0 {
		return nil
	}
	return fmt.Errorf("business: %d %w", p.cut, ErrDrainCut)
}

// worker runs what take gives until the pool closes and there is nothing left to take.
func (p *Pool) worker(ctx context.Context, more *sync.Cond, take func() []*task) {
	for {
		p.mu.Lock()
		batch := take()
		for batch == nil && !p.closing {
			more.Wait()
			batch = take()
		}
		p.running += len(batch)
		p.mu.Unlock()
		if batch == nil {
			return
		}
		statuses := p.run(ctx, batch)
		p.mu.Lock()
		p.running -= len(batch)
		for i, t := range batch {
			p.finish(t, statuses[i])
		}
		p.mu.Unlock()
	}
}

// finish takes t out of the books. With mu held.
func (p *Pool) finish(t *task, s protocol.Status) {
	if p.points[t.Point]--; p.points[t.Point] == 0 {
		delete(p.points, t.Point)
	}
	if t.lane == nil {
		if p.loading[t.Point]--; p.loading[t.Point] == 0 {
			delete(p.loading, t.Point)
		}
		return // this worker takes the point's next download itself
	}
	if t.leads {
		if p.shared[t.lane.key.table]--; p.shared[t.lane.key.table] == 0 {
			delete(p.shared, t.lane.key.table)
		}
		p.work.Signal() // for those that waited for it
	}
	if t.lane.key.op == protocol.OpUpload && s.Info().Retry {
		p.holds.set(t.lane.key, t.Message.RequestID, p.o.Clock(), p.o.Hold)
	}
	if len(t.lane.tasks) == 0 {
		delete(p.lanes, t.lane.key)
		return
	}
	p.ready = append(p.ready, t.lane)
	p.work.Signal()
}

// takeWork takes the next task of the first ready lane whose turn it can be, and when that is a small upload the small
// uploads of the same table that stand first in other lanes. With mu held.
func (p *Pool) takeWork() []*task {
	var batch []*task
	var table string
	rest := p.ready[:0]
	for _, l := range p.ready {
		small := p.small(l)
		switch {
		case len(batch) == 0 && !(small && p.shared[l.key.table] >= p.o.Shared):
			batch = append(batch, l.pop())
			if small {
				table = l.key.table
				p.shared[table]++
				batch[0].leads = true
			}
		case small && len(batch) > 0 && batch[0].leads && l.key.table == table && len(batch) < p.o.Batch:
			batch = append(batch, l.pop())
		default:
			rest = append(rest, l)
		}
	}
	clear(p.ready[len(rest):])
	p.ready = rest
	p.waiting -= len(batch)
	return batch
}

// small tells whether a lane's next task may share a transaction. One whose lane has just failed runs alone: if it waits
// for a lock once more, its neighbours need not.
func (p *Pool) small(l *lane) bool {
	_, failed := p.holds.by[l.key]
	return l.key.op == protocol.OpUpload && l.tasks[0].size <= p.o.Small && !failed
}

// takeDownload takes the first download whose point has not its share of the download workers. With mu held.
func (p *Pool) takeDownload() []*task {
	share := max(1, p.o.Downloads/2)
	for i, t := range p.downloads {
		if p.loading[t.Point] < share {
			p.downloads = append(p.downloads[:i], p.downloads[i+1:]...)
			p.loading[t.Point]++
			return []*task{t}
		}
	}
	return nil
}

func (l *lane) pop() *task {
	t := l.tasks[0]
	l.tasks[0] = nil
	l.tasks = l.tasks[1:]
	return t
}

// run runs a batch and survives its panics: whoever was not answered by then gets INTERNAL.
func (p *Pool) run(ctx context.Context, batch []*task) (statuses []protocol.Status) {
	statuses = make([]protocol.Status, len(batch))
	defer func() {
		if v := recover(); v != nil {
			p.o.Logger.Error().Str("point", batch[0].Point).Stringer("op", batch[0].Message.Op).Int("requests", len(batch)).
				Str("panic", fmt.Sprint(v)).Bytes("stack", debug.Stack()).Msg("a request panicked")
			for i, t := range batch {
				if !t.answered {
					statuses[i] = t.fail(ErrInternal)
				}
			}
		}
	}()
	if ctx.Err() != nil {
		p.mu.Lock()
		p.cut += len(batch)
		p.mu.Unlock()
		for i, t := range batch {
			statuses[i] = t.fail(ErrGoingAway)
		}
		return statuses
	}
	if batch[0].lane == nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(batch[0].ctx, cancel)()
		p.o.Runner.Run(ctx, batch[0].Request)
		return statuses
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	if batch[0].lane.key.op != protocol.OpUpload {
		p.o.Runner.Run(ctx, batch[0].Request)
		return statuses
	}
	p.runUploads(ctx, batch, statuses)
	return statuses
}

// runUploads refuses the uploads that are held back and runs the others.
func (p *Pool) runUploads(ctx context.Context, batch []*task, statuses []protocol.Status) {
	free := make([]*Request, 0, len(batch))
	at := make([]int, 0, len(batch))
	now := p.o.Clock()
	p.mu.Lock()
	for i, t := range batch {
		if p.holds.held(t.lane.key, t.Message.RequestID, now) {
			continue
		}
		free, at = append(free, t.Request), append(at, i)
	}
	p.mu.Unlock()
	next := 0
	for i, t := range batch {
		if next < len(at) && at[next] == i {
			next++
			continue
		}
		t.fail(ErrHeld)
	}
	if len(free) == 0 {
		return
	}
	for i, s := range p.o.Runner.Uploads(ctx, free) {
		statuses[at[i]] = s
	}
}
