package business

import (
	"context"
	"errors"
	"fmt"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// extraKeys is how many keys one reply has of rows that the point did not list.
const extraKeys = 1000

// compare answers with the checksums of ranges, or with the rows that differ in one range.
func (h *Handler) compare(ctx context.Context, r *Request) (*ruleset.Rule, error) {
	req, err := r.Message.CompareRequest()
	if err != nil {
		return nil, err
	}
	e, err := h.o.Rules.Find(req.Table, req.Direction, r.Point)
	if err != nil {
		return nil, fmt.Errorf("table %q: %w", req.Table, err)
	}
	where := ""
	if req.Job != 0 {
		job, err := h.o.Store.Resync(ctx, req.Job, r.Point)
		if errors.Is(err, store.ErrNotFound) {
			err = &store.MismatchError{Reason: fmt.Sprintf("there is no comparison %d for the point", req.Job)}
		}
		if err != nil {
			return e, err
		}
		where = job.Where
	}
	x, err := h.o.Store.Compare(e.Plan, h.env(r.Point), req.Columns, where)
	if err != nil {
		return e, err
	}
	reply := &protocol.CompareReply{Columns: x.Columns}
	// Rows of other points are not compared. A condition says which rows are meant.
	reply.Unknown = req.Direction == rule.Upload && where == "" && !x.OnlyFromThere()
	reply.Kept = e.Plan.Where != ""
	bounds, err := boundsOf(req, len(x.Key))
	switch {
	case err != nil:
	case req.Listed:
		err = h.listed(ctx, x, req, bounds, reply)
	default:
		for _, b := range bounds {
			rows, sum, failed := x.Sum(ctx, b)
			if err = failed; err != nil {
				break
			}
			reply.Sums = append(reply.Sums, int64(rows), unsigned(sum))
		}
	}
	if err != nil {
		return e, err
	}
	r.Answer(reply)
	return e, nil
}

// unsigned is a number as a SQL value.
func unsigned(n uint64) any {
	if int64(n) >= 0 {
		return int64(n)
	}
	return n
}

// boundsOf are the ranges of a request.
func boundsOf(req *protocol.CompareRequest, width int) (all []store.Bounds, err error) {
	if len(req.Uppers)%width != 0 || len(req.From)%width != 0 || len(req.Uppers)/width >= protocol.MaxRanges {
		return nil, &store.MismatchError{Reason: "the ranges do not fit the table's key"}
	}
	from := req.From
	for at := 0; at < len(req.Uppers); at += width {
		to := req.Uppers[at : at+width]
		all = append(all, store.Bounds{From: from, To: to})
		from = to
	}
	if req.Open {
		all = append(all, store.Bounds{From: from})
	}
	if req.Listed && len(all) != 1 {
		return nil, &store.MismatchError{Reason: "rows are listed of one range"}
	}
	return all, nil
}

// listed compares the rows that the point lists with those here, and sends what differs where that is asked for.
func (h *Handler) listed(ctx context.Context, x *store.Comparison, req *protocol.CompareRequest, bounds []store.Bounds,
	reply *protocol.CompareReply) error {
	width := len(x.Key) + 1
	if len(req.Rows)%width != 0 {
		return &store.MismatchError{Reason: "the listed rows do not fit the table's key"}
	}
	var rows []store.Listed
	for at := 0; at < len(req.Rows); at += width {
		rows = append(rows, store.Listed{Key: req.Rows[at : at+width-1], Sum: req.Rows[at+width-1]})
	}
	var err error
	if reply.Missing, reply.Different, err = x.Against(ctx, rows); err != nil {
		return err
	}
	var extra [][]any
	if !reply.Unknown {
		if extra, err = x.Extra(ctx, bounds[0], rows, extraKeys); err != nil {
			return err
		}
		reply.More = len(extra) == extraKeys
	}
	for _, key := range extra {
		reply.Extra = append(reply.Extra, key...)
	}
	if !req.Send || req.Direction != rule.Download {
		return nil
	}
	send := extra
	for _, i := range reply.Different {
		send = append(send, rows[i].Key)
	}
	if !reply.Kept {
		for _, i := range reply.Missing {
			send = append(send, rows[i].Key)
		}
	}
	return x.Send(ctx, send)
}

// resync keeps a point's report of a comparison, and answers with the next one that it is asked for.
func (h *Handler) resync(ctx context.Context, r *Request) error {
	req, err := r.Message.ResyncRequest()
	if err != nil {
		return err
	}
	if req.Job != 0 {
		switch req.State {
		case "running", "done", "failed":
		default:
			return &store.MismatchError{Reason: "a comparison is running, done or failed"}
		}
		err := h.o.Store.ReportResync(ctx, store.Resync{ID: req.Job, Point: r.Point, State: req.State,
			Compared: req.Compared, MissingThere: req.MissingThere, MissingHere: req.MissingHere,
			Different: req.Different, Note: req.Note})
		if err != nil {
			return err
		}
	}
	next, err := h.o.Store.NextResync(ctx, r.Point)
	if err != nil {
		return err
	}
	r.Answer(&protocol.ResyncReply{Job: next.ID, Table: next.Table, Direction: next.Type, Where: next.Where,
		DryRun: next.DryRun})
	return nil
}
