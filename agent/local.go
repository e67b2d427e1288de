package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

// A rule's state is what its next page starts from. It is kept under direction and table,
// so that it outlives an edit of the rule, encoded as the request that would carry it:
// the wire already says how a SQL value is written without loss.

// loadState is the state of a rule; none when there is none yet.
func loadState(ctx context.Context, db *store.Store, n ruleName) (state []rowset.StateItem, err error) {
	err = db.InTx(ctx, func(tx *store.Tx) (err error) {
		state, err = stateIn(ctx, tx, n)
		return err
	})
	return state, err
}

func stateIn(ctx context.Context, tx *store.Tx, n ruleName) ([]rowset.StateItem, error) {
	var text []byte
	err := tx.One(ctx, `SELECT state FROM sync_agent_state WHERE rule_key = ?`, []any{n.key()}, &text)
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

// ErrTaken says that another agent works on the same database. Two agents would send the same batches, which the
// server's ledger allows, and would each miscount the outbox.
var ErrTaken = errors.New("agent: another agent works on this database")

// ErrOtherPoint says that the database is another point's. Its outbox and its positions belong to that point's rows.
var ErrOtherPoint = errors.New("agent: this database is another point's")

const (
	lockName  = `CONCAT('syncgate-agent.', MD5(DATABASE()))`
	lockWait  = 10              // seconds; by then the server has noticed that a killed agent is gone
	lockCheck = 5 * time.Second // also keeps the connection of the lock from being closed as idle
)

// errNotOwner means that another agent has taken the lock since this one took it.
var errNotOwner = errors.New("agent: another agent has worked on this database meanwhile")

// agentLock is a lock that one agent of a database can hold. It ends with its connection. Since an agent does not
// notice that at once, each transaction that moves batches checks that no other agent has taken the lock since.
type agentLock struct {
	db      *store.Store
	point   string
	process string        // this one, for a person
	server  string        // that has accepted the point's key
	wait    int           // seconds
	tx      *store.Tx     // nil while the lock is not held
	owner   atomic.Uint64 // what sync_agent_owner has while no other agent has taken the lock
}

// take waits for the lock. ErrTaken: another agent holds it for longer than wait. ErrOtherPoint: an agent of another
// point has worked on the database.
func (l *agentLock) take(ctx context.Context) error {
	tx, err := l.db.Begin(ctx)
	if err != nil {
		return err
	}
	got := 0
	err = tx.One(ctx, `SELECT COALESCE(GET_LOCK(`+lockName+`, ?), 0)`, []any{l.wait}, &got)
	owner := rand.Uint64()
	if err == nil {
		err = l.db.InTx(ctx, func(tx *store.Tx) error {
			var point, process, since string
			err := tx.One(ctx,
				`SELECT point_no, process, CAST(updated_at AS CHAR) FROM sync_agent_owner WHERE id = 1`, nil,
				&point, &process, &since)
			switch {
			case err != nil && !errors.Is(err, sql.ErrNoRows):
				return err
			case got != 1:
				return fmt.Errorf("%w: %s of point %s since %s UTC; stop that one, or give this one a database "+
					"of its own",
					ErrTaken, process, point, since)
			case point != "" && point != l.point:
				return fmt.Errorf("%w: it holds the outbox and the positions of point %s, and the settings are of "+
					"point %s; give the agent the key of %s or another database; when the point was renamed, "+
					"first run: UPDATE sync_agent_owner SET point_no = ''", ErrOtherPoint, point, l.point, point)
			}
			_, err = tx.Exec(ctx, `INSERT INTO sync_agent_owner (id, owner, process) VALUES (1, ?, ?)
				ON DUPLICATE KEY UPDATE owner = VALUES(owner), process = VALUES(process)`, owner, l.process)
			return err
		})
	}
	if err != nil {
		_, _ = tx.Exec(context.WithoutCancel(ctx), `DO RELEASE_LOCK(`+lockName+`)`) // it may not be held
		return errors.Join(err, tx.Rollback())
	}
	l.tx = tx
	l.owner.Store(owner)
	return nil
}

// claim makes the database the point's. It is called when a server has accepted the point's key, so that a wrong name
// in the settings claims nothing.
func (l *agentLock) claim(ctx context.Context, server string) error {
	if l.server == server {
		return nil
	}
	err := l.db.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sync_agent_owner SET point_no = ?, process = ? WHERE id = 1 AND owner = ?`,
			l.point, l.process+" with server "+server, l.owner.Load())
		return err
	})
	if err == nil {
		l.server = server
	}
	return err
}

// check returns errNotOwner when another agent has taken the lock. None can take it between the check and the end of
// tx.
func (l *agentLock) check(ctx context.Context, tx *store.Tx) error {
	owner := uint64(0)
	err := tx.One(ctx, `SELECT owner FROM sync_agent_owner WHERE id = 1 LOCK IN SHARE MODE`, nil, &owner)
	if err == nil && owner != l.owner.Load() {
		err = errNotOwner
	}
	return err
}

// keep uses the connection at intervals and takes the lock again when it was lost with its connection. It returns
// ErrTaken when another agent has taken the lock meanwhile, else when ctx ends.
func (l *agentLock) keep(ctx context.Context) error {
	for pause(ctx, lockCheck) {
		if l.tx != nil {
			if _, err := l.tx.Exec(ctx, `DO 1`); err == nil || ctx.Err() != nil {
				continue
			}
			l.release() // the connection is gone, and the lock with it
		}
		if err := l.take(ctx); errors.Is(err, ErrTaken) {
			return err
		}
	}
	return ctx.Err()
}

// release gives the lock back before its connection returns to the pool.
func (l *agentLock) release() {
	if l.tx == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = l.tx.Exec(ctx, `DO RELEASE_LOCK(`+lockName+`)`) // else the end of the connection does it
	_ = l.tx.Rollback()
	l.tx = nil
}
