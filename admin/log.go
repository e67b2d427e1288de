package admin

import (
	"bytes"
	"slices"
	"sync"
)

const (
	maxLine    = 8 << 10 // a longer log line is cut in the tail, not in the log
	tailBehind = 256     // lines a reader may be behind before it is dropped
)

// Log is an io.Writer that keeps the last lines written to it and passes each new one to its readers. One Write is one
// line, as zerolog writes. It never waits for a reader: one that falls behind is dropped. Its memory is bounded by twice
// the number of lines times 8 KiB.
type Log struct {
	mu    sync.Mutex
	most  int
	lines [][]byte // without their newline, oldest first
	tails map[chan []byte]struct{}
}

// NewLog keeps the last n lines, at least one.
func NewLog(n int) *Log { return &Log{most: max(n, 1), tails: map[chan []byte]struct{}{}} }

// Write takes one line. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	line := bytes.Clone(bytes.TrimRight(p[:min(len(p), maxLine)], "\n"))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	l.lines = l.lines[max(0, len(l.lines)-l.most):]
	for tail := range l.tails {
		select {
		case tail <- line:
		default:
			delete(l.tails, tail)
			close(tail)
		}
	}
	return len(p), nil
}

// Last returns up to n of the last lines, oldest first. They must not be changed.
func (l *Log) Last(n int) [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[max(0, len(l.lines)-n):])
}

// follow returns the lines kept and a channel of all that come after them, which is closed when its reader falls behind.
// It returns nil when there are limit readers already.
func (l *Log) follow(limit int) ([][]byte, chan []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.tails) >= limit {
		return nil, nil
	}
	tail := make(chan []byte, tailBehind)
	l.tails[tail] = struct{}{}
	return slices.Clone(l.lines), tail
}

func (l *Log) leave(tail chan []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tails, tail)
}
