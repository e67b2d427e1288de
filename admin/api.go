package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"syncgate/store"
)

// maxBody bounds the body of an action.
const maxBody = 1 << 20

// failure is an error with an HTTP status of its own.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

func bad(format string, args ...any) error {
	return &failure{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

var errReadOnly = &failure{http.StatusForbidden, "actions are not allowed at this address; " +
	"set admin.allow_actions = true, or use the command line on the server's host"}

// api adds the API's routes.
func (s *Server) api(mux *http.ServeMux) {
	get := func(path string, f func(*http.Request) (any, error)) { mux.Handle("GET /api/"+path, answer(f)) }
	get("status", func(r *http.Request) (any, error) { return s.status(r), nil })
	get("history", func(*http.Request) (any, error) { return s.history.read(), nil })
	get("points", s.listPoints)
	get("points/{point}", s.onePoint)
	get("rules", s.listRules)
	get("quarantine", s.listQuarantine)
	get("quarantine/counts", s.countQuarantine)
	get("connections", s.connections)
	get("loglevel", func(*http.Request) (any, error) { return levelBody{s.options.Gateway.Level()}, nil })
	mux.Handle("GET /api/log", streamed(s.log))
	mux.Handle("GET /api/synclog", streamed(s.syncLog))
	mux.Handle("GET /api/tap", streamed(s.tap))

	// An action reads its body into a B.
	mux.Handle("POST /api/quarantine/replay", act(s, s.replay))
	mux.Handle("POST /api/quarantine/drop", act(s, s.drop))
	mux.Handle("POST /api/quarantine/edit", act(s, s.edit))
	mux.Handle("POST /api/sync-now", act(s, s.syncNow))
	mux.Handle("POST /api/drain", act(s, func(context.Context, *struct{}, *stream) error {
		s.options.Gateway.Drain()
		return nil
	}))
	mux.Handle("POST /api/reload", act(s, func(_ context.Context, _ *struct{}, out *stream) error {
		done, err := s.options.Gateway.Reload()
		if err != nil {
			return bad("%v", err)
		}
		return out.send(done)
	}))
	mux.Handle("POST /api/loglevel", act(s, func(_ context.Context, b *levelBody, _ *stream) error {
		if err := s.options.Gateway.SetLevel(b.Level); err != nil {
			return bad("%v", err)
		}
		return nil
	}))
	mux.Handle("GET /api/", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, "the API has no such path")
	}))
}

type levelBody struct {
	Level string `json:"level"`
}

// answer makes a handler of a function that returns what to write as JSON.
func answer(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			failWith(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // the reader may have left
	})
}

// act makes a handler of an action, whose answer is a stream of lines; {} when it has none.
func act[B any](s *Server, f func(ctx context.Context, body *B, out *stream) error) http.Handler {
	return streamed(func(r *http.Request, out *stream) error {
		if r.Context().Value(trusted{}) == nil {
			return errReadOnly
		}
		body := new(B)
		d := json.NewDecoder(http.MaxBytesReader(out.w, r.Body, maxBody))
		d.DisallowUnknownFields()
		if err := d.Decode(body); err != nil && !errors.Is(err, io.EOF) { // an empty body chooses nothing
			return bad("the request's body: %v", err)
		}
		defer s.cache.forget()
		return f(r.Context(), body, out)
	})
}

type errorBody struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(errorBody{text}) // the reader may have left
}

func failWith(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var own *failure
	var newer *store.NewerError
	var row *store.RowError
	switch {
	case errors.As(err, &own):
		status = own.status
	case errors.Is(err, store.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, store.ErrMismatch), errors.As(err, &newer), errors.As(err, &row):
		status = http.StatusConflict
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	}
	fail(w, status, err.Error())
}

// number reads a number of a query; 0 when it is missing.
func number(q url.Values, name string) (uint64, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, bad("%s=%s is not a number", name, text)
	}
	return n, nil
}

// List is a part of a longer list.
type List[T any] struct {
	Total   int    `json:"total"`             // in all
	Matched int    `json:"matched"`           // that the filter takes
	Rows    []T    `json:"rows"`              // from the offset on
	Unknown string `json:"unknown,omitempty"` // why this is not of now
}

// pointOrder compares points by what the query's sort names.
var pointOrder = map[string]func(a, b *Point) int{
	"point":     func(a, b *Point) int { return 0 }, // as they come
	"state":     func(a, b *Point) int { return cmp.Compare(a.rank(), b.rank()) },
	"seen":      func(a, b *Point) int { return b.Seen.Compare(a.Seen) },
	"wire":      func(a, b *Point) int { return cmp.Compare(a.Wire, b.Wire) },
	"rows_up":   func(a, b *Point) int { return cmp.Compare(b.RowsUp, a.RowsUp) },
	"lag":       func(a, b *Point) int { return cmp.Compare(b.lag(), a.lag()) },
	"backlog":   func(a, b *Point) int { return cmp.Compare(b.reported().Backlog, a.reported().Backlog) },
	"version":   func(a, b *Point) int { return cmp.Compare(a.reported().Software, b.reported().Software) },
	"rows_down": func(a, b *Point) int { return cmp.Compare(b.RowsDown, a.RowsDown) },
}

func (s *Server) listPoints(r *http.Request) (any, error) {
	q := r.URL.Query()
	order, ok := pointOrder[cmp.Or(q.Get("sort"), "point")]
	if !ok {
		return nil, bad("points cannot be sorted by %q", q.Get("sort"))
	}
	offset, err := number(q, "offset")
	if err != nil {
		return nil, err
	}
	limit, err := number(q, "limit")
	if err != nil {
		return nil, err
	}
	if limit = cmp.Or(limit, 100); limit > 10000 {
		return nil, bad("limit is at most 10000")
	}
	state, text := q.Get("state"), strings.ToLower(q.Get("q"))
	snap := s.read(r.Context())
	all := s.points(&snap)
	matched := make([]*Point, 0, len(all))
	for i := range all {
		p := &all[i]
		if (state == "" || p.State == state) && (text == "" || p.contains(text)) {
			matched = append(matched, p)
		}
	}
	slices.SortStableFunc(matched, order)
	if q.Get("desc") == "1" {
		slices.Reverse(matched)
	}
	from := min(int(offset), len(matched))
	return List[*Point]{len(all), len(matched), matched[from:min(from+int(limit), len(matched))], snap.unknown()}, nil
}

// connections lists the points that are connected.
func (s *Server) connections(*http.Request) (any, error) {
	done, _ := s.options.Gateway.Activity()
	all := []Connected{}
	for name, a := range done {
		if a.Connections > 0 {
			all = append(all, Connected{name, a})
		}
	}
	slices.SortFunc(all, func(a, b Connected) int { return cmp.Compare(a.Point, b.Point) })
	return all, nil
}

func (s *Server) onePoint(r *http.Request) (any, error) {
	snap := s.read(r.Context())
	name := r.PathValue("point")
	for _, p := range s.points(&snap) {
		if p.Point.Point != name {
			continue
		}
		one := OnePoint{Point: p, Unknown: snap.unknown()}
		for _, line := range snap.rules {
			if line.PointNo == "*" || line.PointNo == name {
				one.Rules = append(one.Rules, line)
			}
		}
		reports, err := s.options.Store.PointReports(r.Context(), name)
		if err == nil && len(reports) > 0 {
			one.Reported = &reports[0]
			one.Report = Sum(one.Reported, time.Now()) // also one from before the server's start
		}
		return one, nil
	}
	return nil, &failure{http.StatusNotFound, fmt.Sprintf("no point is called %q", name)}
}

func (s *Server) listRules(r *http.Request) (any, error) {
	snap := s.read(r.Context())
	return List[store.RuleLine]{len(snap.rules), len(snap.rules), snap.rules, snap.unknown()}, nil
}

// syncLog streams sync_log. Its lines have their ids.
func (s *Server) syncLog(r *http.Request, out *stream) error {
	q := r.URL.Query()
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		q.Set("after", last)
	}
	f, err := logFilterOf(q)
	if err != nil {
		return err
	}
	send := func(lines []store.LogLine) error {
		for _, line := range lines {
			if err := out.add(strconv.FormatUint(line.ID, 10), line); err != nil {
				return err
			}
		}
		return out.flush()
	}
	if q.Get("follow") == "0" {
		f.Limit = cmp.Or(f.Limit, 200)
		lines, err := s.options.Store.Log(r.Context(), f)
		if err != nil {
			return err
		}
		return send(lines)
	}
	if err := out.flush(); err != nil { // the reader knows that it is connected
		return err
	}
	if err := s.options.Gateway.FollowLog(r.Context(), f, send); r.Context().Err() == nil {
		return err
	}
	return nil
}
