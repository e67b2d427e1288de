package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// uploads is a loop that moves the rows of one table: from the table into the outbox, from
// there to the server, or in a round of Once both in turn.
type uploads struct {
	*loop
	read  signal // there are more batches in the outbox
	sent  signal // there are less
	acked *batch // done with; its removal is yet to be committed, or not known to have been
}

// round is the turn of Once.
func (u *uploads) round(ctx context.Context) (_ time.Duration, err error) {
	for more := true; err == nil; {
		if err = u.drain(ctx); err != nil || !more {
			break
		}
		more, err = u.fill(ctx)
	}
	return 0, err
}

// collect is the turn of the reading loop: it ends when the rule is short, or when there is
// no room; then batches of the table wait, and one that is sent may make some.
func (u *uploads) collect(ctx context.Context) (rest time.Duration, err error) {
	more, err := u.fill(ctx)
	plan := u.book.find(u.name).plan
	switch u.work = nil; {
	case more:
		u.work = u.sent
	case plan != nil && !plan.Paged() && len(plan.UpdateState) == 0:
		return u.opts.FullInterval, err
	}
	return u.opts.Interval, err
}

// fill reads page after page into the outbox, while there is room, until the rule is
// short. more says that rows may be left.
func (u *uploads) fill(ctx context.Context) (more bool, err error) {
	for {
		e := u.book.find(u.name)
		if e.plan == nil {
			return false, e.broken
		}
		if may, err := u.outbox.mayRead(ctx, e.plan); err != nil || !may {
			return true, err
		}
		if u.book.find(u.name).plan != e.plan {
			continue // edited while room was made, maybe by a batch that the edit kept from being marked
		}
		if more, err := u.page(ctx, e.plan); err != nil || !more {
			return false, err
		}
	}
}

// page reads a part of a rule, and writes it into the outbox in the transaction that moves
// the rule's watermark. The state read before is still the rule's then: nobody else moves
// it.
func (u *uploads) page(ctx context.Context, plan *rule.Plan) (more bool, err error) {
	u.outbox.reading.Lock()
	defer u.outbox.reading.Unlock()
	var state []rowset.StateItem
	if plan.Paged() {
		if state, err = loadState(ctx, u.opts.Store, u.name); err != nil {
			return false, err
		}
	}
	pack := newPacker(&u.opts, plan)
	page, err := u.opts.Store.Read(ctx, plan, u.opts.env(plan, state), pack)
	if err == nil {
		err = pack.flush()
	}
	if err != nil || pack.rows == 0 {
		return page.More, err
	}
	err = inTx(ctx, u.opts.Store, func(tx *store.Tx) error {
		for _, o := range pack.oversized {
			if err := u.quarantineRow(ctx, tx, plan.Row, o, fmt.Sprintf("more than the %d a frame can carry", maxRowBytes)); err != nil {
				return err
			}
		}
		if err := u.outbox.add(ctx, tx, &plan.Row, pack.batches); err != nil || !plan.Paged() {
			return err
		}
		state = nil
		for _, s := range page.State {
			state = append(state, rowset.StateItem(s))
		}
		return saveState(ctx, tx, u.name, state)
	})
	if err == nil {
		u.outbox.count(len(pack.batches), pack.bytes)
		u.progress.add(u.name, 0, 0, len(pack.oversized))
		u.log.Debug().Int("rows", pack.rows).Int("batches", len(pack.batches)).Msg("collected")
	}
	u.read.raise() // also after an error: it may have been committed all the same
	return page.More, err
}

// send is the turn of the sending loop.
func (u *uploads) send(ctx context.Context) (time.Duration, error) {
	return u.opts.FullInterval, u.drain(ctx)
}

// drain sends the table's batches in order until there is none left. While the server
// works on one batch, the one before is deleted and the next is read, so the server never
// waits for this database.
func (u *uploads) drain(ctx context.Context) error {
	current, err := u.outbox.next(ctx, u.name.table, protocol.RequestID{})
	if err != nil {
		return err
	}
	if x := u.acked; x != nil && (current == nil || current.request != x.request) {
		u.removed() // the transaction that seemed to fail was committed
	}
	u.acked = nil // else it is sent again, and answered from the ledger
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
		if err == nil && current.request != number { // the next one has a new number, too
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

// maxLost bounds how often a batch is sent again at once: if it is what makes the
// connection end, the other loops need a time without it.
const maxLost = 3

// maxRenumber bounds how often one batch gets a new number in a row: a server that has
// seen several random numbers before is broken in another way.
const maxRenumber = 3

// deliver has one batch done by the server, however many connections that takes, and keeps
// the reply in it.
func (u *uploads) deliver(ctx context.Context, x *batch) error {
	if e := u.book.find(u.name); e.plan == nil && e.row.Enabled && e.row.UpdateState {
		return fmt.Errorf("its update_state could not be run: %w", e.broken)
	}
	for renumbered, lost := 0, 0; ; {
		payload, err := protocol.WithConfirmed(x.payload, x.confirmed)
		if err == nil {
			m := &protocol.Message{Op: protocol.OpUpload, RequestID: x.request, Payload: payload}
			x.reply, err = ask(ctx, u.link, m, (*protocol.Message).UploadReply)
		}
		var refused *Refusal
		switch {
		case errors.Is(err, errLost) && ctx.Err() == nil && lost < maxLost:
			lost++
		case protocol.StatusOf(err) == protocol.StatusRequestIDReused && renumbered < maxRenumber:
			old := x.request
			if err := u.outbox.renumber(ctx, x); err != nil {
				return err
			}
			renumbered++
			u.log.Warn().Stringer("was", old).Stringer("is", x.request).Msg("the server knows this number from before; the outbox goes on in a new epoch")
		case errors.Is(err, protocol.ErrTooLarge) && x.rows == 1:
			return nil // it can never be sent: it is done with, without a reply
		case errors.As(err, &refused):
			return errors.Join(err, u.outbox.refused(ctx, x, refused))
		default:
			return err
		}
	}
}

// removeAcked deletes the batch that is done with and, in the same transaction, runs the rule's
// update_state, or puts the row aside that the server does not take.
func (u *uploads) removeAcked(ctx context.Context) error {
	x, e := u.acked, u.book.find(u.name)
	if x == nil {
		return nil
	}
	err := inTx(ctx, u.opts.Store, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM sync_outbox WHERE epoch = ? AND seq = ?`, x.request.Epoch(), x.request.Seq())
		if err != nil || x.reply != nil && (e.plan == nil || len(e.plan.UpdateState) == 0) {
			return err
		}
		m := protocol.Message{Op: protocol.OpUpload, Payload: x.payload}
		request, err := m.UploadRequest()
		if err != nil {
			return fmt.Errorf("batch %s: %w", x.request, err)
		}
		rows := rowset.Rows(request.Rows)
		if x.reply == nil {
			e.row.Table = u.name.table // also when there is no rule any more
			return u.quarantineRow(ctx, tx, e.row, oversized{rows.Columns, rows.Values, len(x.payload)}, "more than the server takes")
		}
		err = tx.UpdateState(ctx, e.plan, rows, u.opts.env(e.plan, nil))
		if errors.Is(err, store.ErrMismatch) {
			u.log.Error().Err(err).Stringer("batch", x.request).
				Msg("the rule has other fields than when the batch was read; update_state is left out, the rows are read again")
			return nil
		}
		return err
	})
	if err == nil {
		u.removed()
	}
	return err
}

// removed takes note that the batch is gone.
func (u *uploads) removed() {
	x := u.acked
	u.acked = nil
	u.outbox.count(-1, -int64(len(x.payload)))
	u.sent.raise()
	if x.reply == nil {
		u.progress.add(u.name, 0, 0, 1)
		return
	}
	u.progress.add(u.name, x.rows, 1, len(x.reply.Quarantined))
	if q := x.reply.Quarantined; len(q) > 0 {
		u.log.Warn().Stringer("batch", x.request).Int("rows", len(q)).Uint32("first_row", q[0].Row).
			Stringer("first_status", q[0].Status).Str("first_reason", q[0].Reason).Msg("the centre put rows into its quarantine")
	}
}
