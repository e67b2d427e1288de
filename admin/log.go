package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxLine    = 8 << 10 // a longer log line is cut in the tail, not in the log
	tailBehind = 256     // lines a reader may be behind before it is dropped
)

// Log is an io.Writer that keeps the last lines written to it and passes each new one to its readers. One Write is one
// line, as zerolog writes. It never waits for a reader: one that falls behind is dropped. Its memory is bounded by
// twice the number of lines times 8 KiB.
type Log struct {
	boot  string // tells the ids of this run from those of another
	mu    sync.Mutex
	most  int
	lines []logLine // oldest first
	tails map[chan logLine]struct{}
}

// logLine is a line without its newline. Numbers rise by one.
type logLine struct {
	number uint64
	text   []byte
}

// NewLog keeps the last n lines, at least one.
func NewLog(n int) *Log {
	return &Log{boot: strconv.FormatInt(time.Now().UnixNano(), 36), most: max(n, 1), tails: map[chan logLine]struct{}{}}
}

// Write takes one line. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	text := bytes.Clone(bytes.TrimRight(p[:min(len(p), maxLine)], "\n"))
	l.mu.Lock()
	defer l.mu.Unlock()
	line := logLine{1, text}
	if n := len(l.lines); n > 0 {
		line.number = l.lines[n-1].number + 1
	}
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

// follow returns the lines kept after an id, all when it is of another run, and a channel of those that come after
// them. The channel is closed when its reader falls behind, and nil when there are limit readers already.
func (l *Log) follow(after string, limit int) ([]logLine, chan logLine) {
	boot, number, _ := strings.Cut(after, "-")
	n, err := strconv.ParseUint(number, 10, 64)
	if boot != l.boot || err != nil {
		n = 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.tails) >= limit {
		return nil, nil
	}
	tail := make(chan logLine, tailBehind)
	l.tails[tail] = struct{}{}
	from := slices.IndexFunc(l.lines, func(line logLine) bool { return line.number > n })
	if from < 0 {
		return nil, tail
	}
	return slices.Clone(l.lines[from:]), tail
}

func (l *Log) leave(tail chan logLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tails, tail)
}

var errBehind = errors.New("this reader fell behind and was dropped")

// levels are zerolog's names, the least first.
var levels = []string{"trace", "debug", "info", "warn", "error", "fatal", "panic"}

// logFilter chooses lines of the log. What is empty chooses all.
type logFilter struct {
	point, text string
	level       int
}

func (f *logFilter) takes(line []byte) bool {
	if f.text != "" && !bytes.Contains(bytes.ToLower(line), []byte(f.text)) {
		return false
	}
	if f.point == "" && f.level == 0 {
		return true
	}
	var fields struct{ Level, Point string }
	_ = json.Unmarshal(line, &fields) // a line that was cut has neither
	return (f.point == "" || fields.Point == f.point) && slices.Index(levels, fields.Level) >= f.level
}

// log streams the lines kept and every new one until the reader leaves or falls behind, or the server stops.
func (s *Server) log(r *http.Request, out *stream) error {
	q := r.URL.Query()
	f := logFilter{q.Get("point"), strings.ToLower(q.Get("q")), max(0, slices.Index(levels, q.Get("level")))}
	l := s.options.Log
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = q.Get("after")
	}
	kept, tail := l.follow(after, maxTails)
	if tail == nil {
		return &failure{http.StatusServiceUnavailable, "too many readers of the log"}
	}
	defer l.leave(tail)
	write := func(lines ...logLine) error {
		for _, line := range lines {
			var v any = json.RawMessage(line.text)
			if !json.Valid(line.text) {
				v = map[string]string{"message": string(line.text)}
			}
			if f.takes(line.text) {
				if err := out.add(fmt.Sprintf("%s-%d", l.boot, line.number), v); err != nil {
					return err
				}
			}
		}
		return out.flush()
	}
	if err := write(kept...); err != nil || q.Get("follow") == "0" {
		return err
	}
	for {
		select {
		case line, ok := <-tail:
			if !ok {
				return errBehind
			}
			if err := write(line); err != nil {
				return err
			}
		case <-r.Context().Done():
			return nil
		}
	}
}
