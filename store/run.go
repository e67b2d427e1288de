package store

import (
	"context"
	"slices"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

const (
	chunkMarks = 8192    // placeholders of one statement; the protocol's limit is 65,535
	chunkBytes = 4 << 20 // values of one statement; also at most half of max_allowed_packet
)

// chunkSize is the number of rows in the next multi-row statement when left rows remain. There are few sizes, so that
// few statements are prepared: every number up to 16, then two in each doubling.
func chunkSize(left int) int {
	if left <= 16 {
		return left
	}
	for size := 1000; size > 16; size /= 2 { // an agent sends 1,000 rows
		if left >= size {
			return size
		}
		if left >= size*3/4 {
			return size * 3 / 4
		}
	}
	return 16
}

// chunkUp is the size of the smallest list that holds n, up to 256.
func chunkUp(n int) int {
	for _, size := range []int{1, 4, 16, 64} {
		if n <= size {
			return size
		}
	}
	return 256
}

// fit puts rows into the order of the plan's fields. It finds each column by its name and leaves out those that are no
// fields. Rows whose columns have no names have that order already, and may have more values behind it. marks are the
// rows' values of rowset.Deleted; nil: they have none. ErrMismatch: a field does not come.
func fit(rows rowset.Rows, p *rule.Plan) (fitted rowset.Rows, marks []any, err error) {
	place, err := places(rows, p)
	width := max(len(p.Fields), len(rows.Columns))
	switch {
	case err != nil:
		return rows, nil, err
	case width == 0 || len(rows.Values)%width != 0:
		return rows, nil, mismatch("it has %d values, the rule has %d fields a row", len(rows.Values), len(p.Fields))
	}
	fitted = rowset.Rows{Columns: p.Fields, Values: rows.Values}
	if place == nil {
		return fitted, nil, nil
	}
	mark := slices.Index(rows.Columns, rowset.Deleted)
	fitted.Values = make([]any, 0, len(rows.Values))
	for i := range rows.Len() {
		row := rows.Row(i)
		for _, at := range place {
			fitted.Values = append(fitted.Values, row[at])
		}
		if mark >= 0 && p.Delete != nil {
			marks = append(marks, row[mark])
		}
	}
	return fitted, marks, nil
}

// places is where each field stands in a row; nil when the row has the order of the fields.
func places(rows rowset.Rows, p *rule.Plan) ([]int, error) {
	fields := p.Fields
	if !slices.ContainsFunc(rows.Columns, func(c string) bool { return c != "" }) {
		n := len(rows.Columns)
		switch {
		case n == 0 || n == len(fields) || len(rows.Values) == 0:
			return nil, nil
		case n < len(fields):
			return nil, mismatch("it has %d values a row, the rule has %d fields", n, len(fields))
		}
		place := make([]int, len(fields))
		for i := range place {
			place[i] = i
		}
		return place, nil
	}
	place := slices.Repeat([]int{-1}, len(fields))
	same := len(rows.Columns) == len(fields)
	for i, c := range rows.Columns {
		at := slices.IndexFunc(fields, func(f string) bool { return strings.EqualFold(c, f) })
		switch {
		case at < 0 && c == rowset.Deleted && p.Delete == nil:
			return nil, mismatch("the rule does not delete rows, and some may be deleted ones")
		case at < 0:
			continue
		case place[at] >= 0:
			return nil, mismatch("column %q comes twice", c)
		}
		place[at] = i
		same = same && at == i
	}
	if at := slices.Index(place, -1); at >= 0 {
		return nil, mismatch("column %q is a field of the rule and not in the request", fields[at])
	}
	if same {
		return nil, nil
	}
	return place, nil
}

// runner applies rows within a transaction that is open on c.
type runner struct {
	ctx    context.Context
	c      *conn
	s      *Store
	shared bool   // several uploads are in the transaction: a row that no operation takes ends it
	again  bool   // the rows are in sync_quarantine already
	files  *files // that the transaction writes

	postponed []postponed
	left      map[item]bool // rows that no operation has taken, so far or at all
}

// item is one row of an upload.
type item struct {
	u   *Upload
	row int
}

// deleted reports whether the row is a key that is no longer there.
func (it item) deleted() bool { return it.u.marks != nil && it.u.marks[it.row] == rowset.Gone }

// caseless reports whether the side that the row comes from takes the key for the same in other letters.
func (it item) caseless() bool { return it.u.marks != nil && it.u.marks[it.row] == rowset.Caseless }

// values are the row in the order of the plan's fields.
func (it item) values() []any { return it.u.rows.Row(it.row) }

// chain is what the row is applied by.
func (it item) chain() []rule.Statement {
	if it.deleted() {
		return it.u.Plan.Delete
	}
	return it.u.Plan.Downside
}

// uploads applies uploads whose first statements have the same text.
func (r *runner) uploads(all []*Upload) error {
	first := &all[0].Plan.Downside[0]
	for _, u := range all {
		if err := r.c.fillTimes(r.ctx, u.Plan, &u.Env); err != nil {
			return err
		}
	}
	if err := r.c.setOrigin(r.ctx, all[0]); err != nil {
		return err
	}
	if first.Op == rule.OpFile {
		return r.write(all[0], first.File)
	}
	var items []item
	for _, u := range all {
		for i := range u.rows.Len() {
			items = append(items, item{u, i})
		}
	}
	if len(items) == 0 {
		return nil
	}
	if err := r.settled(items); err != nil {
		return err
	}
	return r.supersede(items)
}

// all applies rows, and at the end those again that were postponed.
func (r *runner) all(items []item) error {
	if err := r.items(items); err != nil {
		return err
	}
	return r.finish()
}

// items applies rows in order, consecutive rows of one kind together.
func (r *runner) items(items []item) error {
	items, err := r.whole(items)
	if err != nil {
		return err
	}
	for len(items) > 0 {
		deleted := items[0].deleted()
		n := slices.IndexFunc(items, func(it item) bool { return it.deleted() != deleted })
		if n < 0 {
			n = len(items)
		}
		err := r.joined(items[:n])
		if err == nil {
			err = r.stamp(items[:n])
		}
		if err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// joined applies rows of one kind, many in a statement where that can be.
func (r *runner) joined(items []item) error {
	first := &items[0].chain()[0]
	if first.Insert == nil {
		return r.oneByOne(items)
	}
	marks := max(len(first.Args), 1)
	for len(items) > 0 {
		n := r.fitting(items, chunkSize(min(len(items), max(chunkMarks/marks, 1))))
		err := r.chunk(first, items[:n])
		// The engine undoes a failing statement as a whole, so that no row of the chunk is in the table now.
		if kindOf(err) == kindRow {
			err = r.oneByOne(items[:n])
		}
		if err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// fitting is how many of the first n rows one statement may have, by their size.
func (r *runner) fitting(items []item, n int) int {
	most := min(chunkBytes, r.s.maxPacket/2)
	weight := 0
	for i := range n {
		it := items[i]
		weight += rowset.Size(it.u.rows.Row(it.row))
		if weight > most && i > 0 {
			return chunkSize(i)
		}
	}
	return n
}

// chunk runs one multi-row statement.
func (r *runner) chunk(st *rule.Statement, items []item) error {
	var err error
	r.c.args = r.c.args[:0]
	for _, it := range items {
		if r.c.args, err = it.chain()[0].Bind(r.c.args, &it.u.Env, it.u.rows.Row(it.row)); err != nil {
			return mismatch("%v", err)
		}
	}
	n := len(items)
	_, err = r.c.exec(r.ctx, stmtKey{sql: st.SQL, tuples: n}, func() string { return st.Insert.Rows(n) })
	if err != nil {
		return &statementError{sql: st.SQL, err: err}
	}
	for _, it := range items {
		it.u.countApplied(st.Op)
	}
	return nil
}

func (u *Upload) countApplied(op rule.Op) {
	u.out.Applied++
	u.out.ByOp[op.String()]++
}

func (r *runner) oneByOne(items []item) error {
	for _, it := range items {
		if err := r.row(it); err != nil {
			return err
		}
	}
	return nil
}

// row runs the chain on one row. It runs the chain again when an update matched nothing and the insert after it met a
// row that another transaction has inserted in between.
func (r *runner) row(it item) error {
	taken, raced, refused, err := r.chain(it)
	if raced {
		taken, _, refused, err = r.chain(it)
	}
	if err != nil || taken {
		return err
	}
	if code, _ := codeOf(refused); code == keyIsNull && it.u.Plan.Guarded && !it.deleted() {
		if taken, refused, err = r.met(it); err != nil || taken {
			return err
		}
	}
	return r.postpone(it, refused)
}

// keyIsNull is the error of an upsert that met a row with another key, see rule.Plan.Guarded.
const keyIsNull = 1048

// met applies a row whose upsert met another row. Either that is the same row with another spelling of its key, or an
// insert says which unique key both have.
func (r *runner) met(it item) (taken bool, refused, err error) {
	st := it.chain()[0]
	insert := rule.Statement{Op: st.Op, SQL: st.Insert.Head + st.Insert.Tuple, Args: st.Args}
	tries := []*rule.Statement{&insert}
	if respell := it.u.Plan.Respell; respell != nil && it.caseless() {
		tries = []*rule.Statement{respell, &insert}
	}
	for _, st := range tries {
		switch _, err = r.one(st, it); {
		case err == nil:
			it.u.countApplied(st.Op)
			return true, nil, nil
		case kindOf(err) != kindRow:
			return false, nil, err
		}
		refused = err
	}
	return false, refused, nil
}

// chain tries each operation until one takes the row. An operation does not take the row when the row's data make it
// fail, or when it is an update or delete that matched no row and another operation follows. An update that comes last
// and matches nothing has taken the row, unless an operation before it was refused: then the row is in no table, and
// chain returns the refusal.
func (r *runner) chain(it item) (taken, raced bool, refused, err error) {
	chain := it.chain()
	unmatched := false
	for i := range chain {
		st := &chain[i]
		matched, err := r.one(st, it)
		switch {
		case kindOf(err) == kindRow:
			refused = err
			code, _ := codeOf(err)
			raced = unmatched && code == duplicateKey
			continue
		case err != nil:
			return false, false, nil, err
		}
		seeks := st.Op == rule.Update || st.Op == rule.Delete
		if seeks && matched == 0 && (i+1 < len(chain) || refused != nil) {
			unmatched = true
			continue
		}
		it.u.countApplied(st.Op)
		return true, false, nil, nil
	}
	return false, raced, refused, nil
}

// one runs a statement for one row and returns the rows it matched.
func (r *runner) one(st *rule.Statement, it item) (int64, error) {
	if st.Op == rule.OpFile {
		return 0, mismatch("a file takes whole batches and stands alone in its chain")
	}
	if err := r.c.bind(st, &it.u.Env, it.values()); err != nil {
		return 0, err
	}
	return r.bound(st)
}

// bound runs a statement with the values of c.args. A prepared insert of one tuple has the text of the statement
// itself.
func (r *runner) bound(st *rule.Statement) (int64, error) {
	key := stmtKey{sql: st.SQL}
	if st.Insert != nil {
		key.tuples = 1
	}
	n, err := r.c.exec(r.ctx, key, func() string { return st.SQL })
	if err != nil {
		return 0, &statementError{sql: st.SQL, err: err}
	}
	return n, nil
}

// updateState runs the update_state phase: once for each row when the statement uses the row, else once. A row that the
// database refuses fails the whole upload.
func (r *runner) updateState(p *rule.Plan, rows rowset.Rows, env *rule.Env) error {
	for i := range p.UpdateState {
		st := &p.UpdateState[i]
		n := 1
		if st.PerRow() {
			n = rows.Len()
		}
		for row := range n {
			var values []any
			if st.PerRow() {
				values = rows.Row(row)
			}
			err := r.c.bind(st, env, values)
			if err == nil {
				_, err = r.bound(st)
			}
			if kindOf(err) == kindRow {
				code, reason := codeOf(err)
				return &RowError{Row: row, Code: code, Reason: clip(reason, reasonMax)}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
