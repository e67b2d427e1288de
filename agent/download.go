package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// download is the turn of a table's lane from the server to the local database: page after
// page, until the server has no more. It rests a short time when the next turn goes on
// where this one ended, a long one when that reads the whole table again.
func (l *lane) download(ctx context.Context) (rest time.Duration, err error) {
	e := l.book.find(l.name)
	rest = l.opts.FullInterval
	if e.plan == nil { // broken, or switched off since the lane began
		return rest, e.broken
	}
	for {
		p := &page{lane: l, plan: e.plan}
		if err := p.fetch(ctx); err != nil {
			return 0, err
		}
		l.tally.add(l.name, p.rows, 1, p.quarantined)
		if len(p.asked) > 0 || len(p.last.State) > 0 || p.rows == 0 {
			rest = l.opts.Interval
		}
		if !p.last.More {
			return rest, nil
		}
		if p.rows == 0 || reflect.DeepEqual(p.asked, p.last.State) {
			return 0, errors.New("the server says that there is more, but the state does not move")
		}
		l.well()
	}
}

// page is one request's worth of rows on its way into the local tables.
type page struct {
	*lane
	plan *rule.Plan
	tx   *store.Tx // open from the first part to the last

	asked       []protocol.StateItem
	last        *protocol.DownloadReply
	rows        int
	quarantined int
}

// fetch asks from the state there is and applies every part of the answer in one
// transaction, which also stores the new state. Whatever goes wrong rolls it back, so
// asking again is always right.
func (p *page) fetch(ctx context.Context) (err error) {
	if p.asked, err = p.state(ctx); err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	defer func() {
		if p.tx != nil {
			err = errors.Join(err, p.tx.Rollback())
		}
	}()
	request := &protocol.DownloadRequest{Table: p.name.table, State: p.asked}
	err = p.link.do(ctx, &protocol.Message{Op: protocol.OpDownload, Body: request}, func(m *protocol.Message) error {
		part, err := m.DownloadReply()
		if err != nil {
			return err
		}
		return p.apply(ctx, part)
	})
	if err == nil && len(p.last.State) > 0 {
		err = saveState(ctx, p.tx, p.name, p.last.State)
	}
	if err == nil {
		err = p.tx.Commit(ctx)
	}
	return err
}

// state is what to ask from: what the rule's upside reads at the point where it carries
// state, else what the last download left.
func (p *page) state(ctx context.Context) ([]protocol.StateItem, error) {
	saved, err := loadState(ctx, p.opts.Store, p.name)
	if err != nil || !p.plan.Row.CarryState || len(p.plan.Upside) == 0 {
		return saved, err
	}
	carried := &carrier{}
	_, err = p.opts.Store.Read(ctx, p.plan, p.opts.env(p.plan, saved), carried)
	return carried.state, err
}

// apply takes one part of the answer.
func (p *page) apply(ctx context.Context, part *protocol.DownloadReply) (err error) {
	p.last = part
	if p.tx == nil {
		if p.tx, err = p.opts.Store.Begin(ctx); err != nil {
			return err
		}
	}
	rows := rule.Rows(part.Rows())
	if rows.Len() == 0 {
		return nil
	}
	env := p.opts.env(p.plan, nil)
	out, err := p.tx.Apply(ctx, p.plan, rows, env)
	if err == nil {
		err = p.tx.UpdateState(ctx, p.plan, rows, env)
	}
	if err != nil {
		return err
	}
	if q := out.Quarantined; len(q) > 0 {
		p.log.Warn().Int("rows", len(q)).Int("first_row", q[0].Row).Str("first_reason", q[0].Reason).Msg("rows put into sync_quarantine")
	}
	p.rows += rows.Len()
	p.quarantined += len(out.Quarantined)
	return nil
}

// carrier keeps the first row of each statement as state: a column's name and value make
// one item. A NULL, as MAX gives for an empty table, is no state.
type carrier struct {
	columns []store.ColumnInfo
	state   []protocol.StateItem
}

// Begin starts the rows of one statement.
func (c *carrier) Begin(_ int, cols []store.ColumnInfo) error {
	c.columns = cols
	return nil
}

// Row takes the first row and leaves the others.
func (c *carrier) Row(values []any) error {
	for i, v := range copied(nil, values) {
		if i < len(c.columns) && v != nil {
			c.state = append(c.state, protocol.StateItem{Name: c.columns[i].Name, Value: v})
		}
	}
	c.columns = nil
	return nil
}
