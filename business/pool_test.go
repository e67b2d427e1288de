package business

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"syncgate/internal/rowset"
	"syncgate/protocol"

	"syncgate/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const waitLimit = 20 * time.Second

// answers collects replies.
type answers struct {
	mu    sync.Mutex
	got   map[string]*protocol.Message
	extra int
	ready chan string
}

func newAnswers() *answers {
	return &answers{got: map[string]*protocol.Message{}, ready: make(chan string, 4096)}
}

type answer struct {
	*answers
	name string
}

func (a answer) Reply(_ *Request, m *protocol.Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.got[a.name] != nil {
		a.extra++
	}
	a.got[a.name] = m
	if !m.More() {
		a.ready <- a.name
	}
	return nil
}

func (a *answers) wait(t *testing.T, n int) {
	t.Helper()
	deadline := time.After(waitLimit)
	for range n {
		select {
		case <-a.ready:
		case <-deadline:
			t.Fatal("no answer")
		}
	}
}

func (a *answers) status(name string) protocol.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got[name].Status
}

func (a *answers) upload(point, table string, seq uint64) *Request {
	m := &protocol.Message{Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(7, seq),
		Body: &protocol.UploadRequest{Table: table}}
	return &Request{Point: point, Context: context.Background(), Message: m,
		Client: answer{a, fmt.Sprintf("%s/%s/%d", point, table, seq)}}
}

func (a *answers) download(point string, n int) *Request {
	m := &protocol.Message{Op: protocol.OpDownload, RequestID: protocol.MakeRequestID(7, uint64(n))}
	return &Request{Point: point, Context: context.Background(), Message: m,
		Client: answer{a, fmt.Sprintf("%s/download/%d", point, n)}}
}

// runner is a Runner made of functions.
type runner struct {
	uploads func(ctx context.Context, batch []*Request) []error
	run     func(ctx context.Context, r *Request)
}

func (f runner) Uploads(ctx context.Context, batch []*Request) {
	for i, err := range f.uploads(ctx, batch) {
		if err != nil {
			batch[i].Refuse(err)
		} else {
			batch[i].Answer(&protocol.UploadReply{})
		}
	}
}

func (f runner) Run(ctx context.Context, r *Request) { f.run(ctx, r) }

// start runs a pool and returns a function that stops it and gives Run's error.
func start(t *testing.T, o PoolOptions) (*Pool, func() error) {
	t.Helper()
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	var once sync.Once
	stop := func() (err error) {
		once.Do(func() {
			cancel()
			err = <-done
		})
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return p, stop
}

func submit(t *testing.T, p *Pool, rs ...*Request) {
	t.Helper()
	for _, r := range rs {
		if !p.Submit(r) {
			t.Fatalf("%s %v refused", r.Point, r.Message.RequestID)
		}
	}
}

func TestPoolKeepsTheOrderOfAQueue(t *testing.T) {
	var mu sync.Mutex
	last := map[string]uint64{}
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 8, PerPoint: 1000, Queue: 4000,
		Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range batch {
				key := r.Point + "/" + r.Message.Table()
				if seq := r.Message.RequestID.Seq(); seq != last[key]+1 {
					t.Errorf("%s: %d after %d", key, seq, last[key])
				}
				last[key]++
			}
			return make([]error, len(batch))
		}}})
	for seq := range uint64(50) {
		for point := range 6 {
			for _, table := range []string{"a", "b", "c"} {
				submit(t, p, a.upload(fmt.Sprint(point), table, seq+1))
			}
		}
	}
	a.wait(t, 50*6*3)
	if a.extra != 0 {
		t.Errorf("%d requests were answered twice", a.extra)
	}
}

func TestPoolRunsQueuesSideBySide(t *testing.T) {
	var meeting sync.WaitGroup // each queue waits until all are running
	meeting.Add(3)
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 6, Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
		meeting.Done()
		meeting.Wait()
		return make([]error, len(batch))
	}}})
	submit(t, p, a.upload("p", "a", 1), a.upload("p", "b", 2), a.upload("p", "c", 3))
	a.wait(t, 3)
}

// v1 is an upload over the v1 wire, whose sequence is a part of its token.
func (a *answers) v1(point, table string, seq uint64) *Request {
	r := a.upload(point, table, seq)
	r.Message.RequestID = protocol.MakeRequestID(protocol.LegacyEpoch|7, seq*0x9e3779b97f4a7c15)
	return r
}

// TestPoolTakesV1UploadsTogether sends uploads of one table of one point over several connections.
func TestPoolTakesV1UploadsTogether(t *testing.T) {
	batches := make(chan []*Request, 10)
	entered, gate := make(chan bool, 10), make(chan bool)
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 4, Small: 100,
		Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
			batches <- batch
			entered <- true
			<-gate
			return make([]error, len(batch))
		}}})
	submit(t, p, a.v1("p", "a", 1))
	<-entered
	var sent []*Request
	for seq := range uint64(7) {
		sent = append(sent, a.v1("p", "a", seq+2))
	}
	large := a.v1("p", "a", 9)
	large.Message.Body = &protocol.UploadRequest{Table: "a", Rows: rowset.Rows{Values: make([]any, 7)}}
	submit(t, p, append(sent, large, a.upload("p", "a", 10))...)
	close(gate)
	a.wait(t, 10)
	close(batches)
	var sizes []int
	for batch := range batches {
		sizes = append(sizes, len(batch))
		if len(batch) > 1 && !slices.Equal(batch, sent) {
			t.Error("a batch has another order than its requests came in")
		}
	}
	if !slices.Equal(sizes, []int{1, 7, 1, 1}) {
		t.Errorf("batches of %v; a large one, and one of the v2 wire, run alone", sizes)
	}
	if p.Stats().Waiting != 0 || len(p.uploads) != 0 {
		t.Errorf("requests are left: %v", p.uploads)
	}
}

func TestPoolGathers(t *testing.T) {
	a := newAnswers()
	p, err := NewPool(PoolOptions{Runner: runner{}}) // its workers do not run
	if err != nil {
		t.Fatal(err)
	}
	submit(t, p, a.v1("p", "a", 1), a.v1("p", "a", 2), a.v1("q", "a", 1))
	p.mu.Lock()
	defer p.mu.Unlock()
	took := func(want int) []*Request {
		t.Helper()
		batch := p.takeWork()
		if len(batch) != want {
			t.Fatalf("a batch of %d, not %d", len(batch), want)
		}
		return batch
	}
	end := func(batch []*Request, wait time.Duration) {
		p.beginGather(batch, wait)
		p.occupy(batch[0], -1)
		for _, r := range batch {
			p.finish(r)
		}
	}
	send := func(rs ...*Request) {
		t.Helper()
		p.mu.Unlock()
		defer p.mu.Lock()
		submit(t, p, rs...)
	}
	first := took(3)
	send(a.v1("p", "a", 3))
	end(first, time.Hour)
	send(a.v1("q", "a", 2), a.v1("q", "a", 3))
	took(0) // there may be four
	send(a.v1("p", "b", 1))
	end(took(1), time.Hour) // another table does not wait
	send(a.v1("p", "a", 4))
	end(took(4), 0)
	send(a.v1("p", "a", 5))
	end(took(1), time.Hour) // the time is over
	send(a.v1("p", "a", 6))
	end(took(1), time.Hour) // one alone is followed by no pause
}

func TestPoolTakesSmallUploadsTogether(t *testing.T) {
	sizes := make(chan int, 10)
	entered, gate := make(chan bool, 10), make(chan bool)
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 1, Small: 100,
		Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
			sizes <- len(batch)
			entered <- true
			<-gate
			return make([]error, len(batch))
		}}})
	submit(t, p, a.upload("first", "a", 1))
	<-entered
	for i := range 100 {
		submit(t, p, a.upload(fmt.Sprint(i), "a", 1))
	}
	large := a.upload("large", "a", 1)
	large.Message.Body = &protocol.UploadRequest{Table: "a", Rows: rowset.Rows{Values: make([]any, 7)}}
	submit(t, p, large, a.upload("other table", "b", 1), a.upload("0", "a", 2))
	close(gate)
	a.wait(t, 104)
	close(sizes)
	var got []int
	for n := range sizes {
		got = append(got, n)
	}
	// One at first, 64 of the others, the remaining 36 with the second of point 0 (which waited for its first), the
	// large one alone, and the one of the other table.
	slices.Sort(got)
	if want := []int{1, 1, 1, 37, 64}; !slices.Equal(got, want) {
		t.Errorf("batches of %v, want %v", got, want)
	}
}

func TestPoolMakesFewBatchesOfATable(t *testing.T) {
	entered, gate := make(chan string, 10), make(chan bool)
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 8, Batch: 1, Small: 100,
		Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
			entered <- batch[0].Point
			<-gate
			return make([]error, len(batch))
		}}})
	submit(t, p, a.upload("p", "a", 1), a.upload("q", "a", 1))
	<-entered
	<-entered
	submit(t, p, a.upload("r", "a", 1))
	large := a.upload("large", "a", 1)
	large.Message.Body = &protocol.UploadRequest{Table: "a", Rows: rowset.Rows{Values: make([]any, 7)}}
	submit(t, p, large)
	if got := <-entered; got != "large" {
		t.Errorf("%s runs as a third small batch of one table", got)
	}
	submit(t, p, a.upload("s", "b", 1))
	if got := <-entered; got != "s" {
		t.Errorf("%s runs, where another table's turn was", got)
	}
	close(gate)
	a.wait(t, 5)
}

func TestPoolIsBounded(t *testing.T) {
	gate := make(chan bool)
	entered := make(chan bool, 10)
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 1, Downloads: 1, Queue: 4, DownloadQueue: 1, PerPoint: 2, Runner: runner{
		uploads: func(_ context.Context, batch []*Request) []error {
			entered <- true
			<-gate
			return make([]error, len(batch))
		},
		run: func(_ context.Context, r *Request) {
			entered <- true
			<-gate
			r.Answer(&protocol.DownloadReply{})
		},
	}})
	submit(t, p, a.upload("p", "a", 1))
	<-entered
	submit(t, p, a.upload("p", "a", 2))
	if p.Submit(a.upload("p", "b", 3)) {
		t.Error("a third request of one point was taken")
	}
	submit(t, p, a.upload("q", "a", 1), a.upload("r", "a", 1), a.upload("s", "a", 1))
	if p.Submit(a.upload("t", "a", 1)) {
		t.Error("a request over the queue was taken")
	}
	submit(t, p, a.download("t", 1)) // downloads have room of their own
	<-entered
	submit(t, p, a.download("u", 1))
	if p.Submit(a.download("v", 1)) {
		t.Error("a download over its queue was taken")
	}
	if got, want := p.Stats(), (PoolStats{Waiting: 4, WaitingDownloads: 1, Running: 2}); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	close(gate)
	a.wait(t, 7)
	submit(t, p, a.upload("p", "b", 4)) // the books are balanced again
	a.wait(t, 1)
}

func TestPoolDownloadsHoldNobodyElse(t *testing.T) {
	gate := make(chan bool)
	entered := make(chan string, 10)
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 1, Downloads: 4, Runner: runner{
		uploads: func(_ context.Context, batch []*Request) []error { return make([]error, len(batch)) },
		run: func(_ context.Context, r *Request) {
			entered <- r.Point
			<-gate
			r.Answer(&protocol.DownloadReply{})
		},
	}})
	for i := range 4 {
		submit(t, p, a.download("greedy", i))
	}
	submit(t, p, a.download("modest", 0))
	counts := map[string]int{}
	for range 3 {
		counts[<-entered]++
	}
	if counts["greedy"] != 2 || counts["modest"] != 1 {
		t.Errorf("running downloads: %v, want half of the workers for the greedy point", counts)
	}
	submit(t, p, a.upload("p", "a", 1))
	a.wait(t, 1)
	close(gate)
	a.wait(t, 5)
}

// A point with many tables, and a table that many points wait for, leave workers for the others.
func TestPoolSharesWorkers(t *testing.T) {
	for name, greedy := range map[string]func(a *answers, i int) *Request{
		"point": func(a *answers, i int) *Request { return a.upload("greedy", fmt.Sprint(i), uint64(i)) },
		"table": func(a *answers, i int) *Request {
			r := a.upload(fmt.Sprint(i), "greedy", uint64(i))
			r.Message.Body = &protocol.UploadRequest{Table: "greedy", Rows: rowset.Rows{Values: make([]any, 7)}}
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate, entered := make(chan bool), make(chan bool, 10)
			a := newAnswers()
			p, _ := start(t, PoolOptions{Workers: 8, Small: 100,
				Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
					if batch[0].Point == "greedy" || batch[0].Message.Table() == "greedy" {
						entered <- true
						<-gate
					}
					return make([]error, len(batch))
				}}})
			for i := range 8 {
				submit(t, p, greedy(a, i))
			}
			for range 4 {
				<-entered
			}
			submit(t, p, a.upload("modest", "a", 1))
			a.wait(t, 1)
			if n := len(entered); n > 0 {
				t.Errorf("%d of 8 workers serve the greedy", 4+n)
			}
			close(gate)
			a.wait(t, 8)
		})
	}
}

func TestPoolDownloadEndsWithItsClient(t *testing.T) {
	a := newAnswers()
	entered := make(chan bool)
	p, _ := start(t, PoolOptions{Runner: runner{run: func(ctx context.Context, r *Request) {
		close(entered)
		<-ctx.Done()
		r.Refuse(ctx.Err())
	}}})
	r := a.download("p", 1)
	var gone context.CancelFunc
	r.Context, gone = context.WithCancel(context.Background())
	submit(t, p, r)
	<-entered
	gone()
	a.wait(t, 1)
}

func TestPoolSurvivesPanics(t *testing.T) {
	var log bytes.Buffer
	a := newAnswers()
	p, stop := start(t, PoolOptions{Workers: 1, Logger: zerolog.New(zerolog.SyncWriter(&log)), Runner: runner{
		uploads: func(_ context.Context, batch []*Request) []error {
			if batch[0].Message.Table() == "bad" {
				batch[0].Answer(&protocol.UploadReply{})
				panic("out of cheese")
			}
			return make([]error, len(batch))
		},
		run: func(context.Context, *Request) { panic(errors.New("download")) },
	}})
	gate := a.upload("x", "good", 1)
	submit(t, p, gate, a.upload("p", "bad", 1), a.upload("p", "good", 2), a.download("p", 3))
	a.wait(t, 4)
	if s := a.status("p/download/3"); s != protocol.StatusInternal {
		t.Errorf("a download that panicked was answered %v", s)
	}
	if s := a.status("p/bad/1"); s != protocol.StatusOK || a.extra != 0 {
		t.Errorf("a request that was answered before the panic: %v, %d answered twice", s, a.extra)
	}
	submit(t, p, a.upload("p", "good", 3))
	a.wait(t, 1)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n := bytes.Count(log.Bytes(), []byte(`"stack":"goroutine`)); n != 2 {
		t.Errorf("%d panics in the log: %s", n, log.Bytes())
	}
}

func TestPoolBlocksWhatComesAfterAFailure(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1e9, 0)
	failing := true
	a := newAnswers()
	gate, entered := make(chan bool), make(chan bool)
	var ran []uint64
	p, _ := start(t, PoolOptions{Workers: 1, Clock: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}, Runner: runner{
		uploads: func(_ context.Context, batch []*Request) []error {
			errs := make([]error, len(batch))
			for i, r := range batch {
				seq := r.Message.RequestID.Seq()
				if ran = append(ran, seq); seq == 2 && failing {
					errs[i] = store.ErrRetry
					entered <- true
					<-gate
				}
			}
			return errs
		}}})
	send := func(seqs ...uint64) {
		for _, s := range seqs {
			submit(t, p, a.upload("p", "a", s))
		}
	}
	expect := func(name string, want protocol.Status) {
		t.Helper()
		if got := a.status(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	send(1, 2)
	<-entered
	send(3, 4)
	submit(t, p, a.upload("q", "a", 3))
	gate <- true
	a.wait(t, 5)
	expect("p/a/2", protocol.StatusDeadlock)
	expect("p/a/3", protocol.StatusBusy)
	expect("p/a/4", protocol.StatusBusy)
	expect("q/a/3", protocol.StatusOK) // another point's order is its own

	failing = false
	send(1, 2, 3, 4)
	a.wait(t, 4)
	for _, name := range []string{"p/a/2", "p/a/3", "p/a/4"} {
		expect(name, protocol.StatusOK)
	}
	if want := []uint64{1, 2, 3, 1, 2, 3, 4}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}

	// An agent that gave up the failed one does not block its queue for ever.
	failing = true
	submit(t, p, a.upload("p", "b", 2))
	<-entered
	gate <- true
	a.wait(t, 1)
	submit(t, p, a.upload("p", "b", 3))
	a.wait(t, 1)
	expect("p/b/3", protocol.StatusBusy)
	mu.Lock()
	now = now.Add(91 * time.Second)
	mu.Unlock()
	submit(t, p, a.upload("p", "b", 3))
	a.wait(t, 1)
	expect("p/b/3", protocol.StatusOK)
}

func TestPoolRunsWhatFailedAlone(t *testing.T) {
	entered, gate := make(chan int), make(chan error)
	a := newAnswers()
	p, _ := start(t, PoolOptions{Workers: 1, Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
		entered <- len(batch)
		return slices.Repeat([]error{<-gate}, len(batch))
	}}})
	submit(t, p, a.upload("p", "a", 1))
	<-entered
	gate <- store.ErrRetry
	a.wait(t, 1)
	submit(t, p, a.upload("q", "a", 1))
	<-entered
	submit(t, p, a.upload("r", "a", 1), a.upload("p", "a", 1), a.upload("s", "a", 1))
	gate <- nil
	var sizes []int
	for range 2 {
		sizes = append(sizes, <-entered)
		gate <- nil
	}
	a.wait(t, 4)
	if slices.Sort(sizes); !slices.Equal(sizes, []int{1, 2}) {
		t.Errorf("batches of %v, not of one and two", sizes)
	}
}

func TestBlocks(t *testing.T) {
	now := time.Unix(1e9, 0)
	id := protocol.MakeRequestID
	b := blocks{}
	k := queueKey{"p", "a", protocol.OpUpload}
	b.add(k, id(1, 5), now, time.Minute)
	b.add(k, id(1, 9), now, time.Minute) // the earlier one is the one to wait for
	if b.blocked(k, id(1, 4), now) || !b.blocked(k, id(1, 6), now) || b.blocked(k, id(2, 6), now) {
		t.Error("only later uploads of the same epoch are blocked")
	}
	if b.blocked(k, id(1, 5), now) || b.blocked(k, id(1, 6), now) {
		t.Error("the awaited upload lifts the block")
	}
	// A point that fails in any number of tables has one block in the end, and another point's stays.
	b.add(k, id(1, 5), now, time.Minute)
	for i := range 1000 {
		b.add(queueKey{"greedy", fmt.Sprint(i), protocol.OpUpload}, id(1, uint64(i)+7), now, time.Minute)
		if n := len(b["greedy"]); n > blocksPerPoint {
			t.Fatalf("%d blocks of one point", n)
		}
	}
	greedy := queueKey{"greedy", "3", protocol.OpUpload}
	if !b.blocked(k, id(1, 6), now) || !b.blocked(greedy, id(1, 11), now) || b.blocked(greedy, id(1, 7), now) {
		t.Error("an order was lost")
	}
	if b.blocked(k, id(1, 6), now.Add(time.Minute)) || len(b) != 0 {
		t.Error("a block has not ended", b)
	}
}

func TestPoolDrains(t *testing.T) {
	gate, entered := make(chan bool), make(chan bool, 10)
	a := newAnswers()
	p, stop := start(t, PoolOptions{Workers: 1,
		Runner: runner{uploads: func(_ context.Context, batch []*Request) []error {
			entered <- true
			<-gate
			return make([]error, len(batch))
		}}})
	submit(t, p, a.upload("p", "a", 1), a.upload("p", "a", 2))
	<-entered
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	for closing := false; !closing; runtime.Gosched() {
		p.mu.Lock()
		closing = p.closing
		p.mu.Unlock()
	}
	if p.Submit(a.upload("late", "a", 1)) {
		t.Error("a request was taken while draining")
	}
	close(gate)
	if err := <-stopped; err != nil {
		t.Errorf("drained with %v", err)
	}
	if s := a.status("p/a/2"); s != protocol.StatusOK {
		t.Errorf("an accepted upload was answered %v", s)
	}
}

func TestPoolDrainHasADeadline(t *testing.T) {
	entered := make(chan bool, 10)
	a := newAnswers()
	p, stop := start(t, PoolOptions{Workers: 1, Drain: time.Millisecond,
		Runner: runner{uploads: func(ctx context.Context, batch []*Request) []error {
			entered <- true
			<-ctx.Done()
			return slices.Repeat([]error{ctx.Err()}, len(batch))
		}}})
	submit(t, p, a.upload("p", "a", 1), a.upload("p", "a", 2))
	<-entered
	err := stop()
	if !errors.Is(err, ErrDrainCut) || err.Error() != "business: 2 requests were cut at the drain deadline" {
		t.Errorf("drain says %v", err)
	}
	for _, name := range []string{"p/a/1", "p/a/2"} {
		if s := a.status(name); s != protocol.StatusGoingAway {
			t.Errorf("%s was answered %v", name, s)
		}
	}
}

// What runs when the database stops to answer is refused as the database's, not as the server's end.
func TestPoolInterrupts(t *testing.T) {
	a, begun := newAnswers(), make(chan bool, 2)
	block := func(ctx context.Context) error {
		begun <- true
		<-ctx.Done()
		return ctx.Err()
	}
	p, _ := start(t, PoolOptions{Runner: runner{
		uploads: func(ctx context.Context, batch []*Request) []error { return []error{block(ctx)} },
		run:     func(ctx context.Context, r *Request) { r.Refuse(block(ctx)) },
	}})
	submit(t, p, a.upload("p", "t", 1), a.download("p", 2))
	<-begun
	<-begun
	p.Interrupt()
	a.wait(t, 2)
	for name, m := range a.got {
		if m.Status != protocol.StatusDBUnavailable {
			t.Errorf("%s: %v", name, m.Status)
		}
	}
}
