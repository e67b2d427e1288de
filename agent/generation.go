package agent

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

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
				Msg("the centre has batches of another copy of this database; rows since its own state are sent " +
					"under a new epoch")
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
			if c.epoch, err = u.opts.newEpoch(); err != nil {
				return err
			}
		}
		if c.next == 0 {
			c.next = nextGeneration(c.seq)
		}
		_, err = tx.Exec(ctx,
			`REPLACE INTO sync_agent_stream (sync_table, epoch, seq, next_generation) VALUES (?, ?, ?, ?)`,
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
			warn("this database has not got as far as the centre, as after a restore; " +
				"rows are sent again from the own state on")
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
		return tx.One(ctx, `SELECT EXISTS (SELECT 1 FROM sync_agent_stream WHERE sync_table = ?)`,
			[]any{u.name.table}, &there)
	})
	if err != nil || !there {
		return err
	}
	if err := u.begin(ctx, plan); err != nil {
		return err
	}
	return u.renew(ctx)
}
