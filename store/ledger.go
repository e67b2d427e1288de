package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// errDone means that the ledger has the request already.
var errDone = notFromDBError{errors.New("store: the request is in the ledger")}

const duplicateKey = 1062

func compareIDs(a, b *Upload) int {
	return cmp.Or(strings.Compare(a.Point, b.Point), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Seq, b.Seq))
}

// insertLedger inserts the ledger rows of the uploads in as few statements as possible and then reads the floors.
//
// The order matters. A purge raises the floor, commits, and deletes below the floor afterwards. When an insert meets no
// row of its key, its request has never run, or it was purged. In the second case its floor was committed before, and
// the SELECT after the insert reads it.
//
// When the same request runs on two connections, the second insert waits for the first transaction. When that commits,
// the second insert is a duplicate key. When it rolls back, the second insert succeeds.
//
// The uploads of a stream have another ledger, see advanceStreams.
func (c *conn) insertLedger(ctx context.Context, all []*Upload) error {
	if slices.ContainsFunc(all, (*Upload).streamed) {
		var plain, streams []*Upload
		for _, u := range all {
			if u.streamed() {
				streams = append(streams, u)
			} else {
				plain = append(plain, u)
			}
		}
		if err := c.advanceStreams(ctx, streams); err != nil || len(plain) == 0 {
			return err
		}
		all = plain
	}
	const head, tuple = "INSERT INTO sync_request (point_no, epoch, seq, hash, reply) VALUES ", "(?, ?, ?, ?, ?)"
	for rest := all; len(rest) > 0; {
		n := chunkSize(len(rest))
		c.args = c.args[:0]
		for _, u := range rest[:n] {
			reply, err := json.Marshal(u.expected())
			if err != nil {
				return notFromDB(err)
			}
			c.args = append(c.args, u.Point, u.Epoch, u.Seq, u.Hash[:], string(reply))
		}
		_, err := c.exec(ctx, stmtKey{sql: head, tuples: n}, func() string { return joinTuples(head, tuple, "", n) })
		var my *mysql.MySQLError
		if errors.As(err, &my) && my.Number == duplicateKey {
			return errDone
		}
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return c.aboveFloor(ctx, all)
}

// aboveFloor is ErrReused when one of the requests was confirmed and purged.
func (c *conn) aboveFloor(ctx context.Context, all []*Upload) error {
	lowest := map[outboxID]uint64{}
	var points []any
	for _, u := range all {
		if u.Epoch >= unconfirmedEpochs {
			continue
		}
		key := outboxID{u.Point, u.Epoch}
		if seq, ok := lowest[key]; !ok || u.Seq < seq {
			lowest[key] = u.Seq
		}
		if !slices.Contains(points, any(u.Point)) {
			points = append(points, u.Point)
		}
	}
	for len(points) > 0 {
		n := min(len(points), chunkUp(len(points)))
		marks := chunkUp(n)
		c.args = append(c.args[:0], points[:n]...)
		for len(c.args) < marks {
			c.args = append(c.args, points[0]) // repeated, so that there are few different statements
		}
		points = points[n:]
		q := "SELECT point_no, epoch, confirmed FROM sync_request_floor WHERE point_no IN (?" +
			strings.Repeat(", ?", marks-1) + ")"
		err := c.scan(ctx, q, func(v []any) error {
			epoch, confirmed := asUint(v[1]), asUint(v[2])
			if seq, ok := lowest[outboxID{v[0].(string), epoch}]; ok && seq <= confirmed {
				return fmt.Errorf("%w: sequence %d of epoch %d was confirmed", ErrReused, seq, epoch)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// scan runs a query of few rows with c.args bound and reads it to its end.
func (c *conn) scan(ctx context.Context, q string, row func(v []any) error) error {
	rows, err := c.query(ctx, q)
	if err != nil {
		return err
	}
	cols := columnsOf(rows)
	dest, values := make([]driver.Value, len(cols)), make([]any, len(cols))
	var failed error
	var texts arena
	for {
		err := rows.Next(dest)
		if errors.Is(err, io.EOF) {
			return errors.Join(failed, rows.Close())
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
		if failed == nil {
			texts.convertRow(values, dest, cols)
			failed = row(values)
		}
	}
}

func asUint(v any) uint64 {
	if n, ok := v.(int64); ok {
		return uint64(n)
	}
	n, _ := v.(uint64)
	return n
}

// updateReply writes the reply when it is not the one that the ledger row was inserted with.
func (c *conn) updateReply(ctx context.Context, u *Upload) error {
	want := u.expected()
	if u.out.Applied == want.Applied && maps.Equal(u.out.ByOp, want.ByOp) && len(u.out.Quarantined) == 0 {
		return nil
	}
	reply, err := json.Marshal(u.out)
	if err != nil {
		return notFromDB(err)
	}
	q := "UPDATE sync_request SET reply = ? WHERE point_no = ? AND epoch = ? AND seq = ?"
	if u.streamed() {
		q = "UPDATE sync_stream SET reply = ? WHERE point_no = ? AND epoch = ? AND seq = ?"
	}
	c.args = append(c.args[:0], string(reply), u.Point, u.Epoch, u.Seq)
	_, err = c.exec(ctx, stmtKey{sql: q}, func() string { return q })
	return err
}

// lookupLedger reads the outcome of a request that the ledger has. ErrReused: its number belongs to another request. It
// reads under a lock, because a snapshot may lack a row whose duplicate key the insert has just met.
func (c *conn) lookupLedger(ctx context.Context, u *Upload, out *Outcome) (found bool, err error) {
	if u.streamed() {
		return c.lookupStream(ctx, u, out)
	}
	const q = "SELECT hash, reply FROM sync_request WHERE point_no = ? AND epoch = ? AND seq = ? LOCK IN SHARE MODE"
	c.args = append(c.args[:0], u.Point, u.Epoch, u.Seq)
	err = c.scan(ctx, q, func(v []any) error {
		found = true
		if hash, ok := v[0].([]byte); !ok || !bytes.Equal(hash, u.Hash[:]) {
			return fmt.Errorf("%w: sequence %d of epoch %d had other content", ErrReused, u.Seq, u.Epoch)
		}
		return outcomeOf(v[1], out)
	})
	return found, err
}

// outcomeOf reads an outcome as the ledger has it.
func outcomeOf(reply any, out *Outcome) error {
	*out = Outcome{ByOp: map[string]uint64{}, Duplicate: true}
	if err := json.Unmarshal([]byte(reply.(string)), out); err != nil {
		return notFromDB(fmt.Errorf("store: the ledger's reply: %w", err))
	}
	return nil
}
