package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
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

// heartbeat is how often a silent stream sends a note. It keeps a proxy's connection open and finds lost readers.
const heartbeat = 15 * time.Second

// log streams the lines kept and every new one until the reader leaves or falls behind, or the server stops.
func (s *Server) log(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		return // "GET" patterns match HEAD too
	}
	kept, tail := s.options.Log.follow(maxTails)
	if tail == nil {
		http.Error(w, "too many readers of the log", http.StatusServiceUnavailable)
		return
	}
	defer s.options.Log.leave(tail)

	out := stream{w: w, control: http.NewResponseController(w)}
	contentType := "text/plain; charset=utf-8"
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		contentType, out.events = "text/event-stream", true
	}
	w.Header().Set("Content-Type", contentType)
	if out.send(kept...) != nil {
		return
	}
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	for {
		var err error
		select {
		case line, ok := <-tail:
			if !ok {
				_ = out.note("dropped: this reader fell behind")
				return
			}
			err = out.send(line)
		case <-alive.C:
			err = out.note("")
		case <-r.Context().Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// stream writes lines as plain text, or as server-sent events (WHATWG HTML, section 9.2).
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  bool
}

func (s *stream) send(lines ...[]byte) error {
	var b bytes.Buffer
	for _, line := range lines {
		if !s.events {
			b.Write(line)
			b.WriteByte('\n')
			continue
		}
		// A carriage return ends a line of an event as a newline does.
		for part := range bytes.SplitSeq(bytes.ReplaceAll(line, []byte("\r"), []byte("\n")), []byte("\n")) {
			fmt.Fprintf(&b, "data: %s\n", part)
		}
		b.WriteByte('\n')
	}
	return s.write(b.Bytes())
}

// note writes a comment. In plain text an empty one writes nothing.
func (s *stream) note(text string) error {
	switch {
	case s.events:
		return s.write([]byte(": " + text + "\n\n"))
	case text != "":
		return s.write([]byte("-- " + text + "\n"))
	}
	return nil
}

// write gives each write a deadline of its own: the stream as a whole has none.
func (s *stream) write(b []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}
