package store

import (
	"context"
	"database/sql"
	"errors"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Tx is a transaction of an agent on its own database: rows, outbox, watermark and state move together or not at all.
// It belongs to one goroutine. End it with Commit or Rollback; Rollback after Commit does nothing.
type Tx struct {
	s     *Store
	sc    *sql.Conn // nil when it has ended
	files *files
	dead  error // why nothing but Rollback can follow: the server has rolled it back, or is gone
}

// Begin opens a transaction on a connection of its own.
func (s *Store) Begin(ctx context.Context) (*Tx, error) {
	t := &Tx{s: s, files: newFiles(s.o.FileRoot)}
	for attempt := 0; ; attempt++ {
		sc, err := s.db.Conn(ctx)
		if err != nil {
			return nil, public(err)
		}
		t.sc = sc
		err = onConn(sc, func(c *conn) error { return c.text(ctx, "START TRANSACTION") })
		if err == nil {
			return t, nil
		}
		_ = sc.Close() // err is the one to tell
		if attempt > 0 || kindOf(err) != kindGone {
			return nil, public(err)
		}
	}
}

// on runs f on the transaction's connection.
func (t *Tx) on(f func(c *conn) error) error {
	if err := t.usable(); err != nil {
		return err
	}
	return t.note(onConn(t.sc, f))
}

func (t *Tx) usable() error {
	if t.sc == nil {
		return sql.ErrTxDone
	}
	return t.dead
}

// note keeps what ends the transaction at the server: after a deadlock the next statement would stand alone.
func (t *Tx) note(err error) error {
	k := kindOf(err)
	err = public(err)
	if k == kindGone || k == kindAgain {
		t.dead = err
	}
	return err
}

// Read is Store.Read within the transaction. A sink that fails costs the transaction its connection when the plan is
// not paged.
func (t *Tx) Read(ctx context.Context, p *rule.Plan, e rule.Env, sink Sink) (Page, error) {
	r := &reader{ctx: ctx, p: p, env: e, sink: sink}
	err := t.on(func(c *conn) error {
		r.c = c
		err := r.read()
		if err == nil && c.broken { // the sink had enough of a result that is not paged
			return own(errors.Join(ErrUnavailable, ErrEnough))
		}
		return err
	})
	if err != nil {
		return Page{Rows: r.page.Rows}, err
	}
	return r.page, nil
}

// Apply runs the downside of a plan over rows that came from the centre. Rows that no operation takes go to the point's
// own sync_quarantine. Outcome.Err stays nil: the error is the second result, and after one Rollback is all that is left.
func (t *Tx) Apply(ctx context.Context, p *rule.Plan, rows rowset.Rows, e rule.Env) (Outcome, error) {
	out := Outcome{}
	b, err := t.s.newBatch(&Upload{Point: e.Point, Plan: p, Rows: rows, Env: e}, &out)
	if err != nil {
		return out, err
	}
	b.reset()
	err = t.on(func(c *conn) error {
		r := &runner{ctx: ctx, c: c, s: t.s, files: t.files}
		return r.batches([]*batch{b})
	})
	return out, err
}

// UpdateState runs the update_state phase of a plan: a statement that uses the row once for each of rows, the others
// once.
func (t *Tx) UpdateState(ctx context.Context, p *rule.Plan, rows rowset.Rows, e rule.Env) error {
	var view rowView
	if len(rows.Values) > 0 {
		var err error
		if view, err = newRowView(p, rows); err != nil {
			return err
		}
	}
	return t.on(func(c *conn) error {
		r := &runner{ctx: ctx, c: c, s: t.s}
		return r.updateState(p, view, &e)
	})
}

// Exec runs one statement.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	res, err := t.sc.ExecContext(ctx, query, args...)
	return res, t.note(err)
}

// Query runs one statement that has rows. Close them before anything else is done in the transaction.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	rows, err := t.sc.QueryContext(ctx, query, args...)
	return rows, t.note(err)
}

// Commit makes it last. ErrUnavailable: it is not known whether it did, so look at what it wrote.
func (t *Tx) Commit(ctx context.Context) error {
	err := t.on(func(c *conn) error {
		if err := t.files.publish(); err != nil {
			return err
		}
		return c.text(ctx, "COMMIT")
	})
	if err != nil {
		return errors.Join(err, t.Rollback())
	}
	return t.end()
}

// Rollback undoes it. It does nothing when the transaction has ended.
func (t *Tx) Rollback() error {
	if t.sc == nil {
		return nil
	}
	// A connection that cannot roll back is closed, which rolls back too. One that is closed already says so here.
	_ = onConn(t.sc, func(c *conn) error { c.rollback(context.Background()); return nil })
	return t.end()
}

func (t *Tx) end() error {
	t.files.discard()
	sc := t.sc
	t.sc = nil
	if err := sc.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return public(err)
	}
	return nil
}
