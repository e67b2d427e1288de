package admin

import (
	"context"
	"net/http"
	"strconv"

	"syncgate/store"
)

// syncNow has a point run a rule and streams the lines of sync_log about it.
func (s *Server) syncNow(ctx context.Context, b *syncNowBody, out *stream) error {
	if b.Point == "" || b.Table == "" || b.Direction != "upload" && b.Direction != "download" {
		return bad("point, table and direction (upload or download) are required")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return s.options.Gateway.SyncNow(ctx, b.Point, b.Table, b.Direction, func(l store.LogLine) {
		if out.send(l) != nil {
			cancel() // the reader has left; the point goes on
		}
	})
}

type syncNowBody struct {
	Point     string `json:"point"`
	Table     string `json:"table"`
	Direction string `json:"direction"`
}

// TapFilter chooses requests. A field that is empty chooses all.
type TapFilter struct {
	Point, Table string
	Status       uint16
	Failed       bool
	Values       bool // with values of the first rows
}

// tap streams each request that the server answers. Values of rows are for those who may act.
func (s *Server) tap(r *http.Request, out *stream) error {
	q := r.URL.Query()
	f := TapFilter{Point: q.Get("point"), Table: q.Get("table"), Failed: q.Get("failed") == "1", Values: q.Get("values") == "1"}
	if text := q.Get("status"); text != "" {
		status, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return bad("status=%s is not a number of a status", text)
		}
		f.Status = uint16(status)
	}
	if f.Values && r.Context().Value(trusted{}) == nil {
		return errReadOnly
	}
	err := s.options.Gateway.Tap(r.Context(), f, func(lines []any, missed uint64) error {
		for _, l := range lines {
			if err := out.add("", l); err != nil {
				return err
			}
		}
		if missed > 0 || len(lines) == 0 { // the first line says that the server watches
			if err := out.add("", map[string]uint64{"missed": missed}); err != nil {
				return err
			}
		}
		return out.flush()
	})
	if r.Context().Err() != nil {
		return nil
	}
	return err
}
