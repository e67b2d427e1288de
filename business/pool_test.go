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
