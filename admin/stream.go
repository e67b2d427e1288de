package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
)

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
