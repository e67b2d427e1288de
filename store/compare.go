package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Comparison compares the rows of a table at two sides. Keys are compared by the database alone, since the types of the
// two tables may differ.
type Comparison struct {
	*rule.Comparison
	s   *Store
	p   *rule.Plan
	env rule.Env
}

// Compare makes a comparison of the table of a rule; see rule.Plan.Compare.
func (s *Store) Compare(p *rule.Plan, env rule.Env, columns []string, where string) (*Comparison, error) {
	x, err := p.Compare(columns, where)
	if err != nil {
		return nil, mismatch("%v", err)
	}
	return &Comparison{x, s, p, env}, nil
}

// Bounds are the keys that a range begins behind and ends at; nil: it has no such end.
type Bounds struct{ From, To []any }

// Listed is a row of one side. Sum is nil when the row is not to be compared.
type Listed struct {
	Key []any
	Sum any
}

// bounded is the environment of a statement with bounds.
func (x *Comparison) bounded(b Bounds) (rule.Env, error) {
	env := x.env
	env.State = slices.Clone(x.env.State)
	for _, end := range []struct {
		key  []any
		item func(int) string
	}{{b.From, rule.FromItem}, {b.To, rule.ToItem}} {
		if len(end.key) != 0 && len(end.key) != len(x.Key) {
			return env, mismatch("a key of %d values; it has %d columns", len(end.key), len(x.Key))
		}
		for i, v := range end.key {
			env.State = append(env.State, rowset.StateItem{Name: end.item(i), Value: v})
		}
	}
	return env, nil
}

// read runs a query that begins with st and goes on with more, to which args belong.
func (x *Comparison) read(ctx context.Context, st rule.Statement, b Bounds, more string, args ...any) (
	rows [][]any, err error,
) {
	env, err := x.bounded(b)
	if err != nil {
		return nil, err
	}
	err = x.s.retry(ctx, func(c *conn) (err error) {
		if err := x.useZone(ctx, c, &env); err != nil {
			return err
		}
		if err := c.bind(&st, &env, nil); err != nil {
			return err
		}
		c.args, rows = append(c.args, args...), nil
		err = c.scan(ctx, st.SQL+more, func(v []any) error {
			rows = append(rows, rowset.AppendCopy(nil, v))
			return nil
		})
		if err != nil {
			return &statementError{sql: st.SQL, err: err}
		}
		return nil
	})
	return rows, err
}

// useZone sets the zone of the session: UTC, so that TIMESTAMPs of the key are the same at both sides, or that of the
// database's other clients, as a generated select with a condition has it.
func (x *Comparison) useZone(ctx context.Context, c *conn, env *rule.Env) error {
	isInstant := func(k string) bool { // the table may have lost the column since
		col := x.p.Table.Column(k)
		return col != nil && col.Type == "timestamp"
	}
	if !x.Conditional() || slices.ContainsFunc(x.Key, isInstant) {
		return c.useZone(ctx, utc)
	}
	local, err := x.s.localZone(ctx, c)
	if err == nil {
		err = c.useZone(ctx, local.now())
	}
	if err == nil {
		err = c.readTimes(ctx, x.p, env)
	}
	return err
}

// List reads the rows of a range, limit at most, in the order of their keys. Rows with a change that the other side has
// not acknowledged are not to be compared.
func (x *Comparison) List(ctx context.Context, b Bounds, limit int) (all []Listed, err error) {
	st := x.Comparison.List(b.From != nil, b.To != nil)
	rows, err := x.read(ctx, st, b, x.Order+"\nlimit ?", int64(limit))
	for _, v := range rows {
		n := len(x.Key)
		row := Listed{Key: v[:n:n], Sum: v[n]}
		if asUint(v[n+1]) != 0 {
			row.Sum = nil
		}
		all = append(all, row)
	}
	return all, err
}

// Gone reads the keys of a range whose rows were deleted here, which the other side has not acknowledged.
func (x *Comparison) Gone(ctx context.Context, b Bounds) (all []Listed, err error) {
	st, ok := x.Comparison.Gone(b.From != nil, b.To != nil)
	if !ok {
		return nil, nil
	}
	keys, err := x.read(ctx, st, b, "")
	for _, key := range keys {
		all = append(all, Listed{Key: key})
	}
	return all, err
}

// Sum is the number of rows and the checksum of a range.
func (x *Comparison) Sum(ctx context.Context, b Bounds) (rows, sum uint64, err error) {
	st := x.Comparison.Sum(b.From != nil, b.To != nil)
	found, err := x.read(ctx, st, b, "")
	if err != nil {
		return 0, 0, err
	}
	return asUint(found[0][0]), asUint(found[0][1]), nil
}

// Against finds which of the other side's rows are missing or different here, by their index.
func (x *Comparison) Against(ctx context.Context, rows []Listed) (missing, different []uint32, err error) {
	st := x.Lookup()
	for at := 0; at < len(rows); at += x.most() {
		some := rows[at:min(at+x.most(), len(rows))]
		head, args, err := x.tuples(st, "select ", some)
		if err != nil {
			return nil, nil, err
		}
		found, err := x.read(ctx, rule.Statement{SQL: head}, Bounds{}, "", args...)
		if err != nil {
			return nil, nil, err
		}
		for i, row := range some {
			switch sum := found[0][i]; {
			case row.Sum == nil:
			case sum == nil:
				missing = append(missing, uint32(at+i))
			case asUint(sum) != asUint(row.Sum):
				different = append(different, uint32(at+i))
			}
		}
	}
	return missing, different, nil
}

// most is how many keys one statement takes.
func (x *Comparison) most() int { return max(min(256, chunkMarks/len(x.Key)), 1) }

// tuples is head and st for each row, and their values. The last row fills the list up to one of a few lengths.
func (x *Comparison) tuples(st rule.Statement, head string, rows []Listed) (sql string, args []any, err error) {
	n := min(chunkUp(len(rows)), x.most())
	for i := range n {
		row := rows[min(i, len(rows)-1)]
		if len(row.Key) != len(x.Key) {
			return "", nil, mismatch("a key of %d values; it has %d columns", len(row.Key), len(x.Key))
		}
		if args, err = st.Bind(args, &x.env, row.Key); err != nil {
			return "", nil, mismatch("%v", err)
		}
	}
	return rule.InsertParts{Head: head, Tuple: st.SQL}.Rows(n), args, nil
}

// Extra reads the keys of a range that are not listed, limit at most, in order.
func (x *Comparison) Extra(ctx context.Context, b Bounds, rows []Listed, limit int) (keys [][]any, err error) {
	more, args := "", []any(nil)
	if len(rows) > 0 {
		if len(rows) > x.most() {
			return nil, mismatch("%d rows are listed; at most %d", len(rows), x.most())
		}
		list, values, err := x.tuples(x.Tuple(), "", rows)
		if err != nil {
			return nil, err
		}
		more, args = x.Except(list), values
	}
	st := x.Comparison.Extra(b.From != nil, b.To != nil)
	return x.read(ctx, st, b, more+x.Order+"\nlimit ?", append(args, int64(limit))...)
}

// Send marks rows as changed here, so that the feed of the table's changes sends them: as they are now, or as deleted.
func (x *Comparison) Send(ctx context.Context, keys [][]any) error {
	if x.p.Load == nil {
		return mismatch("the rule that reads %s has not the option changes", x.p.Row.Table)
	}
	t := rule.InsertParts{
		Head:  "INSERT INTO " + x.p.Recorded.Name + " (" + rule.QuoteAll(x.Key) + ", sync_origin) VALUES ",
		Tuple: strings.TrimSuffix(marks(len(x.Key)), ")") + ", NULL)",
		Tail:  " ON DUPLICATE KEY UPDATE sync_seq = 0, sync_origin = NULL, sync_at = NOW(6)"}
	return x.s.retry(ctx, func(c *conn) error {
		if err := c.useZone(ctx, utc); err != nil {
			return err
		}
		_, err := c.each(ctx, t, len(keys), x.most(), func(i int) error {
			c.args = append(c.args, keys[i]...)
			return nil
		})
		return err
	})
}

// Resync is a comparison of a table that a point is asked for, and what came of it.
type Resync struct {
	ID       uint64 `json:"id"`
	Point    string `json:"point"`
	Table    string `json:"table"`
	Type     string `json:"type"` // of the rule; upload: the point's rows are right, download: the centre's
	Where    string `json:"where,omitempty"`
	DryRun   bool   `json:"dry_run"`
	State    string `json:"state"` // asked, running, done or failed
	Compared uint64 `json:"compared"`

	MissingThere uint64 `json:"missing_at_centre"`
	MissingHere  uint64 `json:"missing_at_point"`
	Different    uint64 `json:"different"`
	Note         string `json:"note,omitempty"`
}

const resyncColumns = `SELECT id, point_no, sync_table, sync_type, row_condition, dry_run, state, compared,
	missing_there, missing_here, different, COALESCE(note, '') FROM sync_resync `

func (s *Store) resyncs(ctx context.Context, where string, args ...any) ([]Resync, error) {
	return readAll(ctx, s, resyncColumns+where, func(r *Resync) []any {
		return []any{&r.ID, &r.Point, &r.Table, &r.Type, &r.Where, &r.DryRun, &r.State, &r.Compared, &r.MissingThere,
			&r.MissingHere, &r.Different, &r.Note}
	}, args...)
}

// AskResync asks a point for a comparison. It counts as an edit of the rules, so that connected points learn of it.
func (s *Store) AskResync(ctx context.Context, r Resync) (id uint64, err error) {
	err = s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM sync_resync WHERE reported_at < NOW(6) - INTERVAL 90 DAY "+
			"AND state IN ('done', 'failed')")
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO sync_resync (point_no, sync_table, sync_type, row_condition, dry_run)
			VALUES (?, ?, ?, ?, ?)`, r.Point, r.Table, r.Type, r.Where, r.DryRun)
		if err == nil {
			err = tx.One(ctx, "SELECT LAST_INSERT_ID()", nil, &id)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO sync_control_edit (slot, edited)
				VALUES (CONNECTION_ID() % 64, UNIX_TIMESTAMP(NOW(6)) * 1000000)
				ON DUPLICATE KEY UPDATE edited = GREATEST(edited + 1, VALUES(edited))`)
		}
		return err
	})
	return id, err
}

// Resync reads one comparison of a point, or returns ErrNotFound.
func (s *Store) Resync(ctx context.Context, id uint64, point string) (Resync, error) {
	all, err := s.resyncs(ctx, "WHERE id = ? AND point_no = ?", id, point)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: sync_resync id=%d of point %s", ErrNotFound, id, point)
	}
	if err != nil {
		return Resync{}, err
	}
	return all[0], nil
}

// NextResync is the first comparison that a point has not finished; the zero Resync when there is none.
func (s *Store) NextResync(ctx context.Context, point string) (Resync, error) {
	all, err := s.resyncs(ctx, "WHERE point_no = ? AND state IN ('asked', 'running') ORDER BY id LIMIT 1", point)
	if err != nil || len(all) == 0 {
		return Resync{}, err
	}
	return all[0], nil
}

// ReportResync keeps what a point reports.
func (s *Store) ReportResync(ctx context.Context, r Resync) error {
	_, err := s.exec(ctx, `UPDATE sync_resync SET state = ?, compared = ?, missing_there = ?, missing_here = ?,
		different = ?, note = ?, reported_at = NOW(6) WHERE id = ? AND point_no = ? AND state IN ('asked', 'running')`,
		r.State, r.Compared, r.MissingThere, r.MissingHere, r.Different, r.Note, r.ID, r.Point)
	return err
}
