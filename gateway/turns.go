package gateway

import (
	"runtime"
	"sync"
)

// turns runs jobs on goroutines of its own. Those with one key run in the order of the calls of add. Keys take turns,
// so that a client with many or long jobs delays its own most. What bounds the jobs is that each belongs to a frame in
// flight, or is the one notice of its connection.
type turns struct {
	mu      sync.Mutex
	more    sync.Cond
	waiting map[string][]func() // jobs by key; empty while a key's last job runs
	ready   []string            // keys with a job and none running
	closed  bool
}

func newTurns() *turns {
	t := &turns{waiting: map[string][]func(){}}
	t.more.L = &t.mu
	return t
}

// add queues job behind those of the same key.
func (t *turns) add(key string, job func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	jobs, known := t.waiting[key]
	t.waiting[key] = append(jobs, job)
	if !known {
		t.ready = append(t.ready, key)
		t.more.Signal()
	}
}

// run runs jobs until close was called and nothing is left. Several goroutines may call it.
func (t *turns) run() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		for len(t.ready) == 0 {
			if t.closed && len(t.waiting) == 0 {
				t.more.Broadcast()
				return
			}
			t.more.Wait()
		}
		key := t.ready[0]
		t.ready = t.ready[1:]
		job := t.waiting[key][0]
		t.waiting[key][0] = nil
		t.waiting[key] = t.waiting[key][1:]
		t.mu.Unlock()
		job()
		t.mu.Lock()
		if len(t.waiting[key]) == 0 {
			delete(t.waiting, key)
		} else {
			t.ready = append(t.ready, key)
		}
	}
}

// close ends run when every job is done.
func (t *turns) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.more.Broadcast()
}

// decoders is how many goroutines read packets of the v1 wire: not so many that the event loops wait for a processor.
func decoders() int { return max(1, runtime.GOMAXPROCS(0)/2) }
