package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// uploads is a loop that moves the rows of one table: from the table into the outbox, or from there to the server. In a
// round of Once it does both in turn.
type uploads struct {
	*loop
	read   signal // raised when the outbox has got batches
	sent   signal // raised when a batch has left
	acked  *batch // acknowledged; its removal is not yet known to be committed
	stream stream // of the reading loop
	plain  bool   // the rule has no stream
}

// round is the turn of Once.
func (u *uploads) round(ctx context.Context) (_ time.Duration, err error) {
	for more := true; err == nil; {
		if err = u.drain(ctx); err != nil || !more {
			break
		}
		more, err = u.fill(ctx)
	}
	if err == nil {
		u.progress.done(u.name, 0)
	}
	return 0, err
}

// collect is the turn of the reading loop. It ends at the end of the rule's rows or when the outbox has no room. In the
// second case batches of the table wait, and the next sent one wakes the loop.
func (u *uploads) collect(ctx context.Context) (rest time.Duration, err error) {
	more, err := u.fill(ctx)
	plan, _ := u.rules.plan(u.name) // fill has returned the error
	rest = u.rest(plan)
	switch u.work = u.news.of(u.name); {
	case more:
		u.work = u.sent
		return u.opts.Interval, err
	case plan != nil && !plan.Paged() && len(plan.UpdateState) == 0:
		rest = u.opts.FullInterval
	}
	if err == nil {
		u.progress.done(u.name, rest)
	}
	return rest, err
}

// fill reads page after page into the outbox until the rule has no more rows or the outbox has no room. more reports
// whether rows may be left.
func (u *uploads) fill(ctx context.Context) (more bool, err error) {
	for {
		plan, err := u.rules.plan(u.name)
		if plan == nil {
			return false, err
		}
		if may, err := u.outbox.mayRead(ctx, plan); err != nil || !may {
			return true, err
		}
		if now, _ := u.rules.plan(u.name); now != plan {
			continue // the rule was edited meanwhile
		}
		read := u.page
		if streamed(plan) {
			read = u.sendPages
		}
		table := u.tables.of(u.name.table)
		if err := table.lock(ctx); err != nil {
			return false, err
		}
		more, err := read(ctx, plan)
		table.exact = !streamed(plan) || u.stream.running && !u.stream.dirty
		table.unlock()
		if err != nil && u.rules.altered(ctx, u.name, plan, err) {
			continue
		}
		if err == nil && !more && plan.Changes {
			more, err = u.reloaded(ctx, func(state []rowset.StateItem) error { return u.restate(ctx, plan, state) })
		}
		if err != nil || !more {
			return false, err
		}
	}
}

// restate replaces the state of the rule.
func (u *uploads) restate(ctx context.Context, plan *rule.Plan, state []rowset.StateItem) error {
	if streamed(plan) {
		u.stream.state, u.stream.dirty = state, true
		return u.save(ctx)
	}
	return u.opts.Store.InTx(ctx, func(tx *store.Tx) error { return saveState(ctx, tx, u.name, state) })
}

// page reads a page of a rule and writes it into the outbox in the transaction that moves the rule's state. Only this
// loop moves the state, so the state that it reads before is still valid.
func (u *uploads) page(ctx context.Context, plan *rule.Plan) (more bool, err error) {
	select {
	case u.outbox.reading <- struct{}{}:
		defer func() { <-u.outbox.reading }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if plan.Paged() && !u.plain {
		if err := u.retire(ctx, plan); err != nil {
			return false, err
		}
		u.plain = true
	}
	var state []rowset.StateItem
	if plan.Paged() {
		if state, err = loadState(ctx, u.opts.Store, u.name); err != nil {
			return false, err
		}
	}
	again, err := u.again(ctx, plan)
	if err != nil {
		return false, err
	}
	if again > 0 {
		state = beginning(state)
	}
	pack := newPacker(&u.opts, plan)
	page, err := u.opts.Store.Read(ctx, plan, u.opts.env(state), pack)
	if err == nil {
		err = pack.end()
	}
	if err != nil || pack.rows == 0 && again == 0 && (!plan.Paged() || reflect.DeepEqual(state, page.State)) {
		return page.More, err
	}
	err = u.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		for _, o := range pack.oversized {
			why := fmt.Sprintf("more than the %d that a frame and this database can carry", pack.maxRow)
			if err := u.quarantineRow(ctx, tx, plan, o, why); err != nil {
				return err
			}
		}
		err := u.outbox.add(ctx, tx, &plan.Row, pack.batches)
		if err == nil && plan.Paged() {
			err = saveState(ctx, tx, u.name, page.State)
		}
		if err == nil && again > 0 {
			err = u.columns.begun(ctx, tx, u.name, again)
		}
		if err == nil {
			err = u.lock.check(ctx, tx)
		}
		return err
	})
	if err == nil {
		u.columns.forget(u.name, again)
		for _, x := range pack.batches {
			u.outbox.count(x.table, 1, int64(x.rows), int64(len(x.payload)))
		}
		u.progress.add(u.name, 0, 0, len(pack.oversized))
		u.log.Debug().Int("rows", pack.rows).Int("batches", len(pack.batches)).Msg("collected")
	}
	u.read.raise() // also after an error: the commit may have succeeded
	if err == nil && u.opts.DropOldest && plan.Paged() {
		err = u.outbox.makeRoom(ctx, u.name.table)
	}
	return page.More, err
}

// send is the turn of the sending loop.
func (u *uploads) send(ctx context.Context) (time.Duration, error) {
	return u.opts.FullInterval, u.drain(ctx)
}

// drain sends the table's batches in order until none is left. While the server works on one batch, drain deletes the
// previous one and reads the next, so the server never waits for this database.
func (u *uploads) drain(ctx context.Context) error {
	current, err := u.outbox.next(ctx, u.name.table, protocol.RequestID{})
	if err != nil {
		return err
	}
	if x := u.acked; x != nil && (current == nil || current.request != x.request) {
		u.removed() // the commit that returned an error had succeeded
	}
	u.acked = nil // else the batch is sent again, and the ledger answers it
	for current != nil {
		var next *batch
		housekeeping := make(chan error, 1)
		number := current.request
		go func() {
			err := u.removeAcked(ctx)
			if err == nil {
				next, err = u.outbox.next(ctx, u.name.table, number)
			}
			housekeeping <- err
		}()
		refused := u.deliver(ctx, current)
		err := <-housekeeping
		if err == nil && current.request != number { // renumbered, and the next one with it
			next, err = u.outbox.next(ctx, u.name.table, current.request)
		}
		if err = cmp.Or(refused, err); err != nil {
			return err
		}
		u.recovered()
		u.acked, current = current, next
	}
	return u.removeAcked(ctx)
}

// maxLost bounds how often a batch is sent again at once. When the batch itself ends the connection, the other loops
// need time without it.
const maxLost = 3

// maxRenumber bounds how often one batch gets a new number in a row. A server that knows several random numbers has
// another fault.
const maxRenumber = 3

// deliver sends one batch until the server has answered it, over as many connections as this takes. It keeps the reply
// in the batch.
func (u *uploads) deliver(ctx context.Context, x *batch) error {
	if r := u.rules.find(u.name); r != nil && r.State == store.RuleBroken && r.Row.UpdateState {
		return fmt.Errorf("its update_state could not be run: %w", r.Err())
	}
	for renumbered, lost := 0, 0; ; {
		payload, err := protocol.WithConfirmed(x.payload, x.confirmed)
		if err == nil {
			m := &protocol.Message{Op: protocol.OpUpload, RequestID: x.request, Payload: payload}
			x.reply, err = ask(ctx, u.link, m, (*protocol.Message).UploadReply)
		}
		var refused *Refusal
		switch {
		case errors.Is(err, ErrLost) && ctx.Err() == nil && lost < maxLost:
			lost++
		case protocol.StatusOf(err) == protocol.StatusRequestIDReused && renumbered < maxRenumber:
			old := x.request
			if err := u.outbox.renumber(ctx, x); err != nil {
				return err
			}
			renumbered++
			u.log.Warn().Stringer("was", old).Stringer("is", x.request).
				Msg("the server has seen this number with other rows; the outbox goes on in a new epoch")
		case protocol.StatusOf(err) == protocol.StatusTooLarge && x.rows == 1:
			return nil // no server can take it: it counts as done, without a reply
		case protocol.StatusOf(err) == protocol.StatusTooLarge && x.rows > 1:
			if err := u.outbox.split(ctx, x); err != nil {
				return err
			}
		case errors.As(err, &refused):
			return errors.Join(err, u.outbox.refused(ctx, x, refused))
		default:
			return err
		}
	}
}

// removeAcked deletes the acknowledged batch. In the same transaction it runs the rule's update_state, or quarantines
// the row that no server takes.
func (u *uploads) removeAcked(ctx context.Context) error {
	x := u.acked
	if x == nil {
		return nil
	}
	plan, _ := u.rules.plan(u.name) // the reading loop reports why there is none
	var change *travelling
	if x.reply != nil {
		sent, err := protocol.UploadColumns(x.payload)
		if err != nil {
			return fmt.Errorf("batch %s: %w", x.request, err)
		}
		change = u.travelled(plan, sent, x.reply)
	}
	err := u.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := u.lock.check(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM sync_outbox WHERE epoch = ? AND seq = ?`,
			x.request.Epoch(), x.request.Seq())
		if err == nil && change != nil {
			err = u.columns.save(ctx, tx, u.name, change)
		}
		if err != nil || x.reply != nil && (plan == nil || len(plan.UpdateState) == 0) {
			return err
		}
		m := protocol.Message{Op: protocol.OpUpload, Payload: x.payload}
		request, err := m.UploadRequest()
		if err != nil {
			return fmt.Errorf("batch %s: %w", x.request, err)
		}
		if x.reply == nil {
			row := store.NewUnsent(request.Rows.Columns, request.Rows.Values)
			return u.quarantineRow(ctx, tx, u.planOrTable(), row, "more than the server takes")
		}
		err = tx.UpdateState(ctx, plan, request.Rows, u.opts.env(nil))
		if errors.Is(err, store.ErrMismatch) {
			u.log.Error().Err(err).Stringer("batch", x.request).
				Msg("fields have changed since the batch was read; update_state is skipped, the rows are read again")
			return nil
		}
		return err
	})
	if err == nil {
		if change != nil {
			u.columns.add(u.name, change)
		}
		u.removed()
	}
	return err
}

// again is above 0 when the table is to be read from its beginning: values of a column were left out at the centre,
// which has it now, or the table has got a column, whose values may be in old rows too.
func (u *uploads) again(ctx context.Context, plan *rule.Plan) (int, error) {
	if !plan.Paged() {
		return 0, nil
	}
	if plan.Form == rule.Generated {
		if change := u.columns.wider(u.name, plan.Fields); change != nil {
			err := u.opts.Store.InTx(ctx, func(tx *store.Tx) error { return u.columns.save(ctx, tx, u.name, change) })
			if err != nil {
				return 0, err
			}
			u.columns.add(u.name, change)
			u.log.Info().Strs("columns", change.known).
				Msg("the table has got columns; it is read again from its beginning")
		}
	}
	return u.columns.again(u.name), nil
}

// travelled is what the acknowledgement of rows says about the table's columns; nil: nothing new.
func (u *uploads) travelled(plan *rule.Plan, sent []string, reply *protocol.UploadReply) *travelling {
	now := sent
	if plan != nil && plan.Form == rule.Generated {
		now = plan.Fields
	}
	change, _, found := u.columns.met(u.name, now, sent, reply.Unknown)
	if change == nil {
		return nil
	}
	if len(change.unknown) > 0 {
		u.log.Warn().Strs("columns", change.unknown).
			Msg("the centre does not have these columns; their values are left out until it has")
	}
	if len(found) > 0 && plan != nil && plan.Paged() {
		change.again = 1
		u.log.Info().Strs("columns", found).
			Msg("the centre has got columns; the table is read again from its beginning")
	}
	return change
}

// planOrTable is the rule's plan, or one that has only the table's name when the rule is gone or does not compile now.
func (u *uploads) planOrTable() *rule.Plan {
	if plan, _ := u.rules.plan(u.name); plan != nil {
		return plan
	}
	return &rule.Plan{Row: rule.Row{Table: u.name.table}}
}

// removed counts the batch that has left the outbox.
func (u *uploads) removed() {
	x := u.acked
	u.acked = nil
	u.outbox.count(x.table, -1, -int64(x.rows), -int64(len(x.payload)))
	u.sent.raise()
	if x.reply == nil {
		u.progress.add(u.name, 0, 0, 1)
		return
	}
	u.acknowledged(x.request, x.rows, x.reply)
}
