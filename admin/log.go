package admin

import (
	"bytes"
	"sync"
)

const (
	maxLine    = 8 << 10 // a longer log line is cut in the tail, not in the log
	tailBehind = 256     // lines a reader may be behind before it is dropped
)

// Log is an io.Writer that keeps the last lines written to it and passes each new one to its readers. One Write is one
// line, as zerolog writes. It never waits for a reader: one that falls behind is dropped. Its memory is bounded by the
// number of lines times 8 KiB.
type Log struct {
	mu    sync.Mutex
	ring  [][]byte // lines without their newline; oldest at next once full
	next  int
	tails map[*tail]struct{}
}

// tail is one reader. lines is closed when it fell behind.
type tail struct{ lines chan []byte }

// NewLog keeps the last n lines, at least one.
func NewLog(n int) *Log {
	return &Log{ring: make([][]byte, 0, max(n, 1)), tails: make(map[*tail]struct{})}
}

// Write takes one line. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	line := bytes.Clone(bytes.TrimRight(p[:min(len(p), maxLine)], "\n"))
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < cap(l.ring) {
		l.ring = append(l.ring, line)
	} else {
		l.ring[l.next] = line
		l.next = (l.next + 1) % len(l.ring)
	}
	for t := range l.tails {
		select {
		case t.lines <- line:
		default:
			delete(l.tails, t)
			close(t.lines)
		}
	}
	return len(p), nil
}

// Last returns up to n of the last lines, oldest first. They must not be changed.
func (l *Log) Last(n int) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last(n)
}

func (l *Log) last(n int) [][]byte {
	lines := make([][]byte, 0, len(l.ring))
	lines = append(append(lines, l.ring[l.next:]...), l.ring[:l.next]...)
	return lines[max(0, len(lines)-n):]
}

// follow returns the lines kept and a reader of all that come after them, or nil when there are limit readers already.
func (l *Log) follow(limit int) ([][]byte, *tail) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.tails) >= limit {
		return nil, nil
	}
	t := &tail{lines: make(chan []byte, tailBehind)}
	l.tails[t] = struct{}{}
	return l.last(len(l.ring)), t
}

func (l *Log) leave(t *tail) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tails, t)
}
