package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"

	"syncgate/store"
)

// chosen names rows of sync_quarantine in the body of an action.
type chosen struct {
	ID    uint64 `json:"id"`
	Point string `json:"point"`
	Table string `json:"table"`
	Rule  uint64 `json:"rule"`
	Code  int    `json:"error"`
	All   bool   `json:"all"`   // every row
	Force bool   `json:"force"` // of a replay: also where the table has a newer version of the row
}

// filter refuses to choose every row by mistake.
func (c *chosen) filter() (store.QuarantineFilter, error) {
	f := store.QuarantineFilter{ID: c.ID, Point: c.Point, Table: c.Table, Rule: c.Rule, Code: c.Code}
	if (f == store.QuarantineFilter{}) && !c.All {
		return f, bad("choose rows by id, point, table, rule or error, or with all")
	}
	return f, nil
}

func quarantineFilter(r *http.Request) (f store.QuarantineFilter, err error) {
	q := r.URL.Query()
	f.Point, f.Table = q.Get("point"), q.Get("table")
	var code, limit uint64
	for name, to := range map[string]*uint64{"rule": &f.Rule, "error": &code, "after": &f.After, "limit": &limit} {
		if *to, err = number(q, name); err != nil {
			return f, err
		}
	}
	f.Code, f.Limit = int(code), int(min(cmp.Or(limit, 100), 1000))
	return f, nil
}

func (s *Server) listQuarantine(r *http.Request) (any, error) {
	f, err := quarantineFilter(r)
	if err != nil {
		return nil, err
	}
	rows, err := s.options.Store.ListQuarantine(r.Context(), f)
	return append([]store.QuarantinedRow{}, rows...), err
}

func (s *Server) countQuarantine(r *http.Request) (any, error) {
	f, err := quarantineFilter(r)
	if err != nil {
		return nil, err
	}
	counts, err := s.options.Store.CountQuarantine(r.Context(), f)
	return append([]store.QuarantineCount{}, counts...), err
}

// replayed is the line of one row.
type replayed struct {
	ID       uint64 `json:"id"`
	Applied  string `json:"applied_by,omitempty"` // the operation that took it
	Replaced bool   `json:"replaced,omitempty"`   // a row with its key was there before
	Error    string `json:"error,omitempty"`      // it stays in quarantine
}

// replayedAtOnce is how many rows a replay holds: the quarantine may be larger than the memory.
const replayedAtOnce = 100

func (s *Server) replay(ctx context.Context, b *chosen, out *stream) error {
	f, err := b.filter()
	if err != nil {
		return err
	}
	for f.Limit = replayedAtOnce; ; {
		rows, err := s.options.Store.ListQuarantine(ctx, f)
		if err == nil && len(rows) == 0 && f.After == 0 {
			err = store.ErrNotFound
		}
		if err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			f.After = rows[i].ID
			done, err := s.options.Gateway.Replay(ctx, &rows[i], b.Force)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			line := replayed{ID: rows[i].ID, Applied: done.Op, Replaced: done.Present}
			if err != nil {
				line.Error = err.Error()
			}
			if err := out.send(line); err != nil {
				return err
			}
		}
	}
}

func (s *Server) drop(ctx context.Context, b *chosen, out *stream) error {
	f, err := b.filter()
	if err != nil {
		return err
	}
	n, err := s.options.Store.DropQuarantine(ctx, f)
	if err != nil {
		return err
	}
	return out.send(map[string]int64{"dropped": n})
}

func (s *Server) edit(ctx context.Context, b *struct {
	ID  uint64          `json:"id"`
	Set json.RawMessage `json:"set"`
}, out *stream) error {
	q, err := s.options.Store.QuarantineRow(ctx, b.ID)
	if err != nil {
		return err
	}
	if err := store.SetFields(string(b.Set), q.Fields, q.Values); err != nil {
		return bad("set: %v", err)
	}
	if err := s.options.Store.EditQuarantine(ctx, q.ID, q.Fields, q.Values); err != nil {
		return err
	}
	return out.send(q)
}
