package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// heartbeat is how often a stream of events sends a note. It keeps a proxy's connection open.
const heartbeat = 15 * time.Second

// stream writes values as lines of JSON, or as server-sent events (WHATWG HTML, section 9.2). Its headers are written
// with the first flush, so that what fails before is answered with a status of its own.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  bool

	mu    sync.Mutex
	begun bool
	buf   bytes.Buffer
}

// streamed makes a handler of a function that writes a stream. An error after its first line is the last line.
func streamed(f func(*http.Request, *stream) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return // a "GET" pattern matches HEAD too
		}
		out := &stream{w: w, control: http.NewResponseController(w),
			events: strings.Contains(r.Header.Get("Accept"), "text/event-stream")}
		ended := make(chan struct{})
		var beating sync.WaitGroup
		if out.events {
			beating.Go(func() { out.beat(ended) })
		}
		err := f(r, out)
		close(ended)
		beating.Wait()
		switch {
		case err != nil && !out.begun:
			failWith(w, err)
		case err != nil && !out.events: // a reader of events comes again with its last id
			_ = out.send(errorBody{err.Error()}) // the reader may have left
		case !out.begun:
			_ = out.send(struct{}{})
		}
	})
}

func (s *stream) beat(ended <-chan struct{}) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			s.mu.Lock()
			s.buf.WriteString(":\n\n")
			s.mu.Unlock()
			_ = s.flush() // the reader may have left
		}
	}
}

// add takes one value. id may be empty. JSON has no line breaks, so that one value is one line.
func (s *stream) add(id string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.events:
		s.buf.Write(b)
	case id == "":
		fmt.Fprintf(&s.buf, "data: %s\n", b)
	default:
		fmt.Fprintf(&s.buf, "id: %s\ndata: %s\n", id, b)
	}
	s.buf.WriteByte('\n')
	return nil
}

// send adds a value and flushes.
func (s *stream) send(v any) error {
	if err := s.add("", v); err != nil {
		return err
	}
	return s.flush()
}

// flush writes what was added, and at the beginning the headers. Each write has a deadline of its own: the stream as a
// whole has none.
func (s *stream) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first []byte
	if !s.begun {
		s.begun = true
		contentType := "application/x-ndjson"
		if s.events {
			contentType, first = "text/event-stream", []byte("retry: 1000\n\n") // milliseconds
		}
		s.w.Header().Set("Content-Type", contentType)
	}
	defer s.buf.Reset()
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := s.w.Write(append(first, s.buf.Bytes()...)); err != nil {
		return err
	}
	return s.control.Flush()
}
