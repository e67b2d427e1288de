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

	"syncgate/internal/account"
	"syncgate/internal/limit"
	"syncgate/protocol"
)

// Runner does the work that a Pool schedules. Handler is the one in use.
type Runner interface {
	// Uploads runs small uploads of one table together (or one large one) and answers each.
	Uploads(ctx context.Context, batch []*Request)
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
	Drain         time.Duration // for the accepted requests, after ctx ends
	BlockFor      time.Duration // how long a table's later uploads wait for a failed one to come again

	Away func() bool // reports that the database does not answer: only reports are accepted then; may be nil

	Clock  func() time.Time // time.Now
	Logger zerolog.Logger   // panics are logged here, with their stack
}

// Limits are the options' defaults and bounds.
func (o *PoolOptions) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Count("Workers", &o.Workers, max(8, 4*runtime.GOMAXPROCS(0)), 1, 10_000),
		limit.Count("Downloads", &o.Downloads, 8, 1, 10_000),
		limit.Count("Queue", &o.Queue, 1024, 1, 1<<20),
		limit.Count("DownloadQueue", &o.DownloadQueue, 16_384, 1, 1<<20),
		limit.Count("PerPoint", &o.PerPoint, 256, 1, 1<<20),
		limit.Count("Batch", &o.Batch, 64, 1, 10_000),
		limit.Count("Shared", &o.Shared, 2, 1, 10_000),
		limit.Bytes("Small", &o.Small, 16<<10, 1, 1<<30),
		limit.Time("Timeout", &o.Timeout, 2*time.Minute, time.Millisecond, 24*time.Hour),
		limit.Time("Drain", &o.Drain, 20*time.Second, time.Millisecond, time.Hour),
		limit.Time("BlockFor", &o.BlockFor, 90*time.Second, time.Millisecond, time.Hour),
	}
}

// ErrDrainCut means that the drain deadline came before the last request was done. Run's error wraps it.
var ErrDrainCut = errors.New("requests were cut at the drain deadline")

// Pool runs requests on a fixed number of goroutines, behind bounded queues.
//
// One point's uploads of one table have a queue of their own. They run one at a time, in the order in which they
// arrived, so that an agent may have several batches under way and two upserts of one key keep their order. Queues run
// side by side and take turns. A worker that takes a small upload also takes the small uploads at the head of other
// queues of the same table: they share a transaction. A table has two such batches under way, so that what comes
// meanwhile makes the next. It takes several from one queue where they came over the v1 wire: an agent has one request
// under way on a connection there, and those of several connections have no numbers that say which is the earlier.
//
// The order survives failure too. When an upload fails in such a way that the agent sends it again, those behind it in
// its queue are refused until it has come again (see blocks).
//
// Downloads have goroutines and a queue of their own, so that clients that read slowly delay downloads and nothing
// else.
//
// Workers and places in the queues are shared by account.Fits: a point, or a table, may have one more while as many are
// free as it has. So a point with many tables, and a table whose lock is not to be had, leave workers for the others.
type Pool struct {
	o PoolOptions

	mu        sync.Mutex
	work      sync.Cond // a queue became ready, or closing began
	load      sync.Cond // a download may be taken, or closing began
	queues    map[queueKey]*queue
	ready     []*queue       // queues of which nothing runs; first come, first served
	shared    map[string]int // batches of small uploads running, by table
	gathers   map[string]gather
	uploads   map[string]int // waiting, by table
	waiting   int            // requests in queues
	downloads []*Request     // waiting
	alike     map[string]int // waiting downloads by what they ask for
	loading   slots          // downloads running, by point
	working   slots          // batches and other requests running, by point
	tables    slots          // … by table
	points    map[string]int // waiting and running requests of a point
	running   int
	stops     map[*Request]func() // of the batches that run, by the first request: see Interrupt
	blocks    blocks
	closing   bool
	cut       int // requests refused because the drain deadline came
}

// PoolStats is a moment's load, for metrics.
type PoolStats struct{ Waiting, WaitingDownloads, Running int }

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
	p := &Pool{o: o, queues: map[queueKey]*queue{}, alike: map[string]int{}, stops: map[*Request]func(){},
		shared: map[string]int{}, gathers: map[string]gather{}, uploads: map[string]int{}, points: map[string]int{},
		blocks: blocks{}, loading: newSlots(o.Downloads), working: newSlots(o.Workers), tables: newSlots(o.Workers)}
	p.work.L, p.load.L = &p.mu, &p.mu
	return p, nil
}

// Stats is the load at this moment.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PoolStats{p.waiting, len(p.downloads), p.running}
}

// Submit hands r to the pool and never blocks. False means that the pool is full, that r's point has its share, that no
// request can be run now, or that the pool is draining. Then r is untouched, and the caller answers it.
func (p *Pool) Submit(r *Request) bool {
	key := queueKey{r.Point, r.Message.Table(), r.Message.Op}
	p.mu.Lock()
	defer p.mu.Unlock()
	download := key.op == protocol.OpDownload
	mine, waiting, places := p.points[r.Point], p.waiting, p.o.Queue
	if download {
		waiting, places = len(p.downloads), p.o.DownloadQueue
	}
	room := mine < p.o.PerPoint && account.Fits(int64(mine), int64(waiting), int64(places))
	if p.closing || p.o.Away != nil && key.op != protocol.OpReport && p.o.Away() || !room || !r.accept() {
		if key.op == protocol.OpUpload {
			p.blocks.add(key, r.Message.RequestID, p.o.Clock(), p.o.BlockFor)
		}
		return false
	}
	p.points[r.Point]++
	if download {
		p.downloads = append(p.downloads, r)
		p.alike[r.asks()]++
		p.load.Signal()
		return true
	}
	q := p.queues[key]
	if q == nil {
		q = &queue{key: key}
		p.queues[key] = q
		p.ready = append(p.ready, q)
	}
	r.queue = q
	q.requests = append(q.requests, r)
	p.waiting++
	if key.op == protocol.OpUpload {
		p.uploads[key.table]++
	}
	if q.running == 0 && !(p.small(q) && p.gathering(key.table, time.Now())) {
		p.work.Signal()
	}
	return true
}

// Run works until ctx ends and then finishes the accepted requests. At the drain deadline it interrupts the rest and
// answers them GOING_AWAY. The error (ErrDrainCut) gives their number. Run returns when every goroutine has ended.
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

// worker takes and runs batches until the pool closes and nothing is left.
func (p *Pool) worker(ctx context.Context, more *sync.Cond, take func() []*Request) {
	for {
		p.mu.Lock()
		batch := take()
		for batch == nil && !p.closing {
			more.Wait()
			batch = take()
		}
		p.running += len(batch)
		if len(p.ready) > 0 || len(p.downloads) > 0 {
			more.Signal() // one worker after the other wakes, as long as each finds work
		}
		p.mu.Unlock()
		if batch == nil {
			return
		}
		began := time.Now()
		p.run(ctx, batch)
		p.mu.Lock()
		p.running -= len(batch)
		p.beginGather(batch, min(time.Since(began)/gatherShare, gatherMost))
		p.occupy(batch[0], -1)
		for _, r := range batch {
			r.settle()
			p.finish(r)
		}
		p.mu.Unlock()
	}
}

// run runs a batch and recovers from its panics: a request without an answer then gets INTERNAL.
func (p *Pool) run(ctx context.Context, batch []*Request) {
	first := batch[0]
	defer func() {
		if v := recover(); v != nil {
			p.o.Logger.Error().Str("point", first.Point).Stringer("op", first.Message.Op).Int("requests", len(batch)).
				Str("panic", fmt.Sprint(v)).Bytes("stack", debug.Stack()).Msg("a request panicked")
			refuseAll(batch, ErrInternal)
		}
	}()
	if ctx.Err() != nil {
		p.mu.Lock()
		p.cut += len(batch)
		p.mu.Unlock()
		refuseAll(batch, ErrGoingAway)
		return
	}
	batch = unpacked(batch)
	if len(batch) == 0 {
		return
	}
	first = batch[0]
	if first.queue == nil {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer p.interruptible(batch, cancel)()
		defer context.AfterFunc(first.Context, cancel)()
		p.o.Runner.Run(ctx, first)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	defer p.interruptible(batch, cancel)()
	if first.Message.Op != protocol.OpUpload {
		p.o.Runner.Run(ctx, first)
		return
	}
	if free := p.refuseBlocked(batch); len(free) > 0 {
		p.o.Runner.Uploads(ctx, free)
	}
}

// Interrupt ends what runs now, because the database does not answer. Its requests are refused with
// store.ErrUnavailable; the ledger knows which uploads were committed all the same.
func (p *Pool) Interrupt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, stop := range p.stops {
		stop()
	}
}

// interruptible lets Interrupt cancel a batch until end is called.
func (p *Pool) interruptible(batch []*Request, cancel func()) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stops[batch[0]] = func() {
		for _, r := range batch {
			r.interrupted.Store(true)
		}
		cancel()
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.stops, batch[0])
	}
}

// unpacked unpacks the payloads of a batch. It refuses the requests whose payload does not open.
func unpacked(batch []*Request) []*Request {
	var open []*Request
	for _, r := range batch {
		if err := r.Message.Unpack(); err != nil {
			r.Refuse(err)
			continue
		}
		open = append(open, r)
	}
	return open
}

func refuseAll(batch []*Request, err error) {
	for _, r := range batch {
		r.Refuse(err)
	}
}

// refuseBlocked refuses the uploads that must wait for an earlier one, and returns the others.
func (p *Pool) refuseBlocked(batch []*Request) []*Request {
	var free, blocked []*Request
	now := p.o.Clock()
	p.mu.Lock()
	for _, r := range batch {
		if p.blocks.blocked(r.queue.key, r.Message.RequestID, now) {
			blocked = append(blocked, r)
		} else {
			free = append(free, r)
		}
	}
	p.mu.Unlock()
	refuseAll(blocked, ErrBlocked)
	return free
}
