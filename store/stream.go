package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"syncgate/rule"
)

// An upload that carries its state is one of a stream: the uploads of one table of one point under one epoch. The
// stream's row in sync_stream has the last of them. It is changed in the transaction that applies the next one, and
// only by the one whose sequence follows. So the row is the ledger of the whole stream, and it says where the point
// goes on.
//
// The point begins a generation of the stream whenever it cannot know what was applied: at its start and after a lost
// connection. The upper half of a sequence is the generation, the lower half counts in it. The beginning moves the
// stream's row to the new generation, so that what is still on its way from an earlier generation can no longer be
// applied.

// GenerationBits are the bits of a sequence that count within a generation.
const GenerationBits = 32

// streamsKept are the streams of one table of a point. A point begins a new one when its database was copied.
const streamsKept = 16

// Reached is the last upload that was applied of a stream.
type Reached struct {
	Seq   uint64 // 0: none
	State []byte // nil: none was applied since the stream began
}

// ReusedError is ErrReused for an upload of a stream, and says how far the stream has come.
type ReusedError struct{ Reached }

func (e *ReusedError) Error() string {
	return fmt.Sprintf("%v else, or does not follow sequence %d, the last one", ErrReused, e.Seq)
}
func (e *ReusedError) Unwrap() error { return ErrReused }

// advanceStreams moves the stream of each upload from the request before to the upload's own. errDone: not every upload
// is the next one of its stream.
func (c *conn) advanceStreams(ctx context.Context, all []*Upload) error {
	const head = "INSERT INTO sync_stream (point_no, epoch, sync_table, seq, hash, reply, state) VALUES "
	const tuple = "(?, ?, '', ?, ?, ?, ?)" // seq changes last, because the other assignments compare it
	const tail = ` ON DUPLICATE KEY UPDATE hash = IF(seq + 1 = VALUES(seq), VALUES(hash), hash),
		reply = IF(seq + 1 = VALUES(seq), VALUES(reply), reply),
		state = IF(seq + 1 = VALUES(seq), VALUES(state), state),
		seq = IF(seq + 1 = VALUES(seq), VALUES(seq), seq)`
	matched, err := c.each(ctx, rule.InsertParts{Head: head, Tuple: tuple, Tail: tail}, len(all), chunkMarks, func(i int) error {
		u := all[i]
		reply, err := json.Marshal(u.expected())
		c.args = append(c.args, u.Point, u.Epoch, u.Seq, u.Hash[:], string(reply), u.State)
		return notFromDB(err)
	})
	if err == nil && matched != int64(2*len(all)) { // MySQL counts 2 for a changed row, and 1 for a new or an unchanged one
		return errDone
	}
	return err
}

// lookupStream reads the outcome of the last upload of a stream. It is not found when u is the next one. *ReusedError:
// the last one is neither u nor the one before u. It reads under a lock like lookupLedger.
func (c *conn) lookupStream(ctx context.Context, u *Upload, out *Outcome) (found bool, err error) {
	last, known := &ReusedError{}, false
	const q = "SELECT seq, state, hash, reply FROM sync_stream WHERE point_no = ? AND epoch = ? LOCK IN SHARE MODE"
	err = c.ask(ctx, q, func(v []any) error {
		last.Seq, last.State = asUint(v[0]), bytes.Clone(asBytes(v[1]))
		known = last.Seq+1 == u.Seq
		if last.Seq != u.Seq || !bytes.Equal(asBytes(v[2]), u.Hash[:]) {
			return nil
		}
		found = true
		return outcomeOf(v[3], out)
	}, u.Point, u.Epoch)
	if err == nil && !found && !known {
		err = last
	}
	return found, err
}

func asBytes(v any) []byte {
	b, _ := v.([]byte)
	return b
}

// beginGeneration moves a stream to the generation that u begins, and returns how far the stream had come.
// *ReusedError: another database of the point has moved it beyond what u knows.
func (s *Store) beginGeneration(ctx context.Context, u *Upload) (out Outcome) {
	if u.Refused != nil {
		return Outcome{Err: u.Refused}
	}
	err := s.retry(ctx, func(c *conn) error {
		return c.inTx(ctx, func() error {
			out = Outcome{}
			known := false
			const q = "SELECT seq, state FROM sync_stream WHERE point_no = ? AND epoch = ? FOR UPDATE"
			err := c.ask(ctx, q, func(v []any) error {
				known = true
				out.Reached = Reached{asUint(v[0]), bytes.Clone(asBytes(v[1]))}
				return nil
			}, u.Point, u.Epoch)
			seq := out.Reached.Seq
			switch {
			case err != nil:
				return err
			case !known:
				return c.newStream(ctx, u)
			case seq > u.After && seq>>GenerationBits != u.After>>GenerationBits && seq != u.Seq:
				return &ReusedError{out.Reached}
			}
			const move = "UPDATE sync_stream SET seq = ?, hash = ? WHERE point_no = ? AND epoch = ?"
			_, err = c.do(ctx, move, u.Seq, u.Hash[:], u.Point, u.Epoch)
			return err
		})
	})
	if err != nil {
		return Outcome{Err: err}
	}
	return out
}

// newStream inserts the row of a stream and removes the oldest stream of its table when there are too many.
func (c *conn) newStream(ctx context.Context, u *Upload) error {
	const insert = "INSERT INTO sync_stream (point_no, epoch, sync_table, seq, hash, reply) VALUES (?, ?, ?, ?, ?, '')"
	_, err := c.do(ctx, insert, u.Point, u.Epoch, u.Table, u.Seq, u.Hash[:])
	if isNumber(err, duplicateKey) {
		return notFromDB(ErrRetry) // another connection of the point has begun it
	}
	streams := uint64(0)
	if err == nil {
		const count = "SELECT COUNT(*) FROM sync_stream WHERE point_no = ? AND sync_table = ?"
		err = c.ask(ctx, count, func(v []any) error { streams = asUint(v[0]); return nil }, u.Point, u.Table)
	}
	if err == nil && streams > streamsKept {
		const forget = "DELETE FROM sync_stream WHERE point_no = ? AND sync_table = ? ORDER BY updated_at LIMIT 1"
		_, err = c.do(ctx, forget, u.Point, u.Table)
	}
	return err
}
