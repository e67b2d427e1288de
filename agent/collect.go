package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// collector moves rows from the local tables to the outbox.
type collector struct {
	agent  *Agent
	opts   *Options
	log    zerolog.Logger
	book   *book
	outbox *outbox

	due  map[string]*dueRule // by table
	full bool                // said so in the log
}

// dueRule is when a table is read again.
type dueRule struct {
	plan    *rule.Plan // a changed rule is read at once
	at      time.Time
	wait    backoff
	trouble trouble
}

func newCollector(a *Agent) *collector {
	return &collector{agent: a, opts: &a.opts, log: a.opts.Log, book: a.book, outbox: a.outbox, due: make(map[string]*dueRule)}
}

// run collects until ctx ends: each rule when it is due, one page of each in turn, so
// that a table with a week's backlog does not hold the others up.
func (c *collector) run(ctx context.Context) error {
	for {
		room := c.outbox.room()
		next := c.pass(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		t := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-room:
		case <-c.book.changed:
		}
		t.Stop()
	}
}

// pass reads every rule that is due until it is short, and returns when the next is due.
func (c *collector) pass(ctx context.Context) time.Time {
	for {
		next, again := time.Now().Add(c.opts.Interval), false
		for _, plan := range c.book.plans(rule.Upload) {
			if ctx.Err() != nil {
				return next
			}
			if c.paused() {
				return next
			}
			d := c.entry(plan)
			if time.Now().Before(d.at) || !c.ready(plan) {
				if d.at.After(time.Now()) && d.at.Before(next) {
					next = d.at
				}
				continue
			}
			more, err := c.page(ctx, plan)
			switch {
			case errors.Is(err, errFull):
				d.at = time.Now().Add(c.opts.Interval)
			case err != nil:
				if ctx.Err() == nil {
					d.trouble.report(err)
				}
				d.at = time.Now().Add(d.wait.next())
			case more:
				again = true
				continue
			default:
				d.trouble.clear()
				d.wait.reset()
				d.at = time.Now().Add(c.opts.pauseAfter(plan))
			}
			if d.at.Before(next) {
				next = d.at
			}
		}
		if !again {
			return next
		}
	}
}

// once reads one rule until it is short, waiting for room while the lanes make some.
func (c *collector) once(ctx context.Context, plan *rule.Plan) error {
	wait := c.opts.retry()
	for {
		room := c.outbox.room()
		more, err := true, errFull
		if !c.paused() && c.ready(plan) {
			more, err = c.page(ctx, plan)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && !more:
			return nil
		case err == nil:
			wait.reset()
		case errors.Is(err, errFull) && c.outbox.stuck():
			return err
		case errors.Is(err, errFull):
			select {
			case <-room:
			case <-ctx.Done():
			}
		case !passing(err) || wait.tries > onceTries || !pause(ctx, wait.next()/8, nil):
			return err
		}
	}
}

func (c *collector) entry(plan *rule.Plan) *dueRule {
	d := c.due[plan.Row.Table]
	if d == nil {
		d = &dueRule{wait: c.opts.retry(), trouble: c.agent.trouble(rule.Upload, plan.Row.Table)}
		c.due[plan.Row.Table] = d
	}
	if d.plan != plan {
		d.plan, d.at = plan, time.Time{}
	}
	return d
}

// ready says whether the table may be read now. What a rule without a cursor selects is
// known to be at the centre only when the acknowledgement is there and update_state has
// run, so until then a second read would send the same rows again.
func (c *collector) ready(plan *rule.Plan) bool {
	return plan.Paged() && len(plan.UpdateState) == 0 || c.outbox.waiting(plan.Row.Table) == 0
}

// paused says whether the outbox is full, and tells an operator when that changes.
func (c *collector) paused() bool {
	full := c.outbox.full()
	if full != c.full {
		c.full = full
		batches, bytes := c.outbox.depth()
		e, text := c.log.Info(), "outbox has room again, collecting goes on"
		if full {
			e = c.log.Warn().Stringer("status", protocol.StatusAgentOutboxFull)
			text = "outbox is full, collecting pauses until batches are acknowledged"
		}
		e.Int("batches", batches).Int64("bytes", bytes).Msg(text)
	}
	return full
}

// page reads a part of a rule into the outbox. more says that rows are left.
func (c *collector) page(ctx context.Context, plan *rule.Plan) (more bool, err error) {
	pack := &packer{table: plan.Row.Table, maxRows: c.opts.BatchRows}
	if slices.ContainsFunc(plan.UpdateState, func(s rule.Statement) bool { return s.PerRow() }) {
		pack.fields = plan.Fields
	}
	if plan.Paged() {
		more, err = c.readPage(ctx, plan, pack)
	} else {
		more, err = c.readAll(ctx, plan, pack)
	}
	if err != nil {
		return false, err
	}
	if len(pack.batches) > 0 {
		c.outbox.stored(plan.Row.Table, pack.batches)
		c.log.Debug().Str("table", plan.Row.Table).Int("rows", pack.rows).Int("batches", len(pack.batches)).Msg("collected")
	}
	return more, nil
}

// readPage reads the next page of a rule with a cursor and moves the watermark, in one
// transaction.
func (c *collector) readPage(ctx context.Context, plan *rule.Plan, pack *packer) (more bool, err error) {
	pack.pageRows, pack.room, pack.enough = c.opts.BatchRows, pageBytes, store.ErrEnough
	err = inTx(ctx, c.opts.Store, func(tx *store.Tx) error {
		state, err := loadState(ctx, tx, rule.Upload, plan.Row.Table)
		if err != nil {
			return err
		}
		page, err := tx.Read(ctx, plan, c.opts.env(plan, state, c.opts.BatchRows), pack)
		if err != nil {
			return err
		}
		more = page.More
		if pack.rows == 0 {
			return nil
		}
		if err := c.keep(ctx, tx, plan, pack); err != nil {
			return err
		}
		return saveState(ctx, tx, rule.Upload, plan.Row.Table, page.State)
	})
	return more, err
}

// readAll reads all that a rule without a cursor gives. Where update_state marks what was
// sent, a part is good, too: the rest is read when that is marked. Otherwise the next read
// would begin with the same rows again, so it has to be all or nothing.
func (c *collector) readAll(ctx context.Context, plan *rule.Plan, pack *packer) (more bool, err error) {
	_, used := c.outbox.depth()
	pack.room, pack.enough = max(c.opts.OutboxBytes-used, 1), errFull
	if len(plan.UpdateState) > 0 {
		pack.enough = store.ErrEnough
	}
	page, err := c.opts.Store.Read(ctx, plan, c.opts.env(plan, nil, c.opts.BatchRows), pack)
	if errors.Is(err, errFull) && used == 0 {
		return false, fmt.Errorf("the upside gives more than the outbox may hold (%d bytes)", c.opts.OutboxBytes)
	}
	if err != nil {
		return false, err
	}
	return page.More, inTx(ctx, c.opts.Store, func(tx *store.Tx) error { return c.keep(ctx, tx, plan, pack) })
}

// keep writes what was packed within tx.
func (c *collector) keep(ctx context.Context, tx *store.Tx, plan *rule.Plan, pack *packer) error {
	if err := pack.flush(); err != nil {
		return err
	}
	for _, o := range pack.aside {
		if err := o.setAside(ctx, tx, c.opts, plan.Row, fmt.Sprintf("more than the %d a frame can carry", maxRowBytes)); err != nil {
			return err
		}
		c.agent.tally.add(rule.Upload, plan.Row.Table, moved{quarantined: 1})
	}
	if len(pack.batches) == 0 {
		return nil
	}
	return c.outbox.add(ctx, tx, &plan.Row, pack.batches)
}
