package business

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"syncgate/internal/limit"
	"syncgate/internal/logging"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// HandlerOptions make a Handler. A zero field takes the default named beside it.
type HandlerOptions struct {
	Store *store.Store // required
	Rules *ruleset.Set // required

	MaxUploadRows   int // rows of one upload
	MaxDownloadRows int // rows of one page of a download

	// Failed is told of errors of the database, which may be about other requests, too. It may be nil.
	Failed func(error)
	// Reported takes what a point reports of itself, and says when the next report is wanted. nil: none is taken.
	Reported func(store.PointReport) (next time.Duration)

	Clock  func() time.Time // time.Now
	Logger zerolog.Logger
}

// Limits are the options' defaults and bounds.
func (o *HandlerOptions) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Count("MaxUploadRows", &o.MaxUploadRows, 200_000, 1, 1<<31-1),
		limit.Count("MaxDownloadRows", &o.MaxDownloadRows, 50_000, 1, 1<<31-1),
	}
}

// Handler carries out requests. It is the Runner of a Pool.
type Handler struct {
	o        HandlerOptions
	refusals logging.Limiter // of one point with one number
	reads    sharing
}

// NewHandler checks o and makes a handler.
func NewHandler(o HandlerOptions) (*Handler, error) {
	if o.Store == nil || o.Rules == nil {
		return nil, errors.New("business: a handler needs a Store and Rules")
	}
	if err := limit.Fill("business: handler", o.Limits()); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	return &Handler{o: o, refusals: logging.Limiter{Burst: 5, Period: time.Minute, Clock: o.Clock}}, nil
}

// Notice is the answer to a PING and to a SUBSCRIBE. It never waits, so an event loop may call it.
func (h *Handler) Notice() *protocol.PingReply {
	return &protocol.PingReply{RulesVersion: h.o.Rules.Version(), ClockMs: h.o.Clock().UnixMilli()}
}

// Run answers a DOWNLOAD, RULES, COMPARE or RESYNC, and refuses any other op. ctx ends when the client is gone.
func (h *Handler) Run(ctx context.Context, r *Request) {
	var err error
	var e *ruleset.Rule
	switch r.Message.Op {
	case protocol.OpRules:
		err = h.rules(r)
	case protocol.OpDownload:
		e, err = h.download(ctx, r)
	case protocol.OpCompare:
		e, err = h.compare(ctx, r)
	case protocol.OpResync:
		err = h.resync(ctx, r)
	case protocol.OpReport:
		err = h.report(r)
	default:
		err = ErrUnsupported
	}
	if err != nil {
		h.refuse(r, e, err)
	}
}

// Uploads runs a batch of uploads and answers each.
func (h *Handler) Uploads(ctx context.Context, batch []*Request) {
	var asked []*Request
	var rules []*ruleset.Rule
	var uploads []*store.Upload
	for _, r := range batch {
		u, e, err := h.upload(ctx, r)
		if err != nil {
			h.refuse(r, e, err)
			continue
		}
		asked, rules, uploads = append(asked, r), append(rules, e), append(uploads, u)
	}
	if len(uploads) == 0 {
		return
	}
	for i, o := range h.o.Store.Apply(ctx, uploads) {
		if h.altered(ctx, rules[i], o.Err) {
			o, rules[i] = h.again(ctx, asked[i])
		}
		if o.Err != nil {
			h.refuse(asked[i], rules[i], o.Err)
			continue
		}
		if !o.Duplicate && uploads[i].After == 0 {
			h.o.Rules.RecordRun(rules[i].Row.ID, o.Applied, nil)
			asked[i].Rows, asked[i].Quarantined = o.Applied, uint64(len(o.Quarantined))+o.LeftOut
		}
		reply, err := uploadReply(&o, asked[i].MaxPayload)
		if err != nil {
			h.refuse(asked[i], rules[i], err)
			continue
		}
		asked[i].Answer(reply)
	}
}

// uploadReply is the outcome as a reply. It leaves out rows for which a frame of the client has no room: an upload that
// is committed is never refused.
func uploadReply(o *store.Outcome, frame int) (*protocol.UploadReply, error) {
	const others, head = 8 << 10, 16 // bytes of the other fields, and of a row beside its reason
	reached, err := reachedOf(o.Reached)
	reply := &protocol.UploadReply{Applied: o.Applied, ByOp: o.ByOp, Duplicate: o.Duplicate, Reached: reached,
		LeftOut: o.LeftOut, Unknown: o.Unknown}
	size := others + len(o.Reached.State)
	for i, q := range o.Quarantined {
		row := protocol.QuarantinedRow{Row: uint32(q.Row), Status: protocol.StatusRowRefused, Reason: rowReason(q.Code)}
		if size += head + len(row.Reason); frame > 0 && size > frame {
			reply.LeftOut += uint64(len(o.Quarantined) - i)
			break
		}
		reply.Quarantined = append(reply.Quarantined, row)
	}
	return reply, err
}

// The store keeps the state of an upload as the DOWNLOAD that would carry it: the wire already says how a SQL value is
// written without loss.

// stateOf is the state of an upload as the store keeps it; nil when the upload carries none.
func stateOf(r *protocol.UploadRequest) ([]byte, error) {
	if len(r.State) == 0 {
		return nil, nil
	}
	return protocol.AppendPayload(nil, &protocol.DownloadRequest{Table: r.Table, State: r.State})
}

func reachedOf(r store.Reached) (protocol.Reached, error) {
	reached := protocol.Reached{Seq: r.Seq}
	if len(r.State) == 0 {
		return reached, nil
	}
	kept, err := (&protocol.Message{Op: protocol.OpDownload, Payload: r.State}).DownloadRequest()
	if err == nil {
		reached.State = kept.State
	}
	return reached, err
}

// upload makes the store's upload of r. An error means that r cannot be read. A refusal goes to the store
// with the upload, because the request may have been applied before the rule was edited.
func (h *Handler) upload(ctx context.Context, r *Request) (*store.Upload, *ruleset.Rule, error) {
	req, err := r.Message.UploadRequest()
	if err != nil {
		return nil, nil, err
	}
	hash, err := req.Digest()
	if err != nil {
		return nil, nil, err
	}
	if r.Message.Body == nil {
		r.pay(sizeOf(&req.Rows)) // beside the payload; rows of the v1 wire are charged already
	}
	state, err := stateOf(req)
	if err != nil {
		return nil, nil, err
	}
	id := r.Message.RequestID
	u := &store.Upload{
		Point: r.Point, Epoch: id.Epoch(), Seq: id.Seq(), Hash: hash, Confirmed: req.Confirmed, Rows: req.Rows,
		State: state, After: req.After, Part: req.Part, Table: req.Table,
	}
	e, err := h.o.Rules.Find(h.table(r, req.Table, rule.Upload), rule.Upload, r.Point)
	if e != nil {
		r.RuleID = e.Row.ID
	}
	switch {
	case err != nil:
		u.Refused = fmt.Errorf("table %q: %w", req.Table, err)
	case r.Message.Body == nil && slices.Contains(req.Rows.Columns, ""): // the v1 wire has no names
		u.Refused = &store.MismatchError{Reason: "an upload names its columns"}
	case req.Rows.Len() > h.o.MaxUploadRows:
		u.Refused = fmt.Errorf("%w: %d rows, %d are taken", ErrTooLarge, req.Rows.Len(), h.o.MaxUploadRows)
	default:
		var f ruleset.Fit
		if f, u.Refused = h.o.Rules.Fit(ctx, e, req.Rows.Columns); u.Refused != nil {
			break
		}
		h.o.Rules.RecordFit(&f, r.Point)
		e, u.Plan, u.Env = f.Rule, f.Plan, h.env(r.Point)
		if f.Plan.Form == rule.Generated { // else the rule's author has chosen the fields
			u.Unknown = f.Extra
		}
		if req.Seen > 0 {
			known := req.Seen - 1
			u.Env.Known = &known
		}
	}
	return u, e, nil
}

// table is the table of a request as its rule writes it. Agents of the v1 wire may write it in another case.
func (h *Handler) table(r *Request, name, direction string) string {
	if r.Message.Body == nil {
		return name
	}
	return h.o.Rules.Spelled(name, direction, r.Point)
}

// altered reports whether err may come from an ALTER of the rule's table that the rule did not know of. Then the rule
// has been made anew.
func (h *Handler) altered(ctx context.Context, e *ruleset.Rule, err error) bool {
	if refused := (*store.SQLError)(nil); e == nil || !errors.As(err, &refused) && !errors.Is(err, store.ErrAltered) {
		return false
	}
	now, err := h.o.Rules.Recheck(ctx, e)
	return err == nil && now != e
}

// again applies an upload by the rule that is in force now.
func (h *Handler) again(ctx context.Context, r *Request) (store.Outcome, *ruleset.Rule) {
	u, e, err := h.upload(ctx, r)
	if err != nil {
		return store.Outcome{Err: err}, e
	}
	return h.o.Store.Apply(ctx, []*store.Upload{u})[0], e
}

// WaitingPlan is the plan that applies a row which waits in sync_quarantine; nil when there is none now.
func (h *Handler) WaitingPlan(q *store.QuarantinedRow) (*rule.Plan, rule.Env) {
	e, err := h.o.Rules.Find(q.Table, rule.Upload, q.Point)
	if err != nil || e.Plan == nil {
		return nil, rule.Env{}
	}
	return e.Plan, h.env(q.Point)
}

func (h *Handler) env(point string) rule.Env {
	return rule.Env{Point: point, Origin: point}
}

// download streams a rule's rows to the client.
func (h *Handler) download(ctx context.Context, r *Request) (*ruleset.Rule, error) {
	req, err := r.Message.DownloadRequest()
	if err != nil {
		return nil, err
	}
	e, err := h.o.Rules.Find(h.table(r, req.Table, rule.Download), rule.Download, r.Point)
	if err != nil {
		return nil, fmt.Errorf("table %q: %w", req.Table, err)
	}
	r.RuleID = e.Row.ID
	carries := func(st rule.Statement) bool { return st.Uses(rule.State) }
	if req.Stateless != "" && slices.ContainsFunc(e.Plan.Upside, carries) {
		return e, &store.MismatchError{Reason: req.Stateless}
	}
	if len(req.Fields) > 0 && e.Plan.Form == rule.Generated {
		if f, err := e.Fit(req.Fields); err == nil {
			h.o.Rules.RecordFit(&f, r.Point)
		}
	}
	env := h.env(r.Point)
	env.State = req.State
	env.Wall = r.isV1()
	env.Limit = h.o.MaxDownloadRows
	if req.MaxRows > 0 {
		env.Limit = min(env.Limit, int(req.MaxRows))
	}
	most := -1 // what is not paged has no state to go on from, so it comes whole
	if e.Plan.Paged() {
		most = env.Limit
	}
	if done, page := h.shared(ctx, r, e.Plan, env, req.Held); done {
		h.o.Rules.RecordRun(e.Row.ID, page.Rows, nil)
		return e, nil
	}
	out := newParts(r, most)
	out.have = req.Held
	page, err := h.o.Store.Read(ctx, e.Plan, env, out)
	if err == nil {
		r.Quarantined = uint64(len(out.large))
		r.Rows = page.Rows - r.Quarantined
		err = h.quarantine(ctx, r, e, out)
	}
	if err == nil {
		err = out.end(page)
	}
	if h.altered(ctx, e, err) {
		err = store.ErrAltered // some parts may have been sent, so that the client has to ask again
	}
	if err != nil {
		return e, err
	}
	h.o.Rules.RecordRun(e.Row.ID, page.Rows, nil)
	return e, nil
}

// quarantine keeps the rows of a download that no frame of the client can carry, before the client is told to go on
// behind them.
func (h *Handler) quarantine(ctx context.Context, r *Request, e *ruleset.Rule, out *parts) error {
	if len(out.large) == 0 {
		return nil
	}
	return h.o.Store.InTx(ctx, func(tx *store.Tx) error {
		for _, row := range out.large {
			why := fmt.Sprintf("more than the %d bytes that the client takes", out.most)
			reason, err := tx.QuarantineUnsent(ctx, r.Point, e.Plan, row, int(protocol.StatusTooLarge), why)
			if err != nil {
				return err
			}
			h.o.Logger.Error().Uint64("rule", e.Row.ID).Str("table", e.Row.Table).Str("point", r.Point).
				Str("reason", reason).Msg("row put into sync_quarantine, it cannot be sent")
		}
		return nil
	})
}

// rules answers with the rows of sync_control that the point runs itself.
func (h *Handler) rules(r *Request) error {
	version, rows, err := h.o.Rules.Client(r.Point)
	if err != nil {
		return err
	}
	columns := rule.ControlColumns()
	reply := &protocol.RulesReply{Version: version}
	for i := range rows {
		reply.Rules = append(reply.Rules, columns.Items(&rows[i]))
	}
	r.Answer(reply)
	return nil
}

// refuse answers r with err's number and writes the log's one line about it. Failures that pass by themselves and meet
// every request at once are for the debug level: whoever owns the cause has said so once.
func (h *Handler) refuse(r *Request, e *ruleset.Rule, err error) {
	s := r.Refuse(err)
	ok, heldBack := h.refusals.Allow(fmt.Sprint(r.Point, "\x00", s))
	log := h.o.Logger.Warn()
	switch s {
	case protocol.StatusDBUnavailable, protocol.StatusDBReadOnly, protocol.StatusGoingAway:
		log = h.o.Logger.Debug()
		fallthrough
	case protocol.StatusDeadlock:
		if h.o.Failed != nil {
			h.o.Failed(err)
		}
	case protocol.StatusInternal:
		log = h.o.Logger.Error()
	}
	if e != nil {
		log = log.Uint64("rule", e.Row.ID).Str("table", e.Row.Table)
		if !errors.Is(err, context.Canceled) {
			h.o.Rules.RecordRun(e.Row.ID, 0, err)
		}
	}
	if !ok {
		return
	}
	if heldBack > 0 {
		log = log.Int("held_back", heldBack)
	}
	log.Err(err).Stringer("status", s).Str("point", r.Point).Stringer("op", r.Message.Op).
		Stringer("request", r.Message.RequestID).Msg("request refused")
}
