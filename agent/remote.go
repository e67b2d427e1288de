package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sync"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

// Remote moves rows of a point that has no database: Push from a file to the centre, Pull the other way.
type Remote struct {
	opts Options
	link *link
}

// NewRemote checks the options, of which Store is not used. It starts nothing. A server that is away for longer than
// patience ends Push and Pull with ErrNotReached.
func NewRemote(o Options, patience time.Duration) (*Remote, error) {
	err := o.setDefaults()
	if err != nil {
		return nil, err
	}
	r := &Remote{opts: o}
	if r.link, err = newLink(&r.opts, &news{}); err == nil {
		r.link.patience = patience
	}
	return r, err
}

// Point is the name of the point.
func (r *Remote) Point() string { return r.opts.Point }

// connected runs do while the link is up or comes back.
func (l *link) connected(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(l.run(ctx, false)) })
	err := do(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	wg.Wait()
	return err
}

// Reach connects to each server in turn, and returns what each granted or why it did not.
func (r *Remote) Reach(ctx context.Context, each func(server string, w *protocol.Welcome, err error)) {
	for _, one := range r.link.servers.all {
		r.link.servers.left = []string{one.address}
		s, err := r.link.connect(ctx)
		if err != nil {
			each(one.address, nil, err)
			continue
		}
		w := s.wire.Welcome()
		_ = s.conn.Close()
		each(one.address, &w, nil)
	}
}

// Position is how far a push has come. The caller keeps it, so that a push that was killed goes on.
type Position struct {
	Epoch      uint64 `json:"epoch"` // of the stream of its uploads; 0: it has not begun
	Generation uint64 `json:"generation"`
	Rows       uint64 `json:"rows"` // that are known to be acknowledged
}

// Row is a row of a push.
type Row struct {
	Columns []string
	Values  []any
}

// Push is rows on their way to a table. The rows are a stream, see stream.go: its state is the number of rows, which
// the centre keeps with the rows. So after a kill the centre says which row comes next, and none is applied twice.
type Push struct {
	Table string
	Position
	Next  func() (Row, error)                             // the next row; io.EOF behind the last
	Save  func(Position) error                            // keeps the position
	Acked func(first uint64, reply *protocol.UploadReply) // rows from first on, counted from 0, were answered

	waiting []Row  // read and not acknowledged
	read    uint64 // rows that Next has returned
	next    *Row   // read, and with other columns than waiting
	end     bool
	seq     uint64 // last acknowledged request; 0: it is not known what the centre has applied
	most    int    // bytes of an upload
	savedAt time.Time
}

const (
	pushFirst = 64 << 10        // bytes of the first upload
	pushLeast = 1 << 10         // the least that a bad link makes of it
	pushFast  = 2 * time.Second // an upload that is answered within this lets the next be larger
)

// Push sends rows until the last is acknowledged. A *Refusal is the server's, for the row p.Rows and some after it.
func (r *Remote) Push(ctx context.Context, p *Push) (err error) {
	if p.most = pushFirst; p.Epoch == 0 {
		if p.Epoch, err = r.opts.newEpoch(); err != nil {
			return err
		}
	}
	err = r.link.connected(ctx, func(ctx context.Context) error {
		wait := backoff{first: r.opts.RetryMin, limit: r.opts.RetryMax}
		for {
			more, err := p.step(ctx, r)
			var refused *Refusal
			switch {
			case err == nil && !more:
				return nil
			case err == nil:
				wait.tries = 0
			case errors.Is(err, ErrLost):
				p.seq, p.most = 0, max(pushLeast, p.most/4)
			case errors.As(err, &refused) && refused.Code == protocol.StatusTooLarge && len(p.waiting) > 1:
				p.most = max(1, p.most/2)
			case errors.As(err, &refused) && refused.Transient() && wait.tries < onceTries:
				pause(ctx, max(wait.next(), retryAfter(err)))
			default:
				return err
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	})
	return errors.Join(err, p.Save(p.Position))
}

// step begins a generation of the stream, or sends an upload.
func (p *Push) step(ctx context.Context, r *Remote) (more bool, err error) {
	if p.seq == 0 {
		return true, p.begin(ctx, r)
	}
	if err := p.fill(r.opts.BatchRows); err != nil || len(p.waiting) == 0 {
		return false, err
	}
	rows := rowset.Rows{Columns: p.waiting[0].Columns}
	first, n := p.Rows, uint64(0)
	for size := 0; n < uint64(len(p.waiting)) && size < p.most; n++ {
		rows.Values = append(rows.Values, p.waiting[n].Values...)
		size += rowset.Size(p.waiting[n].Values)
	}
	m := &protocol.Message{Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(p.Epoch, p.seq+1),
		Body: &protocol.UploadRequest{Table: p.Table, Rows: rows, State: pushState(first + n)}}
	began := time.Now()
	reply, err := ask(ctx, r.link, m, (*protocol.Message).UploadReply)
	if err != nil {
		return false, err
	}
	if time.Since(began) < pushFast {
		p.most = min(2*p.most, batchBytes)
	}
	p.seq, p.Rows, p.waiting = p.seq+1, first+n, p.waiting[n:]
	p.Acked(first, reply)
	if now := time.Now(); now.Sub(p.savedAt) > saveEvery {
		p.savedAt = now
		err = p.Save(p.Position)
	}
	return true, err
}

func pushState(rows uint64) []rowset.StateItem {
	return []rowset.StateItem{{Name: "rows", Value: int64(rows)}}
}

// begin begins the next generation of the stream and goes to the row that the centre has come to.
func (p *Push) begin(ctx context.Context, r *Remote) error {
	after := p.Generation << store.GenerationBits
	p.Generation++
	if err := p.Save(p.Position); err != nil {
		return err
	}
	seq := p.Generation << store.GenerationBits
	m := &protocol.Message{Op: protocol.OpUpload, RequestID: protocol.MakeRequestID(p.Epoch, seq),
		Body: &protocol.UploadRequest{Table: p.Table, After: cmp.Or(after, seq)}}
	reply, err := ask(ctx, r.link, m, (*protocol.Message).UploadReply)
	if err != nil {
		return err
	}
	if reached := reply.Reached; reached.Seq > 0 { // else the stream is new, or the centre has forgotten it
		rows := int64(0)
		if len(reached.State) == 1 {
			rows, _ = reached.State[0].Value.(int64)
		}
		if uint64(rows) < p.read-uint64(len(p.waiting)) {
			return fmt.Errorf("%w: the centre has %d rows and has acknowledged %d, as after a restore; push the "+
				"file again",
				ErrData, rows, p.Rows)
		}
		p.Rows = uint64(rows)
	}
	// Rows that the centre has are not sent. Their reply was lost, and with it what became of each.
	behind := p.read - uint64(len(p.waiting))
	p.waiting = p.waiting[min(p.Rows-behind, uint64(len(p.waiting))):]
	for p.read < p.Rows {
		if _, err := p.Next(); err != nil {
			return fmt.Errorf("%w: row %d of %d that are pushed: %w", ErrData, p.read+1, p.Rows, err)
		}
		p.read++
	}
	p.seq = seq
	return nil
}

// fill reads rows with the same columns for one upload.
func (p *Push) fill(most int) error {
	size := 0
	for _, row := range p.waiting {
		size += rowset.Size(row.Values)
	}
	for size < p.most && len(p.waiting) < most && !p.end {
		row := p.next
		if p.next = nil; row == nil {
			one, err := p.Next()
			if p.end = errors.Is(err, io.EOF); p.end {
				break
			}
			if err != nil {
				return err
			}
			row = &one
		}
		if len(p.waiting) > 0 && !slices.Equal(row.Columns, p.waiting[0].Columns) {
			p.next = row
			break
		}
		p.read++
		p.waiting, size = append(p.waiting, *row), size+rowset.Size(row.Values)
	}
	return nil
}

// Pull is rows on their way from a table.
type Pull struct {
	Table string
	Begin func() error            // a page begins: what was written of it before is to be dropped
	Rows  func(rowset.Rows) error // a part of it
	Done  func() error            // it is complete
}

// Pull fetches the rows that the centre's rule selects for the point, page after page. A page that a cut has
// interrupted is asked for again.
func (r *Remote) Pull(ctx context.Context, p *Pull) error {
	return r.link.connected(ctx, func(ctx context.Context) error {
		wait := backoff{first: r.opts.RetryMin, limit: r.opts.RetryMax}
		var state []rowset.StateItem
		for {
			err := p.Begin()
			if err != nil {
				return err
			}
			var last *protocol.DownloadReply
			m := &protocol.Message{Op: protocol.OpDownload,
				Body: &protocol.DownloadRequest{Table: p.Table, State: state}}
			err = r.link.do(ctx, m, func(m *protocol.Message) (err error) {
				if last, err = m.DownloadReply(); err == nil && len(last.Columns) > 0 {
					err = p.Rows(last.Rows())
				}
				return err
			})
			switch {
			case err == nil:
				if err = p.Done(); err != nil || !last.More {
					return err
				}
				if reflect.DeepEqual(state, last.State) {
					return errStalled
				}
				state, wait.tries = last.State, 0
			case ctx.Err() != nil:
				return ctx.Err()
			case !transient(err) || wait.tries > onceTries && !errors.Is(err, ErrLost):
				return err
			default:
				pause(ctx, max(wait.next()/8, retryAfter(err)))
			}
		}
	})
}
