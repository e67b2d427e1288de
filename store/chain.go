package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"
)

// An upload that carries its state is one of a chain: the uploads of one table of one point under one epoch. The
// chain's row in sync_chain has the last of them. It is changed in the transaction that applies the next one, and only
// by the one whose sequence follows. So the row is the ledger of the whole chain, and it says where the point goes on.
//
// The point begins a run of the chain whenever it cannot know what was applied: at its start and after a lost
// connection. The upper half of a sequence is the run, the lower half counts in it. The beginning moves the chain's row
// to the new run, so that what is still on its way from an earlier run can no longer be applied.

// RunBits are the bits of a sequence that count within a run.
const RunBits = 32

// chainsKept are the chains of one table of a point. A point begins a new one when its database was copied.
const chainsKept = 16

// Reached is the last upload that was applied of a chain.
type Reached struct {
	Seq   uint64 // 0: none
	State []byte // nil: none was applied since the chain began
}

// ReusedError is ErrReused for an upload of a chain, and says how far the chain has come.
type ReusedError struct{ Reached }

func (e *ReusedError) Error() string {
	return fmt.Sprintf("%v else, or does not follow sequence %d, the last one", ErrReused, e.Seq)
}
func (e *ReusedError) Unwrap() error { return ErrReused }

// advanceChains moves the chain of each upload from the request before to the upload's own. errDone: not every upload is
// the next one of its chain.
func (c *conn) advanceChains(ctx context.Context, all []*Upload) error {
	const head = "INSERT INTO sync_chain (point_no, epoch, sync_table, seq, hash, reply, state) VALUES "
	const tuple = "(?, ?, '', ?, ?, ?, ?)" // seq changes last, because the other assignments compare it
	const tail = ` ON DUPLICATE KEY UPDATE hash = IF(seq + 1 = VALUES(seq), VALUES(hash), hash),
		reply = IF(seq + 1 = VALUES(seq), VALUES(reply), reply),
		state = IF(seq + 1 = VALUES(seq), VALUES(state), state),
		seq = IF(seq + 1 = VALUES(seq), VALUES(seq), seq)`
	for rest := all; len(rest) > 0; {
		n := chunkSize(len(rest))
		c.args = c.args[:0]
		for _, u := range rest[:n] {
			reply, err := json.Marshal(u.expected())
			if err != nil {
				return notFromDB(err)
			}
			c.args = append(c.args, u.Point, u.Epoch, u.Seq, u.Hash[:], string(reply), u.State)
		}
		matched, err := c.exec(ctx, stmtKey{sql: head, tuples: n}, func() string { return joinTuples(head, tuple, tail, n) })
		if err != nil {
			return err
		}
		if matched != int64(2*n) { // MySQL counts 2 for a changed row, and 1 for a new or an unchanged one
			return errDone
		}
		rest = rest[n:]
	}
	return nil
}

// lookupChain reads the outcome of the last upload of a chain. It is not found when u is the next one. *ReusedError: the
// last one is neither u nor the one before u. It reads under a lock like lookupLedger.
func (c *conn) lookupChain(ctx context.Context, u *Upload, out *Outcome) (found bool, err error) {
	last, known := &ReusedError{}, false
	const q = "SELECT seq, state, hash, reply FROM sync_chain WHERE point_no = ? AND epoch = ? LOCK IN SHARE MODE"
	c.args = append(c.args[:0], u.Point, u.Epoch)
	err = c.scan(ctx, q, func(v []any) error {
		last.Seq, last.State = asUint(v[0]), bytes.Clone(asBytes(v[1]))
		known = last.Seq+1 == u.Seq
		if last.Seq != u.Seq || !bytes.Equal(asBytes(v[2]), u.Hash[:]) {
			return nil
		}
		found = true
		return outcomeOf(v[3], out)
	})
	if err == nil && !found && !known {
		err = last
	}
	return found, err
}

func asBytes(v any) []byte {
	b, _ := v.([]byte)
	return b
}

// beginRun moves a chain to the run that u begins, and returns how far the chain had come. *ReusedError: another
// database of the point has moved it beyond what u knows.
func (s *Store) beginRun(ctx context.Context, u *Upload) (out Outcome) {
	if u.Refused != nil {
		return Outcome{Err: u.Refused}
	}
	err := s.retry(ctx, func(c *conn) error {
		return c.inTx(ctx, func() error {
			out = Outcome{}
			known := false
			const q = "SELECT seq, state FROM sync_chain WHERE point_no = ? AND epoch = ? FOR UPDATE"
			c.args = append(c.args[:0], u.Point, u.Epoch)
			err := c.scan(ctx, q, func(v []any) error {
				known = true
				out.Reached = Reached{asUint(v[0]), bytes.Clone(asBytes(v[1]))}
				return nil
			})
			seq := out.Reached.Seq
			switch {
			case err != nil:
				return err
			case !known:
				return c.newChain(ctx, u)
			case seq > u.After && seq>>RunBits != u.After>>RunBits && seq != u.Seq:
				return &ReusedError{out.Reached}
			}
			const move = "UPDATE sync_chain SET seq = ?, hash = ? WHERE point_no = ? AND epoch = ?"
			c.args = append(c.args[:0], u.Seq, u.Hash[:], u.Point, u.Epoch)
			_, err = c.exec(ctx, stmtKey{sql: move}, func() string { return move })
			return err
		})
	})
	if err != nil {
		return Outcome{Err: err}
	}
	return out
}

// newChain inserts the row of a chain and removes the oldest chain of its table when there are too many.
func (c *conn) newChain(ctx context.Context, u *Upload) error {
	const insert = "INSERT INTO sync_chain (point_no, epoch, sync_table, seq, hash, reply) VALUES (?, ?, ?, ?, ?, '')"
	c.args = append(c.args[:0], u.Point, u.Epoch, u.Table, u.Seq, u.Hash[:])
	_, err := c.exec(ctx, stmtKey{sql: insert}, func() string { return insert })
	if my := (*mysql.MySQLError)(nil); errors.As(err, &my) && my.Number == duplicateKey {
		return notFromDB(ErrRetry) // another connection of the point has begun it
	}
	chains := uint64(0)
	if err == nil {
		const count = "SELECT COUNT(*) FROM sync_chain WHERE point_no = ? AND sync_table = ?"
		c.args = append(c.args[:0], u.Point, u.Table)
		err = c.scan(ctx, count, func(v []any) error { chains = asUint(v[0]); return nil })
	}
	if err == nil && chains > chainsKept {
		const forget = "DELETE FROM sync_chain WHERE point_no = ? AND sync_table = ? ORDER BY updated_at LIMIT 1"
		c.args = append(c.args[:0], u.Point, u.Table)
		_, err = c.exec(ctx, stmtKey{sql: forget}, func() string { return forget })
	}
	return err
}
