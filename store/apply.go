package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Upload is one request to apply rows at the centre.
type Upload struct {
	Point      string
	Epoch, Seq uint64   // the request id; the key of the ledger
	Hash       [32]byte // of the request's body
	Confirmed  uint64   // every request of this epoch up to here was seen acknowledged by the point
	Plan       *rule.Plan
	Rows       rowset.Rows // without Columns: in the order of Plan.Fields
	Env        rule.Env
	Refused    error // why it must not be applied, whatever Plan is; the ledger may have it all the same. nil: apply it
}

// Outcome is what became of an upload, and what the ledger keeps of it as JSON. When Err is set nothing of the upload was
// kept and the other fields are empty.
type Outcome struct {
	Applied     uint64            `json:"applied"`               // rows that an operation took
	ByOp        map[string]uint64 `json:"by_op,omitempty"`       // the same by operation: insert, update, …
	Quarantined []Quarantined     `json:"quarantined,omitempty"` // rows that none took, in the order of Row
	Duplicate   bool              `json:"-"`                     // it had been applied before; the rest is what was found then
	Err         error             `json:"-"`                     // ErrUnavailable, ErrReadOnly, ErrRetry, ErrReused, ErrMismatch, *SQLError, *RowError, …
}

// Quarantined is a row that was put into sync_quarantine.
type Quarantined struct {
	Row    int    `json:"row"`    // from 0
	Code   int    `json:"code"`   // MySQL's error number
	Reason string `json:"reason"` // the database's words
}

const (
	sharedRows      = 256  // an upload with more rows has a transaction of its own
	sharedRowsTotal = 4096 // rows of all that share one
)

// errSplit ends a shared transaction: its uploads are to be run one by one.
var errSplit = errors.New("store: run one by one")

// Apply runs each upload exactly once, whatever happens between here and there: its ledger row is inserted first and
// committed together with what it did. Several small uploads share one transaction; when anything of it fails each is
// run in its own, so that none takes a neighbour with it. The outcomes are in the order of the uploads.
func (s *Store) Apply(ctx context.Context, uploads []*Upload) []Outcome {
	outcomes := make([]Outcome, len(uploads))
	var shared, alone []*batch
	rows := 0
	for i, u := range uploads {
		s.floors.note(u)
		b, err := s.newBatch(u, &outcomes[i])
		switch {
		case err != nil:
			outcomes[i] = s.fromLedger(ctx, u, err)
		case b.mayShare() && rows+b.rows.len() <= sharedRowsTotal:
			rows += b.rows.len()
			shared = append(shared, b)
		default:
			alone = append(alone, b)
		}
	}
	if len(shared) == 1 || len(shared) > 1 && !s.together(ctx, shared) {
		alone = append(shared, alone...)
	}
	for i, b := range alone {
		s.alone(ctx, b)
		if errors.Is(b.out.Err, ErrUnavailable) || errors.Is(b.out.Err, ErrReadOnly) {
			for _, rest := range alone[i+1:] { // each would wait as long to learn the same
				*rest.out = Outcome{Err: b.out.Err}
			}
			break
		}
	}
	return outcomes
}

// batch is an upload on its way.
type batch struct {
	u    *Upload
	rows rowView
	out  *Outcome
}

func (s *Store) newBatch(u *Upload, out *Outcome) (*batch, error) {
	if u.Refused != nil {
		return nil, u.Refused
	}
	rows, err := newRowView(u.Plan, u.Rows)
	if err != nil {
		return nil, err
	}
	if len(u.Plan.Downside) == 0 {
		return nil, mismatch("rule %d has no downside", u.Plan.Row.ID)
	}
	return &batch{u: u, rows: rows, out: out}, nil
}

// fromLedger is the outcome of an upload that cannot be applied. It may have been applied before its rule was edited,
// and its answer lost. Then the point gets that answer, because otherwise it would send the upload for ever.
func (s *Store) fromLedger(ctx context.Context, u *Upload, why error) Outcome {
	var out Outcome
	err := s.retry(ctx, func(c *conn) error {
		found, err := c.recall(ctx, u, &out)
		if err == nil && !found {
			return own(why)
		}
		return err
	})
	if err != nil {
		return Outcome{Err: err}
	}
	return out
}

func (b *batch) mayShare() bool {
	return b.rows.len() <= sharedRows && len(b.u.Plan.UpdateState) == 0 && !hasFile(b.u.Plan.Downside)
}

func hasFile(chain []rule.Statement) bool {
	return slices.ContainsFunc(chain, func(st rule.Statement) bool { return st.Op == rule.OpFile })
}

// reset forgets an attempt.
func (b *batch) reset() {
	*b.out = Outcome{ByOp: map[string]uint64{}}
}

// expected is the outcome that the ledger row is inserted with: the first operation takes every row. It is put right
// when it was wrong, which is the rarer case.
func (b *batch) expected() Outcome {
	o := Outcome{ByOp: map[string]uint64{}}
	if n := uint64(b.rows.len()); n > 0 {
		o.Applied, o.ByOp[b.u.Plan.Downside[0].Op.String()] = n, n
	}
	return o
}

// alone runs one upload in its own transaction until it is done or has failed for good.
func (s *Store) alone(ctx context.Context, b *batch) {
	err := s.retry(ctx, func(c *conn) error {
		b.reset()
		err := c.inTx(ctx, func() error {
			if err := c.enter(ctx, []*batch{b}); err != nil {
				return err
			}
			return s.run(ctx, c, b)
		})
		if !errors.Is(err, errDone) {
			return err
		}
		found, err := c.recall(ctx, b.u, b.out)
		if err == nil && !found { // confirmed and purged since
			err = fmt.Errorf("%w: sequence %d of epoch %d was confirmed", ErrReused, b.u.Seq, b.u.Epoch)
		}
		return err
	})
	if err != nil {
		*b.out = Outcome{Err: err}
	}
}

// run applies the rows, runs update_state, and writes the reply where it differs from what was expected.
func (s *Store) run(ctx context.Context, c *conn, b *batch) error {
	r := &runner{ctx: ctx, c: c, s: s, files: newFiles(s.o.FileRoot)}
	defer r.files.discard()
	if err := r.batches([]*batch{b}); err != nil {
		return err
	}
	if err := r.updateState(b.u.Plan, b.rows, &b.u.Env); err != nil {
		return err
	}
	if err := c.settle(ctx, b); err != nil {
		return err
	}
	return r.files.publish()
}

// together runs several uploads in one transaction. False: nothing was kept, run them one by one.
func (s *Store) together(ctx context.Context, all []*batch) bool {
	// All transactions take the ledger's rows in one order, so that two of them cannot wait for each other there.
	slices.SortStableFunc(all, func(a, b *batch) int { return compareIDs(a.u, b.u) })
	err := s.withConn(ctx, func(c *conn) error {
		for _, b := range all {
			b.reset()
		}
		return c.inTx(ctx, func() error {
			if err := c.enter(ctx, all); err != nil {
				return err
			}
			r := &runner{ctx: ctx, c: c, s: s, shared: true}
			for _, part := range mergeable(all) {
				if err := r.batches(part); err != nil {
					return err
				}
			}
			for _, b := range all {
				if err := c.settle(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return err == nil
}

// mergeable groups batches whose first statements have one text, so that their rows go as one. A batch never overtakes
// an earlier one of its own point.
func mergeable(all []*batch) [][]*batch {
	var parts [][]*batch
	last := map[string]int{} // point -> the last part that holds something of it
	for _, b := range all {
		first := &b.u.Plan.Downside[0]
		at := len(parts)
		for i := last[b.u.Point]; i < len(parts) && first.Insert != nil; i++ {
			if other := &parts[i][0].u.Plan.Downside[0]; other.Insert != nil && other.SQL == first.SQL {
				at = i
				break
			}
		}
		if at == len(parts) {
			parts = append(parts, nil)
		}
		parts[at] = append(parts[at], b)
		last[b.u.Point] = at
	}
	return parts
}
