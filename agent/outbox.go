package agent

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rs/zerolog"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// batch is one upload in sync_outbox.
type batch struct {
	request   protocol.RequestID // (epoch, sequence), set by add; batches are sent in this order
	confirmed uint64             // every sequence of the epoch up to this one is acknowledged
	table     string
	rows      int
	payload   []byte                // an encoded UploadRequest that confirms nothing
	reply     *protocol.UploadReply // the acknowledgement; nil also for a batch that is too large for any server
}

// outbox is the table sync_outbox with its fill level.
type outbox struct {
	opts     *Options
	lock     *agentLock
	leftover []string      // tables that had batches at the start
	reading  chan struct{} // holds a token for each page that is read

	mu      sync.Mutex
	batches int
	bytes   int64
	waiting map[string]waiting // by table
	full    bool               // as last logged
}

// waiting is what of one table is in the outbox.
type waiting struct{ rows, bytes int64 }

// maxReading bounds the pages that are read at once, and with them their memory. It leaves room for tables that others
// have locked: such a read takes seconds until the database gives it up.
const maxReading = 4

// newEpoch is random: not 0, the epoch of the server's own requests, and small enough for greater ones.
func (o *Options) newEpoch() (epoch uint64, err error) {
	err = binary.Read(o.Rand, binary.BigEndian, &epoch)
	return epoch>>2 + 1, err
}

// open counts the batches and makes the epoch when there is none.
func (b *outbox) open(ctx context.Context) error {
	epoch, err := b.opts.newEpoch()
	if err != nil {
		return err
	}
	err = b.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT IGNORE INTO sync_agent_epoch (id, epoch, next_seq) VALUES (1, ?, 1)`, epoch)
		return err
	})
	if err == nil {
		err = b.recount(ctx)
	}
	b.leftover = slices.Collect(maps.Keys(b.waiting))
	return err
}

// recount counts what is in the table. After an error the former count stays.
func (b *outbox) recount(ctx context.Context) error {
	var found outbox
	err := b.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.Each(ctx, `SELECT sync_table, COUNT(*), CAST(SUM(row_count) AS SIGNED),
			CAST(SUM(LENGTH(payload)) AS SIGNED)
			FROM sync_outbox GROUP BY sync_table`, func(scan func(...any) error) error {
			var table string
			var batches int
			var w waiting
			err := scan(&table, &batches, &w.rows, &w.bytes)
			found.count(table, batches, w.rows, w.bytes)
			return err
		})
	})
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.batches, b.bytes, b.waiting = found.batches, found.bytes, found.waiting
	}
	return err
}

// add numbers the batches and writes them within tx. The caller counts them after the commit.
func (b *outbox) add(ctx context.Context, tx *store.Tx, of *rule.Row, batches []batch) error {
	epoch, seq, err := reserve(ctx, tx, int64(len(batches)))
	if err != nil {
		return err
	}
	for i, x := range batches {
		_, err := tx.Exec(ctx, `INSERT INTO sync_outbox (epoch, seq, rule_id, sync_table, row_count, payload)
			VALUES (?, ?, ?, ?, ?, ?)`,
			epoch, seq+uint64(i), of.ID, of.Table, x.rows, x.payload)
		if err != nil {
			return err
		}
	}
	return nil
}

// reserve takes the next n numbers, and keeps others from taking any until tx ends.
func reserve(ctx context.Context, tx *store.Tx, n int64) (epoch, first uint64, err error) {
	err = tx.One(ctx, `SELECT epoch, next_seq FROM sync_agent_epoch WHERE id = 1 FOR UPDATE`, nil, &epoch, &first)
	if err == nil {
		_, err = tx.Exec(ctx, `UPDATE sync_agent_epoch SET next_seq = next_seq + ? WHERE id = 1`, n)
	}
	return epoch, first, err
}

// next returns the first batch of a table after the given one, or nil.
func (b *outbox) next(ctx context.Context, table string, after protocol.RequestID) (*batch, error) {
	x := &batch{table: table}
	var epoch, seq uint64
	err := b.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.One(ctx, `SELECT o.epoch, o.seq, o.row_count, o.payload,
			(SELECT MIN(m.seq) FROM sync_outbox m WHERE m.epoch = o.epoch) - 1
			FROM sync_outbox o WHERE o.sync_table = ? AND (o.epoch > ? OR o.epoch = ? AND o.seq > ?)
			ORDER BY o.epoch, o.seq LIMIT 1`, []any{table, after.Epoch(), after.Epoch(), after.Seq()},
			&epoch, &seq, &x.rows, &x.payload, &x.confirmed)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	x.request = protocol.MakeRequestID(epoch, seq)
	return x, err
}

// refused writes the server's refusal into the batch's row.
func (b *outbox) refused(ctx context.Context, x *batch, r *Refusal) error {
	return b.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sync_outbox SET attempts = attempts + 1, last_status = ?, last_error = ?
			WHERE epoch = ? AND seq = ?`,
			uint16(r.Code), r.Message, x.request.Epoch(), x.request.Seq())
		return err
	})
}

// maxEpochStep bounds the step from one epoch to the next. The step is random, so that two copies of a database get
// different epochs, and small enough never to reach 2^64.
const maxEpochStep = 1 << 40

// errBatchGone means that a batch was removed from the outbox while it was under way.
var errBatchGone = errors.New("the batch is no longer in sync_outbox")

// renumber gives x and all later batches of its table the next numbers of a new epoch, because the server has seen x's
// number with other rows. When another table has begun a new epoch already, renumber uses that one. A table has one
// batch in flight, so no later batch is at the server under its old number. Epochs grow, so the order stays.
func (b *outbox) renumber(ctx context.Context, x *batch) error {
	var step, epoch, first uint64
	if err := binary.Read(b.opts.Rand, binary.BigEndian, &step); err != nil {
		return err
	}
	err := b.opts.Store.InTx(ctx, func(tx *store.Tx) (err error) {
		if epoch, first, err = reserve(ctx, tx, 0); err != nil {
			return err
		}
		old, seq, there := x.request.Epoch(), x.request.Seq(), false
		if err := b.lock.check(ctx, tx); err != nil {
			return err
		}
		err = tx.One(ctx, `SELECT EXISTS (SELECT 1 FROM sync_outbox WHERE epoch = ? AND seq = ?)`,
			[]any{old, seq}, &there)
		if err == nil && !there {
			err = errBatchGone // the numbers would go to the batches behind it
		}
		if err != nil {
			return err
		}
		if epoch == old {
			epoch, first = epoch+step%maxEpochStep+1, 1
			_, err := tx.Exec(ctx, `UPDATE sync_agent_epoch
				SET epoch = ?, next_seq = 1, created_at = CURRENT_TIMESTAMP(6) WHERE id = 1`, epoch)
			if err != nil {
				return err
			}
		}
		return move(ctx, tx, x.table, old, seq, epoch, first)
	})
	if err != nil {
		return fmt.Errorf("new epoch for the outbox: %w", err)
	}
	x.request, x.confirmed = protocol.MakeRequestID(epoch, first), 0
	return nil
}

// move gives the batches of a table from (epoch, seq) on the numbers from (newEpoch, first) on, which are the next.
func move(ctx context.Context, tx *store.Tx, table string, epoch, seq, newEpoch, first uint64) error {
	moved, err := tx.Exec(ctx, `UPDATE sync_outbox o JOIN (
		SELECT epoch, seq, ROW_NUMBER() OVER (ORDER BY epoch, seq) - 1 AS place FROM sync_outbox
		WHERE sync_table = ? AND (epoch > ? OR epoch = ? AND seq >= ?)) AS later
		ON o.epoch = later.epoch AND o.seq = later.seq
		SET o.epoch = ?, o.seq = ? + later.place`, table, epoch, epoch, seq, newEpoch, first)
	if err == nil {
		_, _, err = reserve(ctx, tx, moved)
	}
	return err
}

// split puts two batches in the place of x, which the server finds too large, and makes x the first of them. They and
// the later batches of the table get the next numbers.
func (b *outbox) split(ctx context.Context, x *batch) error {
	request, err := (&protocol.Message{Op: protocol.OpUpload, Payload: x.payload}).UploadRequest()
	if err != nil {
		return err
	}
	first, second := *request, *request
	at := request.Rows.Len() / 2 * len(request.Rows.Columns)
	first.Rows.Values, second.Rows.Values = request.Rows.Values[:at], request.Rows.Values[at:]
	first.Part, second.Part = request.Part&^rowset.LastPart, request.Part&^rowset.FirstPart
	halves := make([][]byte, 2)
	for i, half := range []*protocol.UploadRequest{&first, &second} {
		if halves[i], err = protocol.AppendPayload(nil, half); err != nil {
			return err
		}
	}
	var epoch, seq uint64
	old, oldSeq := x.request.Epoch(), x.request.Seq()
	err = b.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		if err := b.lock.check(ctx, tx); err != nil {
			return err
		}
		if epoch, seq, err = reserve(ctx, tx, 2); err != nil {
			return err
		}
		if err := move(ctx, tx, x.table, old, oldSeq+1, epoch, seq+2); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO sync_outbox (epoch, seq, rule_id, sync_table, row_count, payload)
			SELECT ?, ?, rule_id, sync_table, ?, ? FROM sync_outbox WHERE epoch = ? AND seq = ?`,
			epoch, seq+1, second.Rows.Len(), halves[1], old, oldSeq)
		if err != nil {
			return err
		}
		n, err := tx.Exec(ctx, `UPDATE sync_outbox SET epoch = ?, seq = ?, row_count = ?, payload = ?
			WHERE epoch = ? AND seq = ?`, epoch, seq, first.Rows.Len(), halves[0], old, oldSeq)
		if err == nil && n == 0 {
			err = errBatchGone
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("split a batch of the outbox: %w", err)
	}
	b.count(x.table, 1, 0, int64(len(halves[0])+len(halves[1])-len(x.payload)))
	x.request, x.rows, x.payload = protocol.MakeRequestID(epoch, seq), first.Rows.Len(), halves[0]
	return nil
}

// mayRead reports whether more rows of a rule may be read. A full outbox stops a rule only while batches of its table
// wait, so that a table which the server refuses does not stop the others. The rows of a rule that is not paged are
// known to be at the centre only after the acknowledgement and update_state. Until then a second read would send the
// same rows again. A rule that needs no outbox waits for the batches that an older program or another version of the
// rule has left.
func (b *outbox) mayRead(ctx context.Context, plan *rule.Plan) (bool, error) {
	if (b.opts.DropOldest || !b.isFull()) && plan.Paged() && !streamed(plan) && len(plan.UpdateState) == 0 {
		return true, nil
	}
	waits := false
	err := b.opts.Store.InTx(ctx, func(tx *store.Tx) error {
		return tx.One(ctx, `SELECT EXISTS (SELECT * FROM sync_outbox WHERE sync_table = ?)`,
			[]any{plan.Row.Table}, &waits)
	})
	return !waits, err
}

// makeRoom drops the oldest batches of a table until the outbox is within its limits. The first two are kept, because
// they may be under way.
func (b *outbox) makeRoom(ctx context.Context, table string) error {
	over := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.batches > b.opts.OutboxBatches || b.bytes > b.opts.OutboxBytes
	}
	dropped := waiting{}
	for more := true; more && over(); {
		err := b.opts.Store.InTx(ctx, func(tx *store.Tx) error {
			var epoch, seq uint64
			var w waiting
			err := tx.One(ctx, `SELECT epoch, seq, row_count, LENGTH(payload) FROM sync_outbox
				WHERE sync_table = ? ORDER BY epoch, seq LIMIT 1 OFFSET 2`,
				[]any{table}, &epoch, &seq, &w.rows, &w.bytes)
			if more = err == nil; errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err == nil {
				err = b.lock.check(ctx, tx)
			}
			if err == nil {
				_, err = tx.Exec(ctx, `DELETE FROM sync_outbox WHERE epoch = ? AND seq = ?`, epoch, seq)
			}
			if err == nil {
				b.count(table, -1, -w.rows, -w.bytes)
				dropped.rows, dropped.bytes = dropped.rows+w.rows, dropped.bytes+w.bytes
			}
			return err
		})
		if err != nil {
			return errors.Join(err, b.recount(ctx))
		}
	}
	if dropped.rows > 0 {
		b.opts.count(rowsDropped, table, int(dropped.rows))
		b.opts.Log.Error().Str("table", table).Int64("rows", dropped.rows).Int64("bytes", dropped.bytes).
			Msg("outbox is full: the oldest rows were dropped and will never reach the centre")
	}
	return nil
}

// isFull reports whether the outbox is at a limit, and logs each change.
func (b *outbox) isFull() bool {
	b.mu.Lock()
	full := b.batches >= b.opts.OutboxBatches || b.bytes >= b.opts.OutboxBytes
	changed := full != b.full
	b.full = full
	b.mu.Unlock()
	switch {
	case changed && full:
		b.depth(b.opts.Log.Warn()).Stringer("status", protocol.StatusAgentOutboxFull).
			Msg("outbox is full, collecting pauses until batches are acknowledged")
	case changed:
		b.depth(b.opts.Log.Info()).Msg("outbox has room again, collecting goes on")
	}
	return full
}

// count adds committed changes.
func (b *outbox) count(table string, batches int, rows, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batches += batches
	b.bytes += bytes
	if b.waiting == nil {
		b.waiting = map[string]waiting{}
	}
	w := b.waiting[table]
	b.waiting[table] = waiting{w.rows + rows, w.bytes + bytes}
}

func (b *outbox) of(table string) waiting {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting[table]
}

// depth adds the fill level to a log line.
func (b *outbox) depth(e *zerolog.Event) *zerolog.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return e.Int("outbox_batches", b.batches).Int64("outbox_bytes", b.bytes)
}
