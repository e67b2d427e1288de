package agent

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
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
	m := &protocol.Message{Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(u.stream.epoch, s.seq), Body: s.request}
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

// begin begins a generation of the stream where there is none: at the start of the agent, and whenever it is not known
// what the centre has applied. It takes over how far the centre says the stream has come.
func (u *uploads) begin(ctx context.Context, plan *rule.Plan) error {
	c := &u.stream
	for attempts := 0; !c.running; attempts++ {
		if err := u.prepare(ctx, c.next == 0 && c.epoch != 0); err != nil {
			return err
		}
		request := &protocol.UploadRequest{Table: u.name.table, After: cmp.Or(c.seq, c.next)}
		m := &protocol.Message{Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(c.epoch, c.next), Body: request}
		reply, err := ask(ctx, u.link, m, (*protocol.Message).UploadReply)
		if protocol.StatusOf(err) == protocol.StatusRequestIDReused && attempts == 0 {
			u.log.Warn().Uint64("epoch", c.epoch).
				Msg("the centre has batches of another copy of this database; rows since its own state are sent under a new epoch")
			if err = u.renew(ctx); err == nil {
				continue
			}
		}
		if err == nil {
			err = u.resume(ctx, plan, reply.Reached)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare reads the position, or writes the newer one that is in memory, and notes the generation that is to be begun.
// A generation that was noted and perhaps begun before a crash is begun again.
func (u *uploads) prepare(ctx context.Context, known bool) error {
	c := &u.stream
	if known {
		c.next = nextGeneration(c.seq)
		return u.save(ctx)
	}
	*c = stream{}
	return u.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		err := tx.One(ctx, `SELECT epoch, seq, next_generation FROM sync_agent_stream WHERE sync_table = ?`,
			[]any{u.name.table}, &c.epoch, &c.seq, &c.next)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if c.state, err = stateIn(ctx, tx, u.name); err != nil {
			return err
		}
		c.saved = c.seq
		if c.epoch == 0 {
			if err := binary.Read(u.opts.Rand, binary.BigEndian, &c.epoch); err != nil {
				return err
			}
			c.epoch = c.epoch>>2 + 1 // as in outbox.open
		}
		if c.next == 0 {
			c.next = nextGeneration(c.seq)
		}
		_, err = tx.Exec(ctx, `REPLACE INTO sync_agent_stream (sync_table, epoch, seq, next_generation) VALUES (?, ?, ?, ?)`,
			u.name.table, c.epoch, c.seq, c.next)
		if err == nil {
			err = u.lock.check(ctx, tx)
		}
		return err
	})
}

// nextGeneration is the first sequence of a later generation. It is random, so that two copies of a database choose
// different ones.
func nextGeneration(seq uint64) uint64 {
	return (seq>>store.GenerationBits + 1 + rand.Uint64N(1<<20)) << store.GenerationBits
}

// renew forgets the stream, which another copy of this database goes on with. The next one begins from the own state.
func (u *uploads) renew(ctx context.Context) error {
	u.stream = stream{}
	return u.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM sync_agent_stream WHERE sync_table = ?`, u.name.table)
		return err
	})
}

// resume makes the generation that has begun the present one, from the position that the centre has reached, or from
// the own one where this database has not got as far.
func (u *uploads) resume(ctx context.Context, plan *rule.Plan, reached protocol.Reached) error {
	c := &u.stream
	warn := func(why string) {
		u.log.Warn().Uint64("own_sequence", c.seq).Uint64("centre_sequence", reached.Seq).Msg(why)
	}
	switch {
	case reached.Seq == c.seq, reached.Seq == 0 && c.seq == 0:
	case reached.Seq == 0:
		warn("the centre does not know this stream; rows are sent from the own state on")
	case reached.Seq < c.seq:
		warn("the centre has less than it acknowledged, as after a restore; rows are sent again from where it stands")
		c.state = reached.State
	case len(c.unsure) > 0:
		for _, s := range c.unsure { // of this process, so that they are known
			if s.seq <= reached.Seq {
				c.state = s.state
				u.acknowledged(protocol.MakeRequestID(c.epoch, s.seq), s.request.Rows.Len(), &protocol.UploadReply{})
			}
		}
	case reached.Seq-c.seq > unsavedMost && reached.Seq != c.next:
		warn("this database is older than what the centre has of it; rows are sent again from the own state on")
	case len(reached.State) > 0:
		known, err := u.knows(ctx, plan, reached.State)
		if err != nil {
			return err
		}
		if known {
			c.state = reached.State
		} else {
			warn("this database has not got as far as the centre, as after a restore; rows are sent again from the own state on")
		}
	}
	for _, s := range c.unsure {
		if s.lost && reached.Seq >= c.seq && s.seq > reached.Seq {
			c.resend = append(c.resend, s)
		}
	}
	c.unsure = nil
	c.seq, c.next = c.next, 0
	if err := u.save(ctx); err != nil {
		return err
	}
	c.running, c.on = true, u.link.now.Load()
	return nil
}

// knows reports whether this database has got as far as state. A time cannot tell. The number of a change does, and so
// does the last row of a rule that reads by the key alone.
func (u *uploads) knows(ctx context.Context, plan *rule.Plan, state []rowset.StateItem) (known bool, err error) {
	var query string
	var args []any
	switch {
	case plan.Load != nil && slices.Contains(plan.Cursor, rowset.ChangeSeq):
		query, args = `SELECT EXISTS (SELECT 1 FROM sync_sequence WHERE sync_table = ? AND next_seq > ?)`,
			[]any{plan.Recorded.Sequence, state[0].Value}
	case plan.Form == rule.Generated && !strings.EqualFold(plan.Cursor[0], cmp.Or(plan.Watermark, "update_time")):
		table, err := u.opts.Store.Table(ctx, plan.Row.Table)
		if err != nil {
			return false, err
		}
		query = "SELECT EXISTS (SELECT 1 FROM " + table.Quoted() + " WHERE TRUE"
		for _, item := range state {
			if slices.Contains(plan.Cursor, item.Name) {
				query += " AND `" + strings.ReplaceAll(item.Name, "`", "``") + "` = ?"
				args = append(args, item.Value)
			}
		}
		query += ")"
	default:
		return true, nil
	}
	err = u.opts.Store.InTx(ctx, func(tx *store.Tx) error { return tx.One(ctx, query, args, &known) })
	return known, err
}

// retire ends the stream of a rule that now needs the outbox. It saves the state that the centre has reached.
func (u *uploads) retire(ctx context.Context, plan *rule.Plan) error {
	there := false
	err := u.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.One(ctx, `SELECT EXISTS (SELECT 1 FROM sync_agent_stream WHERE sync_table = ?)`, []any{u.name.table}, &there)
	})
	if err != nil || !there {
		return err
	}
	if err := u.begin(ctx, plan); err != nil {
		return err
	}
	return u.renew(ctx)
}
