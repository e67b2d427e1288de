package admin

import (
	"context"
	"net/http"
	"net/url"

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

// logFilterOf is the filter of a query.
func logFilterOf(q url.Values) (store.LogFilter, error) {
	f := store.LogFilter{Point: q.Get("point"), Table: q.Get("table"), Type: q.Get("type"),
		Failed: q.Get("failed") == "1"}
	var status, limit uint64
	for name, to := range map[string]*uint64{"status": &status, "after": &f.After, "limit": &limit} {
		var err error
		if *to, err = number(q, name); err != nil {
			return f, err
		}
	}
	f.Status, f.Limit = uint16(status), int(min(limit, 1000))
	return f, nil
}

// tap streams each request that the server answers. Values of rows are for those who may act.
func (s *Server) tap(r *http.Request, out *stream) error {
	f, err := logFilterOf(r.URL.Query())
	values := r.URL.Query().Get("values") == "1"
	if err == nil && values && r.Context().Value(trusted{}) == nil {
		err = errReadOnly
	}
	if err != nil {
		return err
	}
	err = s.options.Gateway.Tap(r.Context(), f, values, func(lines []store.LogLine, missed uint64) error {
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
