package gateway

import "sync"

// replyQueue seals short messages on a goroutine of its own. An event loop must not do that, because it may have to
// wait for the session's lock. The frames in flight bound the jobs, since a job belongs to one of them, or is the one
// notice of its connection.
type replyQueue struct {
	mu     sync.Mutex
	more   sync.Cond
	jobs   []func()
	closed bool
}

func newReplyQueue() *replyQueue {
	q := &replyQueue{}
	q.more.L = &q.mu
	return q
}

// add queues job. Jobs run in the order of the calls.
func (q *replyQueue) add(job func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, job)
	q.more.Signal()
}

func (q *replyQueue) run() {
	for {
		q.mu.Lock()
		for len(q.jobs) == 0 && !q.closed {
			q.more.Wait()
		}
		jobs := q.jobs
		q.jobs = nil
		q.mu.Unlock()
		if len(jobs) == 0 {
			return
		}
		for _, job := range jobs {
			job()
		}
	}
}

// close ends run when every job is done. A job that is added later is not run.
func (q *replyQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.more.Signal()
}
