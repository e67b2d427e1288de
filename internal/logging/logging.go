// Package logging keeps a log from costing more than it tells: a Writer never waits for who reads it, and a Limiter
// lets through a few lines of each kind.
package logging

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"
)

// TimeFormat is that of a line's time: RFC 3339 with milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z07:00"

// maxBytes is what a Writer keeps of lines that are not written yet.
const maxBytes = 4 << 20

// Writer passes lines on to another writer, on a goroutine of its own. Write never waits: over maxBytes of lines that
// the other has not taken, a line is dropped and counted, and the count is written before the next line that is taken.
type Writer struct {
	to io.Writer

	mu      sync.Mutex
	more    sync.Cond
	lines   [][]byte
	size    int
	dropped int
	total   uint64
	closed  bool
	done    chan struct{}
}

// NewWriter makes a Writer. Close ends it.
func NewWriter(to io.Writer) *Writer {
	w := &Writer{to: to, done: make(chan struct{})}
	w.more.L = &w.mu
	go w.run()
	return w
}

// Write takes one line. It never fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || w.size+len(line) > maxBytes {
		w.dropped++
		w.total++
		return len(line), nil
	}
	if w.dropped > 0 {
		text := fmt.Appendf(nil, `{"level":"warn","time":%q,"message":"the log was not read; %d lines are lost"}`+"\n",
			time.Now().Format(TimeFormat), w.dropped)
		w.lines, w.size, w.dropped = append(w.lines, text), w.size+len(text), 0
	}
	w.lines, w.size = append(w.lines, bytes.Clone(line)), w.size+len(line)
	w.more.Signal()
	return len(line), nil
}

// Dropped is how many lines were dropped since the start.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.total
}

func (w *Writer) run() {
	defer close(w.done)
	for {
		w.mu.Lock()
		for len(w.lines) == 0 && !w.closed {
			w.more.Wait()
		}
		lines := w.lines
		w.lines = nil
		w.mu.Unlock()
		if len(lines) == 0 {
			return
		}
		for _, line := range lines {
			_, _ = w.to.Write(line) // nobody is left to tell
			w.mu.Lock()
			w.size -= len(line)
			w.mu.Unlock()
		}
	}
}

// Close waits until the lines are written, but no longer than that.
func (w *Writer) Close(waitLimit time.Duration) {
	w.mu.Lock()
	w.closed = true
	w.more.Signal()
	w.mu.Unlock()
	select {
	case <-w.done:
	case <-time.After(waitLimit):
	}
}

// Limiter lets through Burst lines of one key in each Period.
type Limiter struct {
	Burst  int
	Period time.Duration
	Clock  func() time.Time

	mu    sync.Mutex
	keys  map[string]*passed
	sweep time.Time // not before this: a search for keys that are over
}

// passed is what became of one key's lines in this period.
type passed struct {
	until        time.Time
	lines, since int // let through; held back since the last that was
}

// maxKeys bounds the memory of a Limiter. More keys than that share one.
const maxKeys = 4096

// Allow tells whether a line of that key may be written, and how many were held back since the last one.
func (l *Limiter) Allow(key string) (ok bool, heldBack int) {
	now := l.Clock()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.keys[key]
	if p == nil && len(l.keys) >= maxKeys {
		if !now.Before(l.sweep) {
			l.sweep = now.Add(l.Period)
			maps.DeleteFunc(l.keys, func(_ string, p *passed) bool { return !now.Before(p.until) })
		}
		if len(l.keys) >= maxKeys {
			key = ""
			p = l.keys[key]
		}
	}
	if p == nil {
		p = &passed{}
		if l.keys == nil {
			l.keys = map[string]*passed{}
		}
		l.keys[key] = p
	}
	if !now.Before(p.until) {
		p.until, p.lines = now.Add(l.Period), 0
	}
	if p.lines >= l.Burst {
		p.since++
		return false, 0
	}
	p.lines++
	heldBack, p.since = p.since, 0
	return true, heldBack
}
