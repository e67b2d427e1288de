package agent

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// batch is one upload as it waits in sync_outbox.
type batch struct {
	request   protocol.RequestID // (epoch, sequence); its order is the order of sending
	confirmed uint64             // every sequence of the epoch up to it is acknowledged
	table     string
	rows      int
	payload   []byte // an encoded UploadRequest that confirms nothing
}

// packed is a batch before it has a number.
type packed struct {
	rows    int
	payload []byte
}

// outbox is sync_outbox with what is worth knowing of it without asking the database.
type outbox struct {
	db     *store.Store
	random io.Reader

	maxBatches int
	maxBytes   int64

	mu       sync.Mutex
	batches  int
	bytes    int64
	byTable  map[string]int
	left     map[string]bool   // by a lane that has given up
	wake     map[string]signal // a table's lane waits for batches
	freed    chan struct{}     // closed and replaced when a batch, or a lane, is gone
	newTable signal            // a table without a lane has batches
}

// openOutbox counts what is there and makes the epoch if there is none.
func openOutbox(ctx context.Context, o *Options) (*outbox, error) {
	b := &outbox{
		db: o.Store, random: o.Rand, maxBatches: o.OutboxBatches, maxBytes: o.OutboxBytes,
		byTable: make(map[string]int), left: make(map[string]bool), wake: make(map[string]signal), freed: make(chan struct{}), newTable: newSignal(),
	}
	epoch, err := newEpoch(o.Rand)
	if err != nil {
		return nil, err
	}
	epoch = epoch>>1 + 1 // room for greater ones
	return b, inTx(ctx, b.db, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT IGNORE INTO sync_agent_epoch (id, epoch, next_seq) VALUES (1, ?, 1)`, epoch)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT sync_table, COUNT(*), CAST(SUM(LENGTH(payload)) AS SIGNED) FROM sync_outbox GROUP BY sync_table`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var table string
			var n int
			var size int64
			if err := rows.Scan(&table, &n, &size); err != nil {
				return err
			}
			b.batches, b.bytes, b.byTable[table] = b.batches+n, b.bytes+size, n
		}
		return rows.Err()
	})
}

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

// add numbers the batches and writes them; stored must be called once tx is committed.
func (b *outbox) add(ctx context.Context, tx *store.Tx, of *rule.Row, batches []packed) error {
	epoch, seq, err := b.reserve(ctx, tx, uint64(len(batches)))
	if err != nil {
		return err
	}
	for i, p := range batches {
		_, err := tx.Exec(ctx, `INSERT INTO sync_outbox (epoch, seq, rule_id, sync_table, row_count, payload) VALUES (?, ?, ?, ?, ?, ?)`,
			epoch, seq+uint64(i), of.ID, of.Table, p.rows, p.payload)
		if err != nil {
			return err
		}
	}
	return nil
}

// reserve takes n consecutive sequence numbers of the epoch in force.
func (b *outbox) reserve(ctx context.Context, tx *store.Tx, n uint64) (epoch, first uint64, err error) {
	rows, err := tx.Query(ctx, `SELECT epoch, next_seq FROM sync_agent_epoch WHERE id = 1 FOR UPDATE`)
	if err != nil {
		return 0, 0, err
	}
	if err := one(rows, &epoch, &first); err != nil {
		return 0, 0, err
	}
	_, err = tx.Exec(ctx, `UPDATE sync_agent_epoch SET next_seq = next_seq + ? WHERE id = 1`, n)
	return epoch, first, err
}

// stored counts batches that are now committed and wakes their lane.
func (b *outbox) stored(table string, batches []packed) {
	b.mu.Lock()
	b.batches += len(batches)
	b.byTable[table] += len(batches)
	for _, p := range batches {
		b.bytes += int64(len(p.payload))
	}
	wake, ok := b.wake[table]
	b.mu.Unlock()
	if ok {
		wake.raise()
	} else {
		b.newTable.raise()
	}
}

// removed counts one batch that is no longer there.
func (b *outbox) removed(x *batch) {
	b.mu.Lock()
	b.batches--
	b.bytes -= int64(len(x.payload))
	b.byTable[x.table]--
	b.tell()
	b.mu.Unlock()
}

// leave says that the lane of a table sends no more.
func (b *outbox) leave(table string) {
	b.mu.Lock()
	b.left[table] = true
	b.tell()
	b.mu.Unlock()
}

// stuck says that batches wait and there is no lane that could make room.
func (b *outbox) stuck() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for table, n := range b.byTable {
		if n > 0 && !b.left[table] {
			return false
		}
	}
	return b.batches > 0
}

// tell wakes who waits on room; b.mu is held.
func (b *outbox) tell() {
	close(b.freed)
	b.freed = make(chan struct{})
}

// room is closed when the next batch is gone: there may be room, or a table be empty.
func (b *outbox) room() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.freed
}

// next is the first batch of a table after the given one, nil when there is none.
func (b *outbox) next(ctx context.Context, table string, after protocol.RequestID) (*batch, error) {
	x := &batch{table: table}
	var epoch, seq uint64
	found := false
	err := inTx(ctx, b.db, func(tx *store.Tx) error {
		rows, err := tx.Query(ctx, `SELECT o.epoch, o.seq, o.row_count, o.payload,
			(SELECT MIN(m.seq) FROM sync_outbox m WHERE m.epoch = o.epoch) - 1
			FROM sync_outbox o WHERE o.sync_table = ? AND (o.epoch > ? OR o.epoch = ? AND o.seq > ?)
			ORDER BY o.epoch, o.seq LIMIT 1`, table, after.Epoch(), after.Epoch(), after.Seq())
		if err != nil {
			return err
		}
		defer rows.Close()
		if found = rows.Next(); found {
			err = rows.Scan(&epoch, &seq, &x.rows, &x.payload, &x.confirmed)
		}
		return errors.Join(err, rows.Err())
	})
	if err != nil || !found {
		return nil, err
	}
	x.request = protocol.MakeRequestID(epoch, seq)
	return x, nil
}

// remove deletes an acknowledged batch within tx; removed must follow the commit.
func (b *outbox) remove(ctx context.Context, tx *store.Tx, x *batch) error {
	_, err := tx.Exec(ctx, `DELETE FROM sync_outbox WHERE epoch = ? AND seq = ?`, x.request.Epoch(), x.request.Seq())
	return err
}

// refused notes in the batch's row why the server would not take it.
func (b *outbox) refused(ctx context.Context, x *batch, r *Refusal) error {
	return inTx(ctx, b.db, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sync_outbox SET attempts = attempts + 1, last_status = ?, last_error = ? WHERE epoch = ? AND seq = ?`,
			uint16(r.Status), r.Message, x.request.Epoch(), x.request.Seq())
		return err
	})
}

// renumber gives x, whose number the server has seen with other rows, and all later
// batches of its table the next numbers of a new epoch, or of the epoch in force when
// another table has begun that already. A table has one batch in flight, so none of the
// later ones is at the server under its old number. Epochs grow, so the order stays.
func (b *outbox) renumber(ctx context.Context, x *batch) error {
	step, err := newEpoch(b.random)
	if err != nil {
		return err
	}
	var fresh protocol.RequestID
	err = inTx(ctx, b.db, func(tx *store.Tx) error {
		// From here on nothing is added: what is listed below stays all there is.
		if _, _, err := b.reserve(ctx, tx, 0); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE sync_agent_epoch SET epoch = epoch + ?, next_seq = 1, created_at = CURRENT_TIMESTAMP(6) WHERE id = 1 AND epoch = ?`,
			step%maxEpochStep+1, x.request.Epoch())
		if err != nil {
			return err
		}
		old, err := from(ctx, tx, x)
		if err != nil {
			return err
		}
		epoch, first, err := b.reserve(ctx, tx, uint64(len(old)))
		if err != nil {
			return err
		}
		for i, id := range old {
			if _, err := tx.Exec(ctx, `UPDATE sync_outbox SET epoch = ?, seq = ? WHERE epoch = ? AND seq = ?`,
				epoch, first+uint64(i), id.Epoch(), id.Seq()); err != nil {
				return err
			}
		}
		fresh = protocol.MakeRequestID(epoch, first)
		return nil
	})
	if err != nil {
		return fmt.Errorf("new epoch for the outbox: %w", err)
	}
	x.request, x.confirmed = fresh, 0
	return nil
}

// from lists the numbers of x and the later batches of its table.
func from(ctx context.Context, tx *store.Tx, x *batch) (ids []protocol.RequestID, err error) {
	epoch, seq := x.request.Epoch(), x.request.Seq()
	rows, err := tx.Query(ctx, `SELECT epoch, seq FROM sync_outbox
		WHERE sync_table = ? AND (epoch > ? OR epoch = ? AND seq >= ?) ORDER BY epoch, seq`, x.table, epoch, epoch, seq)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&epoch, &seq); err != nil {
			return nil, err
		}
		ids = append(ids, protocol.MakeRequestID(epoch, seq))
	}
	return ids, rows.Err()
}

// maxEpochStep bounds how far a new epoch is from the old: far enough to be new wherever
// another copy of this database went on, near enough that 2^64 is never reached.
const maxEpochStep = 1 << 40

// one scans the only row of a result and closes it.
func one(rows *sql.Rows, into ...any) error {
	defer rows.Close()
	if !rows.Next() {
		return errors.Join(sql.ErrNoRows, rows.Err())
	}
	return errors.Join(rows.Scan(into...), rows.Close())
}

// full says whether collecting has to pause.
func (b *outbox) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.batches >= b.maxBatches || b.bytes >= b.maxBytes
}

// depth is the number of batches and bytes that wait.
func (b *outbox) depth() (batches int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.batches, b.bytes
}

// waiting is the number of batches of a table.
func (b *outbox) waiting(table string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.byTable[table]
}

// tables lists the tables with batches.
func (b *outbox) tables() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name, n := range b.byTable {
		if n > 0 {
			names = append(names, name)
		}
	}
	return names
}

// lane returns the signal that is raised when a table has new batches.
func (b *outbox) lane(table string) signal {
	b.mu.Lock()
	defer b.mu.Unlock()
	wake, ok := b.wake[table]
	if !ok {
		wake = newSignal()
		b.wake[table] = wake
	}
	return wake
}

// newEpoch is a random number other than 0, which is the epoch of what the server asks.
func newEpoch(random io.Reader) (uint64, error) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return 0, fmt.Errorf("random epoch: %w", err)
		}
		if e := binary.BigEndian.Uint64(b[:]); e != 0 {
			return e, nil
		}
	}
}
