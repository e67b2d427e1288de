package store

import (
	"context"
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
func (x *Comparison) read(ctx context.Context, st rule.Statement, b Bounds, more string, args ...any) (rows [][]any, err error) {
	env, err := x.bounded(b)
	if err != nil {
		return nil, err
	}
	err = x.s.retry(ctx, func(c *conn) (err error) {
		if err := x.useZone(ctx, c, &env); err != nil {
			return err
		}
		if c.args, err = st.Bind(c.args[:0], &env, nil); err != nil {
			return mismatch("%v", err)
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
	isInstant := func(k string) bool { return x.p.Table.Column(k).Type == "timestamp" }
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
	return joinTuples(head, st.SQL, "", n), args, nil
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
	head := "INSERT INTO " + x.p.Recorded.Name + " (" + quoteNames(x.Key) + ", sync_origin) VALUES "
	tuple := "(" + strings.Repeat("?, ", len(x.Key)) + "NULL)"
	const tail = " ON DUPLICATE KEY UPDATE sync_seq = 0, sync_origin = NULL, sync_at = NOW(6)"
	for len(keys) > 0 {
		n := chunkSize(min(len(keys), x.most()))
		err := x.s.retry(ctx, func(c *conn) error {
			c.args = c.args[:0]
			for _, key := range keys[:n] {
				c.args = append(c.args, key...)
			}
			if err := c.useZone(ctx, utc); err != nil {
				return err
			}
			_, err := c.exec(ctx, stmtKey{sql: head, tuples: n}, func() string { return joinTuples(head, tuple, tail, n) })
			return err
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}
