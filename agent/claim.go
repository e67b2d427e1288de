package agent

import (
	"context"
	"errors"
	"time"

	"syncgate/store"
)

// ErrTaken says that another agent works on the same database. Two of them would send the
// same batches, which the server's ledger bears, and each would miscount the outbox.
var ErrTaken = errors.New("agent: another agent works on this database")

// claimWait, in seconds, lets an agent that was killed be noticed as gone by the database.
const claimWait = 10

// claimEvery keeps the connection that holds the claim from being closed as idle.
const claimEvery = 30 * time.Second

// claim is the right to work on a database: a lock that ends with its connection.
type claim struct {
	db   *store.Store
	wait int       // seconds
	tx   *store.Tx // nil while the lock is not held
}

const claimName = `CONCAT('syncgate-agent.', MD5(DATABASE()))`

// take waits for the lock for a while. ErrTaken: somebody else has it.
func (c *claim) take(ctx context.Context) error {
	tx, err := c.db.Begin(ctx)
	if err != nil {
		return err
	}
	var got int
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
			_ = c.tx.Rollback() // the connection is gone, and the lock with it
			c.tx = nil
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
