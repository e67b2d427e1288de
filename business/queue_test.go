package business

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
)

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
	send(a.v1("p", "c", 1), a.v1("q", "c", 1))
	end(took(2), 0) // no more come
	for began := time.Now(); len(p.gathers) > 0; {
		p.mu.Unlock()
		time.Sleep(time.Millisecond)
		p.mu.Lock()
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%v are still waited for", p.gathers)
		}
	}
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
