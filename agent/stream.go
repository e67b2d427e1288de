package agent

import (
	"cmp"
	"context"
	"errors"
	"reflect"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// A rule that reads by a cursor needs no outbox: its rows stay in its table until they are acknowledged, and the centre
// keeps the state of the last applied batch together with its rows. The batches of such a rule are a stream; store's
// ledger.go says how the centre keeps it. The point's own copy of (epoch, sequence, state) may be late by a second.
// After a crash the centre says how far the stream has come, when the next generation of it begins.

const (
	underWay  = 2           // batches of a table: the second is read while the first is being committed
	maxAgain  = 3           // a batch that is too large, or does not follow, is read again at once so often
	saveEvery = time.Second // how old the point's own copy may become
	// unsavedMost bounds the batches that the own copy lacks. A copy that lacks more is not one that a crash left.
	unsavedMost = 64
)

// streamed reports whether the rows of a plan go to the centre without the outbox.
func streamed(p *rule.Plan) bool { return p.Paged() && len(p.UpdateState) == 0 && !p.Outbox }

// position is where the stream of a table stands.
type position struct {
	epoch uint64
	seq   uint64             // last acknowledged request
	state []rowset.StateItem // behind it
	next  uint64             // first sequence of the generation that is being begun; 0: none is
}

// stream is the upload of one table without the outbox. The reading loop owns it.
type stream struct {
	position
	saved   uint64 // seq in the database
	savedAt time.Time
	running bool     // the generation has begun, and every request of it has been answered
	on      *session // its connection; on another one it would not be known what has come before
	dirty   bool     // the position is newer than its copy in the database
	limit   int      // rows of the next page; 0: the option's
	most    int      // bytes of a batch, where the server takes less than usual; 0: as usual

	again  int         // how often in a row pages were read again at once
	unsure []*shipment // the last ones, when it is not known whether the centre has applied them
	resend []*shipment // those that it has not applied: they leave again as they are, since parts of them may have come
}

// shipment is one batch under way.
type shipment struct {
	plan    *rule.Plan
	from    []rowset.StateItem // before it
	request *protocol.UploadRequest
	seq     uint64
	state   []rowset.StateItem // behind it
	done    chan error
	reply   *protocol.UploadReply
	lost    bool // its connection ended before the reply
}

// sendPages sends page after page until the rule has no more rows. more reports that the rule was edited meanwhile, or
// that the pages must be read again.
func (u *uploads) sendPages(ctx context.Context, plan *rule.Plan) (more bool, err error) {
	if err := u.begin(ctx, plan); err != nil {
		return false, err
	}
	if err := u.rewind(ctx, plan); err != nil {
		return false, err
	}
	c := &u.stream
	var sent []*shipment
	var unread error
	pages := 0
	seq, state, left := c.seq, c.state, true
	for err == nil && (left || len(sent) > 0) {
		// A download of the table gets its turn after each page that was read here.
		waits := pages > 0 && u.tables.of(u.name.table).wanted.Load() > 0
		if now, _ := u.rules.plan(u.name); left && (now != plan || waits) {
			left, more = false, true
			continue
		}
		if !left || len(sent) == underWay {
			if err = u.await(sent[0]); err != nil {
				continue
			}
			s := sent[0]
			sent = sent[1:]
			if failed := cmp.Or(u.learn(ctx, plan, s), u.saveSometimes(ctx)); failed != nil {
				unread, left = failed, false
			} else if u.columns.again(u.name) > 0 {
				left, more = false, true
			}
			continue
		}
		pages++
		s, rows, further, failed := u.next(ctx, plan, state, seq+1)
		left = further && failed == nil
		switch {
		case failed != nil: // what is under way is waited for
			unread = failed
		case rows > 0:
			seq, state = s.seq, s.state
			sent = append(sent, s)
			u.ship(ctx, s)
		case len(sent) > 0: // the state has passed rows that are not for the centre
			state, sent[len(sent)-1].state = s.state, s.state
		case !reflect.DeepEqual(s.state, state):
			state, c.state, c.dirty = s.state, s.state, true
		}
	}
	for _, s := range sent {
		failed := <-s.done
		if s.lost = errors.Is(failed, ErrLost); failed != nil && !refused(failed) {
			c.running, c.unsure = false, sent
		}
	}
	if c.dirty {
		unread = cmp.Or(unread, u.save(ctx))
	}
	switch status := protocol.StatusOf(err); {
	case status == protocol.StatusTooLarge && c.most > 0,
		status == protocol.StatusRequestIDReused && c.again < maxAgain:
		c.again++
		return true, unread
	}
	return more, cmp.Or(err, unread)
}

// rewind moves the stream to the beginning of its table when that is to be read again.
func (u *uploads) rewind(ctx context.Context, plan *rule.Plan) error {
	again, err := u.again(ctx, plan)
	if err != nil || again == 0 {
		return err
	}
	u.stream.state = beginning(u.stream.state)
	err = u.save(ctx, func(ctx context.Context, tx *store.Tx) error { return u.columns.begun(ctx, tx, u.name, again) })
	if err == nil {
		u.columns.forget(u.name, again)
	}
	return err
}

// refused reports whether the server has answered that it did not apply a batch.
func refused(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Code != protocol.StatusRequestIDReused
}

// next reads the rows behind state, as many as one batch takes. A row that no frame carries is put into the quarantine.
func (u *uploads) next(ctx context.Context, plan *rule.Plan, state []rowset.StateItem, seq uint64,
) (s *shipment, rows int, more bool, err error) {
	if s := u.stream.repeat(plan, state); s != nil {
		s.seq = seq
		return s, s.request.Rows.Len(), true, nil
	}
	request := &protocol.UploadRequest{Table: u.name.table}
	downloaded, err := u.opposite(ctx, plan)
	if err != nil {
		return nil, 0, false, err
	}
	if downloaded != nil {
		request.Seen = *downloaded + 1
	}
	env := u.opts.env(state)
	if u.stream.limit > 0 {
		env.Limit = u.stream.limit
	}
	p := newPacker(&u.opts, plan)
	p.single, p.pageRows, p.most = true, env.Limit, min(cmp.Or(u.stream.most, p.most), u.link.pace.batch())
	page, err := u.opts.Store.Read(ctx, plan, env, p)
	for i := 0; err == nil && i < len(p.oversized); i++ {
		err = u.quarantine(ctx, p.oversized[i])
	}
	if err != nil {
		return nil, 0, false, err
	}
	u.stream.limit = min(2*env.Limit, u.opts.BatchRows)
	if p.full { // the rest of the page was read in vain
		u.stream.limit = p.rows + p.rows/8
	}
	if request.State = page.State; len(p.values) > 0 {
		request.Rows = p.collected()
	}
	s = &shipment{plan: plan, from: state, request: request, seq: seq, state: page.State}
	return s, p.rows, page.More, nil
}

// repeat is the next batch that is to leave again, if it still is what the rule would read.
func (c *stream) repeat(plan *rule.Plan, state []rowset.StateItem) *shipment {
	if len(c.resend) == 0 {
		return nil
	}
	s := c.resend[0]
	if c.resend = c.resend[1:]; s.plan != plan || s.request.Rows.Len() == 0 || !reflect.DeepEqual(s.from, state) {
		c.resend = nil
		return nil
	}
	return s
}

// quarantine puts a row aside before the stream goes on behind it.
func (u *uploads) quarantine(ctx context.Context, row store.Unsent) error {
	err := u.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		return u.quarantineRow(ctx, tx, u.planOrTable(), row, "more than a frame can carry")
	})
	if err == nil {
		u.progress.add(u.name, 0, 0, 1)
	}
	return err
}

// ship sends one batch. Its done gets the outcome.
func (u *uploads) ship(ctx context.Context, s *shipment) {
	s.done = make(chan error, 1)
	m := &protocol.Message{Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(u.stream.epoch, s.seq),
		Body: s.request}
	wait, err := u.link.post(ctx, m, u.stream.on)
	if errors.Is(err, protocol.ErrTooLarge) && u.leaveOut(ctx, s, &err) {
		wait, err = u.link.post(ctx, m, u.stream.on)
	}
	decode := func(m *protocol.Message) (err error) {
		s.reply, err = m.UploadReply()
		return err
	}
	go func() {
		if err == nil {
			err = wait(decode)
		}
		if protocol.StatusOf(err) == protocol.StatusTooLarge && u.leaveOut(ctx, s, &err) {
			err = u.link.do(ctx, m, decode)
		}
		s.done <- err
	}()
}

// leaveOut puts a row that is too large for the server into the quarantine, and takes it out of its batch. It returns
// false when the batch has other rows, or with err set.
func (u *uploads) leaveOut(ctx context.Context, s *shipment, err *error) bool {
	rows := s.request.Rows
	if rows.Len() != 1 {
		return false
	}
	*err = u.quarantine(ctx, store.NewUnsent(rows.Columns, rows.Values))
	s.request.Rows = rowset.Rows{}
	return *err == nil
}

// await waits for the reply to the first batch under way.
func (u *uploads) await(s *shipment) error {
	c := &u.stream
	if err := <-s.done; err != nil {
		s.done <- err // for sendPages
		if protocol.StatusOf(err) == protocol.StatusTooLarge {
			c.most = rowset.Size(s.request.Rows.Values) / 2
		}
		return err
	}
	c.seq, c.state, c.dirty, c.again = s.seq, s.state, true, 0
	u.recovered()
	u.acknowledged(protocol.MakeRequestID(c.epoch, s.seq), s.request.Rows.Len(), s.reply)
	return nil
}

// learn takes in what an acknowledgement says about the table's columns.
func (u *uploads) learn(ctx context.Context, plan *rule.Plan, s *shipment) error {
	change := u.travelled(plan, s.request.Rows.Columns, s.reply)
	if change == nil {
		return nil
	}
	err := u.opts.Store.InTx(ctx, func(tx *store.Tx) error { return u.columns.save(ctx, tx, u.name, change) })
	if err == nil {
		u.columns.add(u.name, change)
	}
	return err
}

// saveSometimes saves when the own copy of the position has become old.
func (u *uploads) saveSometimes(ctx context.Context) error {
	c := &u.stream
	if c.seq-c.saved < unsavedMost/2 && u.opts.Clock().Sub(c.savedAt) < saveEvery {
		return nil
	}
	return u.save(ctx)
}

// acknowledged counts a batch that the centre has applied.
func (u *uploads) acknowledged(id protocol.RequestID, rows int, reply *protocol.UploadReply) {
	quarantined := len(reply.Quarantined) + int(reply.LeftOut)
	u.progress.add(u.name, rows, 1, quarantined)
	if q := reply.Quarantined; len(q) > 0 {
		u.log.Warn().Stringer("batch", id).Int("rows", quarantined).Uint32("first_row", q[0].Row).
			Stringer("first_status", q[0].Status).Str("first_reason", q[0].Reason).
			Msg("the centre put rows into its quarantine")
	}
}

// save writes the own copy of the position, and what more writes with it.
func (u *uploads) save(ctx context.Context, more ...func(context.Context, *store.Tx) error) error {
	c := &u.stream
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout) // an agent that stops saves, too
	defer cancel()
	err := u.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		matched, err := tx.Exec(ctx, `UPDATE sync_agent_stream SET seq = ?, next_generation = ?
			WHERE sync_table = ? AND epoch = ? AND seq = ?`,
			c.seq, c.next, u.name.table, c.epoch, c.saved)
		if err == nil && matched == 0 {
			err = errNotOwner // another agent has worked here
		}
		if err == nil {
			err = saveState(ctx, tx, u.name, c.state)
		}
		for i := 0; err == nil && i < len(more); i++ {
			err = more[i](ctx, tx)
		}
		if err == nil {
			err = u.lock.check(ctx, tx)
		}
		return err
	})
	switch {
	case err == nil:
		c.saved, c.savedAt, c.dirty = c.seq, u.opts.Clock(), false
	case errors.Is(err, errNotOwner):
		*c = stream{} // begin reads it anew
	}
	return err
}
