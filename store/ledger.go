package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"syncgate/rule"
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
	_, err := c.each(ctx, rule.InsertParts{Head: head, Tuple: tuple}, len(all), chunkMarks, func(i int) error {
		u := all[i]
		reply, err := json.Marshal(u.expected())
		c.args = append(c.args, u.Point, u.Epoch, u.Seq, u.Hash[:], string(reply))
		return notFromDB(err)
	})
	switch {
	case isNumber(err, duplicateKey):
		return errDone
	case err != nil:
		return err
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
	return inLists(points, func(list string, values []any) error {
		const q = "SELECT point_no, epoch, confirmed FROM sync_request_floor WHERE point_no IN "
		return c.ask(ctx, q+list, func(v []any) error {
			epoch, confirmed := asUint(v[1]), asUint(v[2])
			if seq, ok := lowest[outboxID{v[0].(string), epoch}]; ok && seq <= confirmed {
				return fmt.Errorf("%w: sequence %d of epoch %d was confirmed", ErrReused, seq, epoch)
			}
			return nil
		}, values...)
	})
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
	_, err = c.do(ctx, q, string(reply), u.Point, u.Epoch, u.Seq)
	return err
}

// lookupLedger reads the outcome of a request that the ledger has. ErrReused: its number belongs to another request. It
// reads under a lock, because a snapshot may lack a row whose duplicate key the insert has just met.
func (c *conn) lookupLedger(ctx context.Context, u *Upload, out *Outcome) (found bool, err error) {
	if u.streamed() {
		return c.lookupStream(ctx, u, out)
	}
	const q = "SELECT hash, reply FROM sync_request WHERE point_no = ? AND epoch = ? AND seq = ? LOCK IN SHARE MODE"
	err = c.ask(ctx, q, func(v []any) error {
		found = true
		if hash, ok := v[0].([]byte); !ok || !bytes.Equal(hash, u.Hash[:]) {
			return fmt.Errorf("%w: sequence %d of epoch %d had other content", ErrReused, u.Seq, u.Epoch)
		}
		return outcomeOf(v[1], out)
	}, u.Point, u.Epoch, u.Seq)
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
	insert := rule.InsertParts{Head: head, Tuple: tuple, Tail: tail}
	matched, err := c.each(ctx, insert, len(all), chunkMarks, func(i int) error {
		u := all[i]
		reply, err := json.Marshal(u.expected())
		c.args = append(c.args, u.Point, u.Epoch, u.Seq, u.Hash[:], string(reply), u.State)
		return notFromDB(err)
	})
	// MySQL counts 2 for a changed row, and 1 for a new or an unchanged one.
	if err == nil && matched != int64(2*len(all)) {
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
