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
	Confirmed  uint64   // the point has the acknowledgement of every request of this epoch up to here
	Plan       *rule.Plan
	Rows       rowset.Rows // without names of columns: in the order of Plan.Fields
	Env        rule.Env
	State      []byte   // what its point reads on from; it makes the upload one of a stream. nil: it is none
	After      uint64   // the upload has no rows and begins a generation of a stream behind this sequence; 0: none
	Table      string   // of a stream
	Part       uint32   // rowset.PartOfAll and others: of a read of the whole selection; 0: the rows are what is new
	Unknown    []string // columns of Rows that are no fields of Plan, for Outcome
	Refused    error    // why it must not be applied; the ledger may have its outcome nevertheless. nil: apply it

	// While Apply works on its copy:
	zone   *zone          // of the session that applies them
	rows   rowset.Rows    // Rows in the order of Plan.Fields
	marks  []any          // the rows' values of rowset.Deleted; nil: they have none
	lastOf map[string]int // the last row of each key, made when a row is postponed
	out    *Outcome
}

func (u *Upload) streamed() bool { return u.State != nil }

// Outcome is the result of an upload. The ledger keeps it as JSON. When Err is set, nothing of the upload was kept and
// the other fields are empty.
type Outcome struct {
	Applied     uint64            `json:"applied"`               // rows that an operation took
	ByOp        map[string]uint64 `json:"by_op,omitempty"`       // the same by operation: insert, update, …
	Quarantined []Quarantined     `json:"quarantined,omitempty"` // rows that none took, in the order of Row
	LeftOut     uint64            `json:"left_out,omitempty"`    // more such rows, see toldRows
	Unknown     []string          `json:"unknown,omitempty"`     // columns that the rule lacks; they were left out
	Duplicate   bool              `json:"-"`                     // it was applied before, with this outcome
	Reached     Reached           `json:"-"`                     // where the stream stood, if it begins a generation

	// ErrUnavailable, ErrReadOnly, ErrRetry, ErrReused, ErrMismatch, *SQLError, *RowError, …
	Err error `json:"-"`
}

// Quarantined is a row that was put into sync_quarantine.
type Quarantined struct {
	Row    int    `json:"row"`             // from 0
	Code   int    `json:"code"`            // MySQL's error number
	Reason string `json:"reason"`          // the database's words
	Waits  bool   `json:"waits,omitempty"` // it is tried again by itself
}

// toldRows is how many quarantined rows an outcome tells one by one. All of them are in sync_quarantine.
const toldRows = 1000

const (
	sharedRows      = 256  // an upload with more rows has a transaction of its own
	sharedRowsTotal = 4096 // rows of all that share one
)

// errSplit ends a shared transaction: Apply runs its uploads one by one.
var errSplit = errors.New("store: run one by one")

// Apply runs each upload exactly once, also when a connection or the server fails on the way: the ledger row of the
// upload is inserted first and committed with its rows. Several small uploads share one transaction. When any of them
// fails, each runs in a transaction of its own, so that no upload fails because of another. The outcomes have the order
// of the uploads.
func (s *Store) Apply(ctx context.Context, uploads []*Upload) []Outcome {
	outcomes := make([]Outcome, len(uploads))
	var shared, single []*Upload
	rows := 0
	local, err := s.askZone(ctx)
	if err != nil {
		for i := range outcomes {
			outcomes[i].Err = err
		}
		return outcomes
	}
	for i, asked := range uploads {
		if asked.After != 0 {
			outcomes[i] = s.beginGeneration(ctx, asked)
			continue
		}
		s.floors.note(outboxID{asked.Point, asked.Epoch}, asked.Confirmed, false)
		u, err := asked.prepare(&outcomes[i], local)
		switch {
		case err != nil:
			outcomes[i] = s.fromLedger(ctx, asked, err)
		case u.zone == local && u.mayShare() && rows+u.rows.Len() <= sharedRowsTotal:
			rows += u.rows.Len()
			shared = append(shared, u)
		default:
			single = append(single, u)
		}
	}
	if len(shared) == 1 || len(shared) > 1 && !s.applyShared(ctx, shared) {
		single = append(shared, single...)
	}
	for i, u := range single {
		s.applyOne(ctx, u)
		if errors.Is(u.out.Err, ErrUnavailable) || errors.Is(u.out.Err, ErrReadOnly) {
			for _, rest := range single[i+1:] { // each would wait as long and fail in the same way
				*rest.out = Outcome{Err: u.out.Err}
			}
			break
		}
	}
	for i := range outcomes {
		s.countUpload(&outcomes[i])
	}
	return outcomes
}

// prepare makes the copy of u that the store works on. Its outcome goes to out.
func (u Upload) prepare(out *Outcome, local *zone) (*Upload, error) {
	if u.Refused != nil {
		return nil, u.Refused
	}
	var err error
	u.Rows, u.zone = inZone(u.Rows, local)
	if u.rows, u.marks, err = fit(u.Rows, u.Plan); err != nil {
		return nil, err
	}
	if len(u.Plan.Downside) == 0 {
		return nil, mismatch("rule %d has no downside", u.Plan.Row.ID)
	}
	u.out = out
	return &u, nil
}

// fromLedger is the outcome of an upload that cannot be applied. It may have been applied before its rule was edited,
// and its answer lost. Then the point gets that answer, because otherwise it would send the upload for ever.
func (s *Store) fromLedger(ctx context.Context, u *Upload, why error) Outcome {
	var out Outcome
	err := s.retry(ctx, func(c *conn) error {
		found, err := c.lookupLedger(ctx, u, &out)
		if err == nil && !found {
			return notFromDB(why)
		}
		return err
	})
	if err != nil {
		return Outcome{Err: err}
	}
	return out
}

func (u *Upload) mayShare() bool {
	return u.rows.Len() <= sharedRows && len(u.Plan.UpdateState) == 0 && !hasFile(u.Plan.Downside)
}

func hasFile(chain []rule.Statement) bool {
	return slices.ContainsFunc(chain, func(st rule.Statement) bool { return st.Op == rule.OpFile })
}

// reset discards the outcome of a failed attempt.
func (u *Upload) reset() {
	*u.out = Outcome{ByOp: map[string]uint64{}, Unknown: u.Unknown}
}

// expected is the outcome that the ledger row is inserted with: the first operation takes every row. updateReply
// corrects it in the rarer case that another operation took some.
func (u *Upload) expected() Outcome {
	o := Outcome{ByOp: map[string]uint64{}, Unknown: u.Unknown}
	if n := uint64(u.rows.Len()); n > 0 {
		o.Applied, o.ByOp[u.Plan.Downside[0].Op.String()] = n, n
	}
	return o
}

// applyOne runs one upload in a transaction of its own until it succeeds or fails for good.
func (s *Store) applyOne(ctx context.Context, u *Upload) {
	err := s.retry(ctx, func(c *conn) error {
		u.reset()
		if err := c.useZone(ctx, u.zone); err != nil {
			return err
		}
		err := c.inTx(ctx, func() error {
			if err := c.insertLedger(ctx, []*Upload{u}); err != nil {
				return err
			}
			return s.run(ctx, c, u)
		})
		if !errors.Is(err, errDone) {
			return err
		}
		found, err := c.lookupLedger(ctx, u, u.out)
		switch {
		case err == nil && !found && u.streamed(): // the one before it was committed since
			err = notFromDB(ErrRetry)
		case err == nil && !found: // confirmed and purged since
			err = fmt.Errorf("%w: sequence %d of epoch %d was confirmed", ErrReused, u.Seq, u.Epoch)
		}
		return err
	})
	if err != nil {
		*u.out = Outcome{Err: err}
	}
}

// run applies the rows, runs update_state, and writes the reply when it differs from the expected one.
func (s *Store) run(ctx context.Context, c *conn, u *Upload) error {
	r := &runner{ctx: ctx, c: c, s: s, files: newFiles(s.o.FileRoot)}
	defer r.files.discard()
	if err := r.uploads([]*Upload{u}); err != nil {
		return err
	}
	if err := r.updateState(u.Plan, u.rows, &u.Env); err != nil {
		return err
	}
	if err := c.updateReply(ctx, u); err != nil {
		return err
	}
	return r.files.publish(ctx, c)
}

// applyShared runs several uploads in one transaction. It returns false when nothing was kept.
func (s *Store) applyShared(ctx context.Context, all []*Upload) bool {
	// All transactions insert the ledger's rows in one order, so that two of them never wait for each other there. The
	// uploads are applied as they came.
	ledger := slices.SortedStableFunc(slices.Values(all), compareIDs)
	err := s.withConn(ctx, func(c *conn) error {
		for _, u := range all {
			u.reset()
		}
		if err := c.useZone(ctx, all[0].zone); err != nil {
			return err
		}
		return c.inTx(ctx, func() error {
			if err := c.insertLedger(ctx, ledger); err != nil {
				return err
			}
			r := &runner{ctx: ctx, c: c, s: s, shared: true}
			for _, part := range mergeable(all) {
				if err := r.uploads(part); err != nil {
					return err
				}
			}
			for _, u := range all {
				if err := c.updateReply(ctx, u); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		s.count(Retries, causeOf(err), 1, nil)
	}
	return err == nil
}

// mergeable groups uploads whose first statements have the same text, so that one statement applies their rows. An
// upload never overtakes an earlier one of its point.
func mergeable(all []*Upload) [][]*Upload {
	var parts [][]*Upload
	last := map[string]int{} // point -> the last part that has an upload of it
	for _, u := range all {
		first := &u.Plan.Downside[0]
		at := len(parts)
		for i := last[u.Point]; i < len(parts) && first.Insert != nil; i++ {
			if other := &parts[i][0].Plan.Downside[0]; other.Insert != nil && other.SQL == first.SQL &&
				(u.Plan.Recorded == nil || parts[i][0].Point == u.Point) {
				at = i
				break
			}
		}
		if at == len(parts) {
			parts = append(parts, nil)
		}
		parts[at] = append(parts[at], u)
		last[u.Point] = at
	}
	return parts
}
