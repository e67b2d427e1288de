package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// download is the turn of a table's download loop. It fetches page after page until the server has no more. The rest is
// short when the next turn reads on from the state, and long when it reads the whole table again.
func (l *loop) download(ctx context.Context) (rest time.Duration, err error) {
	plan, err := l.rules.plan(l.name)
	rest = l.opts.FullInterval
	if plan == nil { // broken, or switched off since the loop began
		return rest, err
	}
	for more := true; more; {
		var stateful bool
		stateful, more, err = l.page(ctx, plan)
		if err != nil && l.rules.altered(ctx, l.name, plan, err) {
			return l.download(ctx)
		}
		if err != nil {
			return 0, err
		}
		if stateful {
			rest = l.rest()
		}
		if !more {
			more, err = l.reloaded(ctx, func(state []rowset.StateItem) error {
				return l.opts.Store.InTx(ctx, func(tx *store.Tx) error { return saveState(ctx, tx, l.name, state) })
			})
			if err != nil {
				return 0, err
			}
		}
		l.recovered()
	}
	l.progress.done(l.name, rest)
	return rest, nil
}

// maxPages bounds the downloads in flight. Each holds a connection to the local database while its rows come. A
// download that waited for such a connection would block the replies of all others.
const maxPages = 4

// page asks for the rows after the present state and applies every part of the answer in one transaction, which also
// saves the new state. Any error rolls it back, so asking again is always safe. stateful reports whether the next page
// reads on from this one. When the rule makes a file of all rows, page reads all pages from the start.
func (l *loop) page(ctx context.Context, plan *rule.Plan) (stateful, more bool, err error) {
	select {
	case l.pages <- struct{}{}:
		defer func() { <-l.pages }()
	case <-ctx.Done():
		return false, false, ctx.Err()
	}
	table := l.tables.of(l.name.table)
	if err := table.lock(ctx); err != nil {
		return false, false, err
	}
	defer table.unlock()
	uploaded, err := l.opposite(ctx, plan)
	if err != nil {
		return false, false, err
	}
	asked, err := l.carry(ctx, plan)
	if err != nil {
		return false, false, fmt.Errorf("read the state: %w", err)
	}
	in := &arriving{loop: l, plan: plan, uploaded: uploaded}
	defer func() { err = errors.Join(err, in.end(ctx, err)) }()
	last, err := l.ask(ctx, plan, asked, func(reply *protocol.DownloadReply, more bool) error {
		return in.part(ctx, reply, more)
	})
	if err == nil && plan.Snapshot() && in.all == 0 {
		_, err = in.tx.Apply(ctx, plan, rowset.Rows{}, l.opts.env(nil)) // a file without rows
	}
	if err != nil {
		return false, false, err
	}
	if in.reread = in.reread && len(last.State) > 0; in.reread {
		last.More = true
	}
	if err := in.commit(ctx, last.State); err != nil {
		return false, false, err
	}
	if last.More && !in.reread && reflect.DeepEqual(asked, last.State) {
		return false, false, errStalled
	}
	return !plan.Snapshot() && (len(asked) > 0 || len(last.State) > 0 || in.all == 0), last.More, nil
}

// partTime is how long the transaction of a page stays open where the parts say the state behind them.
const partTime = time.Second

// arriving is a page whose parts arrive. They are applied in one transaction, which also saves the state behind them.
// On a slow link there are several transactions, so that what has come is not fetched again when the link is cut.
type arriving struct {
	*loop
	plan     *rule.Plan
	uploaded *uint64

	fit               *ruleset.Fit // of the first part with rows
	change            *travelling
	reread            bool      // the table is to be read again from its beginning
	tx                *store.Tx // open from the first part on
	since             time.Time
	all               int                // rows of the page
	rows, quarantined int                // in tx
	state             []rowset.StateItem // behind them; nil: not known
}

// part applies a part, behind which more parts may come.
func (p *arriving) part(ctx context.Context, reply *protocol.DownloadReply, more bool) (err error) {
	if p.fit == nil && len(reply.Columns) > 0 {
		p.fit, err = p.rules.fit(ctx, p.name, reply.Columns) // before tx, or an ALTER would wait for both
		if err == nil {
			p.change, p.reread = p.travelled(p.plan, p.fit)
		}
	}
	if err == nil && p.tx == nil {
		p.tx, err = p.opts.Store.Begin(ctx)
		p.since = p.opts.Clock()
	}
	if err != nil {
		return err
	}
	out, err := p.apply(ctx, p.tx, p.plan, p.fit, reply.Rows(), p.uploaded)
	p.rows += reply.Rows().Len()
	p.all += reply.Rows().Len()
	p.quarantined += len(out.Quarantined) + int(out.LeftOut)
	if p.state = nil; !p.plan.Snapshot() && !p.reread {
		p.state = reply.State
	}
	if err == nil && more && p.state != nil && p.opts.Clock().Sub(p.since) > partTime {
		err = p.commit(ctx, p.state)
	}
	return err
}

// commit saves the state and ends the transaction.
func (p *arriving) commit(ctx context.Context, state []rowset.StateItem) (err error) {
	if p.reread {
		state = beginning(state)
	}
	if p.change != nil {
		err = p.columns.save(ctx, p.tx, p.name, p.change)
	}
	if err == nil && (len(state) > 0 || p.reread) && !p.plan.Snapshot() { // no state is the beginning, too
		err = saveState(ctx, p.tx, p.name, state)
	}
	if err == nil {
		err = p.lock.check(ctx, p.tx)
	}
	if err == nil {
		err = p.tx.Commit(ctx)
	}
	if err != nil {
		return err
	}
	if p.change != nil {
		p.columns.add(p.name, p.change)
	}
	p.progress.add(p.name, p.rows, 1, p.quarantined)
	p.tx, p.change, p.rows, p.quarantined = nil, nil, 0, 0
	return nil
}

// end keeps the parts that came before the connection was lost. After any other error it rolls back.
func (p *arriving) end(ctx context.Context, failed error) error {
	switch {
	case p.tx == nil:
		return nil
	case errors.Is(failed, ErrLost) && p.state != nil:
		if p.commit(ctx, p.state) == nil {
			return nil
		}
	}
	return p.tx.Rollback()
}

// errStalled means that the server sends the same page for ever.
var errStalled = errors.New("the server says that there is more, but the state does not move")

// ask fetches the page behind a state, and for a file of all rows also those behind it. each gets their parts.
func (l *loop) ask(ctx context.Context, plan *rule.Plan, from []rowset.StateItem,
	each func(reply *protocol.DownloadReply, more bool) error,
) (last *protocol.DownloadReply, err error) {
	for {
		request := &protocol.Message{Op: protocol.OpDownload, Body: &protocol.DownloadRequest{Table: l.name.table,
			State: from, Fields: generatedFields(plan), Held: l.held}}
		err = l.link.do(ctx, request, func(m *protocol.Message) (err error) {
			if last, err = m.DownloadReply(); err == nil {
				err = each(last, m.More())
			}
			return err
		})
		l.held = request.Have
		if err != nil || !plan.Snapshot() || !last.More {
			return last, err
		}
		if reflect.DeepEqual(from, last.State) {
			return nil, errStalled
		}
		from = last.State
	}
}

// generatedFields are the fields of a rule without SQL of its own, for the centre to compare with its table.
func generatedFields(plan *rule.Plan) []string {
	if plan.Form != rule.Generated {
		return nil
	}
	return plan.Fields
}

// travelled is what a page says about the table's columns; nil: nothing new. reread reports whether the table is to be
// read again from its beginning.
func (l *loop) travelled(plan *rule.Plan, fit *ruleset.Fit) (change *travelling, reread bool) {
	if fit == nil || plan.Form != rule.Generated {
		return nil, false
	}
	change, grown, _ := l.columns.met(l.name, fit.Columns, fit.Columns, fit.Extra)
	if reread = len(grown) > 0 && !plan.Row.CarryState; reread {
		l.log.Info().Strs("columns", grown).
			Msg("both ends have got columns; the table is read again from its beginning")
	}
	return change, reread
}

// apply runs the downside and update_state over one part of a page.
func (l *loop) apply(ctx context.Context, tx *store.Tx, plan *rule.Plan, fit *ruleset.Fit, rows rowset.Rows,
	uploaded *uint64) (store.Outcome, error) {
	if rows.Len() == 0 {
		return store.Outcome{}, nil
	}
	if slices.Equal(fit.Columns, rows.Columns) {
		plan = fit.Plan
	}
	env := l.opts.env(nil)
	env.Known = uploaded
	out, err := tx.Apply(ctx, plan, rows, env)
	if err == nil {
		err = tx.UpdateState(ctx, plan, rows, env)
	}
	if q := out.Quarantined; len(q) > 0 {
		l.log.Warn().Int("rows", len(q)+int(out.LeftOut)).Int("first_row", q[0].Row).Str("first_reason", q[0].Reason).
			Msg("rows put into sync_quarantine")
	}
	return out, err
}

// carry returns the state to ask from. A rule that carries state reads it with its upside. Any other rule uses the
// state that the last download saved.
func (l *loop) carry(ctx context.Context, plan *rule.Plan) ([]rowset.StateItem, error) {
	saved, err := loadState(ctx, l.opts.Store, l.name)
	if plan.Snapshot() {
		saved = nil
	}
	if err != nil || !plan.Row.CarryState || len(plan.Upside) == 0 {
		return saved, err
	}
	c := &carrier{}
	_, err = l.opts.Store.Read(ctx, plan, l.opts.env(saved), c)
	return c.state, err
}

// carrier keeps the first row of each statement as state: a column's name and value make one item. A NULL, such as MAX
// of an empty table, is no state.
type carrier struct {
	columns []rowset.Column
	state   []rowset.StateItem
}

// Begin starts the rows of one statement.
func (c *carrier) Begin(_ int, cols []rowset.Column) error {
	c.columns = cols
	return nil
}

// Row keeps the first row and ignores the others.
func (c *carrier) Row(values []any) error {
	for i, v := range rowset.AppendCopy(nil, values) {
		if i < len(c.columns) && v != nil {
			if text, ok := v.(string); ok && c.columns[i].Type == rowset.Timestamp {
				v = rowset.Instant(text)
			}
			c.state = append(c.state, rowset.StateItem{Name: c.columns[i].Name, Value: v})
		}
	}
	c.columns = nil
	return nil
}
