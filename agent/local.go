package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

// inTx runs do in one transaction of the local database.
func inTx(ctx context.Context, db *store.Store, do func(*store.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit(ctx)
}

// each runs a query within tx and scans every row of it into the same places; then is
// called after each.
func each(ctx context.Context, tx *store.Tx, query string, args, into []any, then func()) error {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		then()
	}
	return rows.Err()
}

// one reads the only row of a query within tx. sql.ErrNoRows: there is none.
func one(ctx context.Context, tx *store.Tx, query string, args []any, into ...any) error {
	found := false
	err := each(ctx, tx, query, args, into, func() { found = true })
	if err == nil && !found {
		err = sql.ErrNoRows
	}
	return err
}

// A rule's state is what its next page starts from. It is kept under direction and table,
// so that it outlives an edit of the rule, encoded as the request that would carry it:
// the wire already says how a SQL value is written without loss.

// loadState is the state of a rule; none when there is none yet.
func loadState(ctx context.Context, db *store.Store, n ruleName) ([]rowset.StateItem, error) {
	var text []byte
	err := inTx(ctx, db, func(tx *store.Tx) error {
		return one(ctx, tx, `SELECT state FROM sync_agent_state WHERE rule_key = ?`, []any{n.key()}, &text)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	m := protocol.Message{Op: protocol.OpDownload, Payload: text}
	request, err := m.DownloadRequest()
	if err != nil {
		return nil, fmt.Errorf("sync_agent_state of %s: %w", n.key(), err)
	}
	return request.State, nil
}

// saveState replaces the state of a rule within tx.
func saveState(ctx context.Context, tx *store.Tx, n ruleName, state []rowset.StateItem) error {
	text, err := protocol.AppendPayload(nil, &protocol.DownloadRequest{Table: n.table, State: state})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `REPLACE INTO sync_agent_state (rule_key, state) VALUES (?, ?)`, n.key(), text)
	return err
}

// ErrTaken says that another agent works on the same database. Two of them would send the
// same batches, which the server's ledger bears, and each would miscount the outbox.
var ErrTaken = errors.New("agent: another agent works on this database")

const (
	claimName  = `CONCAT('syncgate-agent.', MD5(DATABASE()))`
	claimWait  = 10               // seconds; a killed agent is noticed as gone by then
	claimEvery = 30 * time.Second // keeps the connection that holds the claim from being closed as idle
)

// claim is the right to work on a database: a lock that ends with its connection.
type claim struct {
	db   *store.Store
	wait int       // seconds
	tx   *store.Tx // nil while the lock is not held
}

// take waits for the lock for a while. ErrTaken: somebody else has it.
func (c *claim) take(ctx context.Context) error {
	tx, err := c.db.Begin(ctx)
	if err != nil {
		return err
	}
	got := 0
	err = one(ctx, tx, `SELECT COALESCE(GET_LOCK(`+claimName+`, ?), 0)`, []any{c.wait}, &got)
	if err == nil && got != 1 {
		err = ErrTaken
	}
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	c.tx = tx
	return nil
}

// keep uses the connection now and then, and takes the lock again when it was lost with
// its connection. It returns ErrTaken when somebody else was quicker, else when ctx ends.
func (c *claim) keep(ctx context.Context) error {
	for pause(ctx, claimEvery, nil, nil) {
		if c.tx != nil {
			if _, err := c.tx.Exec(ctx, `DO 1`); err == nil || ctx.Err() != nil {
				continue
			}
			c.release() // the connection is gone, and the lock with it
		}
		if err := c.take(ctx); errors.Is(err, ErrTaken) {
			return err
		}
	}
	return ctx.Err()
}

// release gives the lock back before its connection goes on to serve others.
func (c *claim) release() {
	if c.tx == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = c.tx.Exec(ctx, `DO RELEASE_LOCK(`+claimName+`)`) // else the end of the connection does it
	_ = c.tx.Rollback()
	c.tx = nil
}
