package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/rs/zerolog"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// downloader is the lane of one table from the server to the local database.
type downloader struct {
	opts  *Options
	log   zerolog.Logger
	table string
	link  *link
	book  *book
	tally *tally
	retry signal // the rules changed: ask now

	wait    backoff
	trouble trouble
}

func newDownloader(a *Agent, table string) *downloader {
	log := a.opts.Log.With().Str("table", table).Str("type", rule.Download).Logger()
	return &downloader{opts: &a.opts, log: log, table: table, link: a.link, book: a.book, tally: &a.tally,
		retry: newSignal(), wait: a.opts.retry(), trouble: a.trouble(rule.Download, table)}
}

// run asks for the table's rows at every interval until ctx ends.
func (d *downloader) run(ctx context.Context) error {
	for {
		stateful, err := d.round(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rest := d.opts.FullInterval
		if err != nil {
			rest = lanePause(err, &d.wait, &d.trouble)
		} else {
			d.trouble.clear()
			d.wait.reset()
			if stateful {
				rest = d.opts.Interval
			}
		}
		if !pause(ctx, rest, unlessPassing(err, d.retry)) {
			return ctx.Err()
		}
	}
}

// once downloads until nothing is left.
func (d *downloader) once(ctx context.Context) error {
	for {
		_, err := d.round(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rest := lanePause(err, &d.wait, &d.trouble)
		if !passing(err) || d.wait.tries > onceTries {
			return err
		}
		if !pause(ctx, rest, nil) {
			return context.Cause(ctx)
		}
	}
}

// round takes pages until the server has no more. stateful says that the next round is
// cheap: it goes on where this one ended, rather than reading the whole table again.
func (d *downloader) round(ctx context.Context) (stateful bool, err error) {
	plan, row := d.book.find(rule.Download, d.table)
	switch {
	case plan == nil && row.Enabled:
		return false, errBrokenRule
	case plan == nil:
		return false, nil // it was there when the lane began
	}
	for {
		p := &page{downloader: d, plan: plan}
		err := p.fetch(ctx)
		if err != nil {
			return stateful, err
		}
		d.tally.add(rule.Download, d.table, moved{rows: p.rows, batches: 1, quarantined: p.quarantined})
		stateful = stateful || len(p.asked) > 0 || len(p.last.State) > 0 || p.rows == 0
		if !p.last.More {
			return stateful, nil
		}
		if p.rows == 0 || reflect.DeepEqual(p.asked, p.last.State) {
			return stateful, errors.New("the server says that there is more, but the state does not move")
		}
		d.wait.reset()
	}
}

// page is one request's worth of rows on its way into the local tables.
type page struct {
	*downloader
	plan *rule.Plan
	tx   *store.Tx // open from the first part to the last

	asked       []protocol.StateItem
	last        *protocol.DownloadReply
	rows        int64
	quarantined int64
}

// fetch asks from the state there is and applies every part of the answer in one
// transaction, which also stores the new state. Whatever goes wrong rolls it back, so
// asking again is always right.
func (p *page) fetch(ctx context.Context) (err error) {
	if err = p.from(ctx); err != nil {
		return fmt.Errorf("%w: read the state: %w", errLocal, err)
	}
	defer func() {
		if p.tx != nil {
			err = errors.Join(err, p.tx.Rollback())
		}
	}()
	request := &protocol.DownloadRequest{Table: p.table, State: p.asked, MaxRows: uint32(p.opts.DownloadRows)}
	err = p.link.call(ctx, &protocol.Message{Op: protocol.OpDownload, Body: request},
		func(m *protocol.Message) error {
			if err := refusal(m); err != nil {
				return err
			}
			part, err := m.DownloadReply()
			if err != nil {
				return err
			}
			return p.apply(ctx, part)
		})
	if err != nil {
		return err
	}
	return p.finish(ctx)
}

// from finds the state to ask from: what the rule's upside reads at the point where it
// carries state, else what the last download left.
func (p *page) from(ctx context.Context) error {
	return inTx(ctx, p.opts.Store, func(tx *store.Tx) error {
		saved, err := loadState(ctx, tx, rule.Download, p.table)
		if err == nil && p.plan.Row.CarryState && len(p.plan.Upside) > 0 {
			carried := &carrier{}
			if _, err = tx.Read(ctx, p.plan, p.opts.env(p.plan, saved, 0), carried); err == nil {
				saved = carried.state
			}
		}
		for _, s := range saved {
			p.asked = append(p.asked, protocol.StateItem(s))
		}
		return err
	})
}

func (p *page) apply(ctx context.Context, part *protocol.DownloadReply) (err error) {
	p.last = part
	if p.tx == nil {
		if p.tx, err = p.opts.Store.Begin(ctx); err != nil {
			return fmt.Errorf("%w: %w", errLocal, err)
		}
	}
	rows := rule.Rows(part.Rows())
	if rows.Len() == 0 {
		return nil
	}
	env := p.opts.env(p.plan, nil, 0)
	out, err := p.tx.Apply(ctx, p.plan, rows, env)
	if err == nil {
		err = p.tx.UpdateState(ctx, p.plan, rows, env)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	if q := out.Quarantined; len(q) > 0 {
		p.log.Warn().Int("rows", len(q)).Int("first_row", q[0].Row).Str("first_reason", q[0].Reason).Msg("rows put into sync_quarantine")
	}
	p.rows += int64(rows.Len())
	p.quarantined += int64(len(out.Quarantined))
	return nil
}

func (p *page) finish(ctx context.Context) error {
	var state []rule.StateItem
	for _, s := range p.last.State {
		state = append(state, rule.StateItem(s))
	}
	var err error
	if len(state) > 0 {
		err = saveState(ctx, p.tx, rule.Download, p.table, state)
	}
	if err == nil {
		err = p.tx.Commit(ctx)
		p.tx = nil
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	return nil
}

// carrier keeps the first row of each statement as state: a column's name and value make
// one item. A NULL, as MAX gives for an empty table, is no state.
type carrier struct {
	columns []string
	first   bool
	state   []rule.StateItem
}

// Begin starts the rows of one statement.
func (c *carrier) Begin(_ int, cols []store.ColumnInfo) error {
	c.columns, c.first = c.columns[:0], true
	for _, col := range cols {
		c.columns = append(c.columns, col.Name)
	}
	return nil
}

// Row takes the first row and leaves the others.
func (c *carrier) Row(values []any) error {
	if !c.first {
		return nil
	}
	c.first = false
	for i, v := range copied(nil, values) {
		if v != nil {
			c.state = append(c.state, rule.StateItem{Name: c.columns[i], Value: v})
		}
	}
	return nil
}
