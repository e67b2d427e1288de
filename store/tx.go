package store

import (
	"context"
	"database/sql"
	"errors"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Tx is a transaction. An agent changes rows, outbox and state in one. It belongs to one goroutine. End it with Commit
// or Rollback; Rollback after Commit does nothing.
type Tx struct {
	s       *Store
	sc      *sql.Conn // nil when it has ended
	files   *files
	applied []Outcome // counted when it is committed
	failure error     // why only Rollback can follow: the server has rolled it back, or is gone
}

// InTx runs f in a transaction. It commits when f returns nil and rolls back otherwise.
func (s *Store) InTx(ctx context.Context, f func(*Tx) error) error {
	t, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	if err := f(t); err != nil {
		_ = t.Rollback() // a connection that fails here is closed, which rolls back too
		return err
	}
	return t.Commit(ctx)
}

// inTx is InTx that runs f again after a deadlock.
func (s *Store) inTx(ctx context.Context, f func(*Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := s.InTx(ctx, f)
		if !errors.Is(err, ErrRetry) || attempt == attemptsRetry {
			return err
		}
		s.count(Retries, causeOf(err), 1, nil)
	}
}

// exec runs one statement in a transaction, and again after a deadlock. It returns the rows it matched.
func (s *Store) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = s.inTx(ctx, func(tx *Tx) error {
		n, err = tx.Exec(ctx, query, args...)
		return err
	})
	return n, err
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
		err = onConn(sc, func(c *conn) error {
			if err := c.useZone(ctx, utc); err != nil { // that of times which the caller writes
				return err
			}
			return c.text(ctx, "START TRANSACTION")
		})
		if err == nil {
			return t, nil
		}
		_ = sc.Close() // err is the one to tell
		if attempt > 0 || kindOf(err) != kindLost {
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
	return t.failure
}

// note makes an error public and keeps one that has ended the transaction at the server: after a deadlock the next
// statement would run outside of it.
func (t *Tx) note(err error) error {
	k := kindOf(err)
	err = public(err)
	if k == kindLost || k == kindRetry {
		t.failure = err
	}
	return err
}

// Read is Store.Read within the transaction. When the sink of a plan that is not paged fails, the transaction loses its
// connection.
func (t *Tx) Read(ctx context.Context, p *rule.Plan, e rule.Env, sink Sink) (Page, error) {
	r := &reader{ctx: ctx, s: t.s, p: p, env: e, sink: sink, inTx: true}
	err := t.on(func(c *conn) error {
		r.c = c
		err := r.read()
		if err == nil && c.broken { // the sink had enough of a result that is not paged
			return notFromDB(errors.Join(ErrUnavailable, ErrEnough))
		}
		return err
	})
	if err != nil {
		return Page{Rows: r.page.Rows}, err
	}
	return r.page, nil
}

// Apply runs the downside of a plan over rows. Rows that no operation takes go to sync_quarantine. The error is the
// second result, not Outcome.Err; after an error only Rollback can follow.
func (t *Tx) Apply(ctx context.Context, p *rule.Plan, rows rowset.Rows, e rule.Env) (Outcome, error) {
	return t.apply(ctx, p, rows, e, false)
}

// apply is Apply; again: the rows are in sync_quarantine already, and those that no operation takes stay there.
func (t *Tx) apply(ctx context.Context, p *rule.Plan, rows rowset.Rows, e rule.Env, again bool) (Outcome, error) {
	out := Outcome{}
	asked := Upload{Point: e.Point, Plan: p, Rows: rows, Env: e}
	if !again {
		asked.Part = rowset.All // unless the rule appends, a transaction has all parts of a download
	}
	var u *Upload
	err := t.on(func(c *conn) error {
		local, err := t.s.localZone(ctx, c)
		if err != nil {
			return err
		}
		if u, err = asked.prepare(&out, local); err != nil {
			return notFromDB(err)
		}
		if err := c.useZone(ctx, u.zone); err != nil {
			return err
		}
		u.reset()
		r := &runner{ctx: ctx, c: c, s: t.s, files: t.files, again: again}
		return r.uploads([]*Upload{u})
	})
	counted := out
	if again {
		counted.Quarantined = nil
	}
	t.applied = append(t.applied, counted)
	return out, err
}

// UpdateState runs the update_state phase of a plan: a statement that uses the row runs once for each of rows, another
// once.
func (t *Tx) UpdateState(ctx context.Context, p *rule.Plan, rows rowset.Rows, e rule.Env) error {
	if len(p.UpdateState) == 0 {
		return nil
	}
	return t.on(func(c *conn) error {
		z, err := t.s.localZone(ctx, c)
		if err != nil {
			return err
		}
		rows, z = inZone(rows, z)
		if len(rows.Values) > 0 {
			if rows, _, err = fit(rows, p); err != nil {
				return notFromDB(err)
			}
		}
		if err = c.useZone(ctx, z); err == nil {
			err = c.fillTimes(ctx, p, &e)
		}
		if err != nil {
			return err
		}
		r := &runner{ctx: ctx, c: c, s: t.s}
		return r.updateState(p, rows, &e)
	})
}

// Exec runs one statement and returns the rows it matched.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (matched int64, err error) {
	if err := t.usable(); err != nil {
		return 0, err
	}
	res, err := t.sc.ExecContext(ctx, query, args...)
	if err == nil {
		matched, err = res.RowsAffected()
	}
	return matched, t.note(err)
}

// Each runs a query and calls row for each of its rows.
func (t *Tx) Each(ctx context.Context, query string, row func(scan scanner) error, args ...any) error {
	if err := t.usable(); err != nil {
		return err
	}
	return t.note(each(ctx, t.sc, query, row, args))
}

// One scans the last row of a query, which has one or none. sql.ErrNoRows: it has none.
func (t *Tx) One(ctx context.Context, query string, args []any, into ...any) error {
	none := sql.ErrNoRows
	err := t.Each(ctx, query, func(scan scanner) error { none = nil; return scan(into...) }, args...)
	if err == nil {
		err = none
	}
	return err
}

// scanner reads the columns of a row, as sql.Rows.Scan does.
type scanner = func(into ...any) error

// querier is a *sql.DB or a *sql.Conn.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each runs a query and calls row for each of its rows.
func each(ctx context.Context, db querier, query string, row func(scan scanner) error, args []any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return notFromDB(err)
		}
	}
	return rows.Err()
}

func (s *Store) each(ctx context.Context, query string, row func(scan scanner) error, args ...any) error {
	return each(ctx, s.db, query, row, args)
}

// readAll reads every row of a query. fields says where the columns of a row go.
func readAll[T any](ctx context.Context, s *Store, query string, fields func(*T) []any, args ...any) ([]T, error) {
	var all []T
	err := s.each(ctx, query, func(scan scanner) error {
		var row T
		err := scan(fields(&row)...)
		all = append(all, row)
		return err
	}, args...)
	return all, public(err)
}

// Commit ends the transaction and keeps it. After ErrUnavailable it is unknown whether the server kept it: read back
// what it wrote.
func (t *Tx) Commit(ctx context.Context) error {
	err := t.on(func(c *conn) error {
		if err := t.files.publish(ctx, c); err != nil {
			return err
		}
		return c.text(ctx, "COMMIT")
	})
	if err != nil {
		return errors.Join(err, t.Rollback())
	}
	for i := range t.applied {
		t.s.countRows(&t.applied[i])
	}
	return t.end()
}

// Rollback ends the transaction and undoes it. It does nothing when the transaction has ended.
func (t *Tx) Rollback() error {
	if t.sc == nil {
		return nil
	}
	// A connection that cannot roll back is closed, which rolls back too. A closed one returns an error here.
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
