package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"syncgate/protocol"
	"syncgate/store"
)

// What a person at the point can ask, from a process of their own beside the agent.

// Status is how a point stands.
type Status struct {
	Point   string             `json:"point"`
	KeyID   uint32             `json:"key_id"`
	Running bool               `json:"running"`           // an agent works on the database
	Process string             `json:"process,omitempty"` // of the last one, and its server
	Last    *store.PointReport `json:"report,omitempty"`  // its last report
}

// Status reads how the point stands. It does not need the agent lock.
func (a *Agent) Status(ctx context.Context) (*Status, error) {
	s := &Status{Point: a.opts.Point, KeyID: a.opts.KeyID}
	err := a.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		err := tx.One(ctx, `SELECT process FROM sync_agent_owner WHERE id = 1`, nil, &s.Process)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return tx.One(ctx, `SELECT IS_USED_LOCK(`+lockName+`) IS NOT NULL`, nil, &s.Running)
	})
	if err != nil {
		return nil, err
	}
	last, err := a.opts.Store.PointReports(ctx, a.opts.Point)
	if len(last) > 0 {
		s.Last = &last[0]
	}
	return s, err
}

// Check reads the rules as the agent would. A line's Err says what is wrong with a rule or its table here.
func (a *Agent) Check(ctx context.Context) (Report, error) {
	err := a.rules.refresh(ctx)
	return a.Report(), err
}

// Batch is one upload that waits in the outbox.
type Batch struct {
	ID       string    `json:"id"`
	Table    string    `json:"table"`
	Rows     int       `json:"rows"`
	Bytes    int64     `json:"bytes"`
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"` // that the server refused
	Status   string    `json:"status,omitempty"`
	Error    string    `json:"error,omitempty"`
	Remedy   string    `json:"remedy,omitempty"`
}

// Outbox lists the batches of a table, or of all for "", the first ones to leave first.
func (a *Agent) Outbox(ctx context.Context, table string, limit int) (all []Batch, err error) {
	err = a.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.Each(ctx, fmt.Sprintf(`SELECT epoch, seq, sync_table, row_count, LENGTH(payload),
			UNIX_TIMESTAMP(created_at), attempts, COALESCE(last_status, 0), COALESCE(last_error, '') FROM sync_outbox
			WHERE ? IN ('', sync_table) ORDER BY epoch, seq LIMIT %d`, limit), func(scan func(...any) error) error {
			var b Batch
			var epoch, seq uint64
			var since float64
			var status uint16
			err := scan(&epoch, &seq, &b.Table, &b.Rows, &b.Bytes, &since, &b.Attempts, &status, &b.Error)
			b.ID, b.Since = protocol.MakeRequestID(epoch, seq).String(), time.UnixMilli(int64(since*1e3))
			if s := protocol.Status(status); s != 0 {
				b.Status, b.Remedy = s.String()+" "+s.Info().Name, s.Info().Remedy
			}
			all = append(all, b)
			return err
		}, table)
	})
	return all, err
}

// DropBatches deletes a batch by its id, or all of a table. One that is under way may still be applied.
func (a *Agent) DropBatches(ctx context.Context, what string) (n int64, err error) {
	where, args := "sync_table = ?", []any{what}
	var epoch, seq uint64
	if _, err := fmt.Sscanf(strings.Replace(what, "-", " ", 1), "%x %x", &epoch, &seq); err == nil && len(what) == 33 {
		where, args = "epoch = ? AND seq = ?", []any{epoch, seq}
	}
	err = a.opts.Store.InTx(ctx, func(tx *store.Tx) (err error) {
		n, err = tx.Exec(ctx, "DELETE FROM sync_outbox WHERE "+where, args...)
		return err
	})
	return n, errors.Join(err, a.Wake(ctx))
}

const (
	wakeKey   = "agent:wake" // of sync_agent_state
	wakeCheck = 2 * time.Second
)

// Wake asks the agent that works on the database to try every rule now.
func (a *Agent) Wake(ctx context.Context) error {
	return a.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `REPLACE INTO sync_agent_state (rule_key, state) VALUES (?, ?)`, wakeKey,
			time.Now().String())
		return err
	})
}

// watchWake wakes all loops when Wake was called in another process, until ctx ends.
func (a *Agent) watchWake(ctx context.Context) {
	for last := ""; pause(ctx, wakeCheck); {
		now := ""
		err := a.opts.Store.InTx(ctx, func(tx *store.Tx) error {
			return tx.One(ctx, `SELECT COALESCE(MAX(state), '-') FROM sync_agent_state WHERE rule_key = ?`,
				[]any{wakeKey}, &now)
		})
		if err == nil && last != "" && now != last {
			if err = a.outbox.recount(ctx); err == nil { // a person may have dropped batches
				a.wake.raise()
				a.rules.changed.raise()
			}
		}
		if err == nil { // else it is tried again
			last = now
		}
	}
}

// Sync is Once for one table. When an agent works on the database already, Sync asks that one, and asked is true.
func (a *Agent) Sync(ctx context.Context, table string) (r Report, asked bool, err error) {
	if err := a.rules.refresh(ctx); err != nil {
		return nil, false, err
	}
	s, err := a.Status(ctx)
	if err != nil || s.Running {
		return nil, true, errors.Join(err, a.Wake(ctx))
	}
	a.only = table
	r, err = a.Once(ctx)
	return slices.DeleteFunc(r, func(l Line) bool { return !strings.EqualFold(l.Table, table) }), false, err
}
