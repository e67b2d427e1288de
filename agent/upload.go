package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// uploader is the lane of one table from the outbox to the server.
type uploader struct {
	opts   *Options
	log    zerolog.Logger
	table  string
	link   *link
	book   *book
	outbox *outbox
	tally  *tally
	retry  signal // the server's rules changed: what was refused may go now

	wait    backoff
	trouble trouble
}

func newUploader(a *Agent, table string) *uploader {
	log := a.opts.Log.With().Str("table", table).Str("type", rule.Upload).Logger()
	return &uploader{opts: &a.opts, log: log, table: table, link: a.link, book: a.book, outbox: a.outbox, tally: &a.tally,
		retry: newSignal(), wait: a.opts.retry(), trouble: a.trouble(rule.Upload, table)}
}

// run sends the table's batches in order until ctx ends, waiting for more when there are
// none.
func (u *uploader) run(ctx context.Context) error {
	wake := u.outbox.lane(u.table)
	for {
		rest := u.opts.FullInterval
		if err := u.drain(ctx); err != nil && ctx.Err() == nil {
			if !pause(ctx, lanePause(err, &u.wait, &u.trouble), unlessPassing(err, u.retry)) {
				return ctx.Err()
			}
			continue
		}
		u.trouble.clear()
		u.wait.reset()
		if !pause(ctx, rest, wake) {
			return ctx.Err()
		}
	}
}

// once sends until the outbox has nothing for the table and collected is closed. What
// passes by itself is tried a few times, everything else ends it.
func (u *uploader) once(ctx context.Context, collected <-chan struct{}) error {
	wake := u.outbox.lane(u.table)
	for last := false; ; {
		err := u.drain(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			rest := lanePause(err, &u.wait, &u.trouble)
			if !passing(err) || u.wait.tries > onceTries {
				return err
			}
			if !pause(ctx, rest, nil) {
				return context.Cause(ctx)
			}
		case last:
			return nil
		default:
			u.wait.reset()
			select {
			case <-wake:
			case <-collected:
				last = true // and look once more
			case <-ctx.Done():
			}
		}
	}
}

// drain sends until there is no batch left. While the server works on one batch, the one
// before is deleted and the next is read, so the server never waits for this database.
func (u *uploader) drain(ctx context.Context) error {
	current, err := u.outbox.next(ctx, u.table, protocol.RequestID{})
	var done *acknowledged
	for err == nil && current != nil {
		var next *batch
		housekeeping := make(chan error, 1)
		number := current.request
		go func() {
			err := u.settle(ctx, done)
			if err == nil {
				next, err = u.outbox.next(ctx, u.table, number)
			}
			housekeeping <- err
		}()
		reply, refused := u.send(ctx, current)
		err = <-housekeeping
		if err == nil && current.request != number { // the next one has a new number, too
			next, err = u.outbox.next(ctx, u.table, current.request)
		}
		if refused != nil {
			return refused
		}
		// If err is set, the batch is still there; it is sent again and answered from the ledger.
		done = nil
		if reply != nil {
			done = &acknowledged{current, reply}
			u.trouble.clear()
			u.wait.reset()
		}
		current = next
	}
	if err == nil {
		err = u.settle(ctx, done)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	return nil
}

// acknowledged is a batch with the server's word that it is there.
type acknowledged struct {
	*batch
	reply *protocol.UploadReply
}

// send has one batch done by the server, however many connections that takes. Without
// reply and error the batch is gone, because it could never be sent.
func (u *uploader) send(ctx context.Context, x *batch) (reply *protocol.UploadReply, err error) {
	if plan, row := u.book.find(rule.Upload, u.table); plan == nil && row.Enabled && row.UpdateState {
		return nil, fmt.Errorf("%w, so its update_state could not be run", errBrokenRule)
	}
	for renumbered, lost := 0, 0; ; {
		reply, err = u.request(ctx, x)
		var refused *Refusal
		switch {
		case errors.Is(err, errLost) && ctx.Err() == nil && lost < maxLost:
			lost++
		case errors.As(err, &refused) && refused.Status == protocol.StatusRequestIDReused && renumbered < maxRenumber:
			old := x.request
			if err := u.outbox.renumber(ctx, x); err != nil {
				return nil, err
			}
			renumbered++
			u.log.Warn().Stringer("was", old).Stringer("is", x.request).Msg("the server knows this number from before; the outbox goes on in a new epoch")
		case errors.Is(err, protocol.ErrTooLarge) && x.rows == 1:
			return nil, u.giveUp(ctx, x, err)
		case refused != nil:
			return nil, errors.Join(err, u.outbox.refused(ctx, x, refused))
		default:
			return reply, err
		}
	}
}

// giveUp puts the only row of a batch aside that is larger than the frames this server
// takes, and takes the batch out of the outbox.
func (u *uploader) giveUp(ctx context.Context, x *batch, why error) error {
	m := protocol.Message{Op: protocol.OpUpload, Payload: x.payload}
	request, err := m.UploadRequest()
	if err != nil {
		return fmt.Errorf("batch %s: %w", x.request, err)
	}
	_, row := u.book.find(rule.Upload, u.table)
	row.Table = u.table // also when there is no rule any more
	o := oversized{request.Rows.Columns, request.Rows.Values, len(x.payload)}
	err = inTx(ctx, u.opts.Store, func(tx *store.Tx) error {
		if err := u.outbox.remove(ctx, tx, x); err != nil {
			return err
		}
		return o.setAside(ctx, tx, u.opts, row, "which the server does not take ("+why.Error()+")")
	})
	if err == nil {
		u.outbox.removed(x)
		u.tally.add(rule.Upload, u.table, moved{quarantined: 1})
	}
	return err
}

// maxLost bounds how often a batch is sent again at once: if it is what makes the
// connection end, the other lanes need a time without it.
const maxLost = 3

// maxRenumber bounds how often one batch gets a new number in a row: a server that has
// seen several random numbers before is broken in another way.
const maxRenumber = 3

// request is one try.
func (u *uploader) request(ctx context.Context, x *batch) (reply *protocol.UploadReply, err error) {
	payload, err := protocol.WithConfirmed(x.payload, x.confirmed)
	if err != nil {
		return nil, fmt.Errorf("batch %s: %w", x.request, err)
	}
	m := &protocol.Message{Op: protocol.OpUpload, RequestID: x.request, Payload: payload}
	err = u.link.call(ctx, m, func(m *protocol.Message) (err error) {
		if err = refusal(m); err == nil {
			reply, err = m.UploadReply()
		}
		return err
	})
	return reply, err
}

// settle deletes an acknowledged batch and runs the rule's update_state, in one
// transaction.
func (u *uploader) settle(ctx context.Context, a *acknowledged) error {
	if a == nil {
		return nil
	}
	plan, _ := u.book.find(rule.Upload, u.table)
	var rows rule.Rows
	if plan != nil && len(plan.UpdateState) > 0 {
		m := protocol.Message{Op: protocol.OpUpload, Payload: a.payload}
		request, err := m.UploadRequest()
		if err != nil {
			return fmt.Errorf("batch %s: %w", a.request, err)
		}
		rows = rule.Rows(request.Rows)
	}
	err := inTx(ctx, u.opts.Store, func(tx *store.Tx) error {
		if err := u.outbox.remove(ctx, tx, a.batch); err != nil || rows.Len() == 0 {
			return err
		}
		err := tx.UpdateState(ctx, plan, rows, u.opts.env(plan, nil, 0))
		if errors.Is(err, store.ErrMismatch) {
			u.log.Error().Err(err).Stringer("batch", a.request).Msg("the rule has other fields than when the batch was read; update_state is left out, the rows are read again")
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	u.outbox.removed(a.batch)
	u.tally.add(rule.Upload, u.table, moved{rows: int64(a.rows), batches: 1, quarantined: int64(len(a.reply.Quarantined))})
	if q := a.reply.Quarantined; len(q) > 0 {
		u.log.Warn().Stringer("batch", a.request).Int("rows", len(q)).Uint32("first_row", q[0].Row).
			Stringer("first_status", q[0].Status).Str("first_reason", q[0].Reason).Msg("the centre put rows into its quarantine")
	}
	return nil
}
