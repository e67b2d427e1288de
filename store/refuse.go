package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"syncgate/rule"
)

// A row that the database refuses may be taken a little later. The row it refers to comes later in the same upload, or
// another row of the upload gives a unique value free. Such rows are postponed to the end of the upload. Those that are
// refused then as well go to sync_quarantine, where they wait (waiting.go).

// postponed is a row that is tried again, and the error it had.
type postponed struct {
	item
	refused error
}

// laterPasses bounds how often the postponed rows are tried in one upload. Every second pass goes backwards, so that
// neither order of parents and children needs many.
const laterPasses = 16

// numbers of MySQL's errors
const (
	valueCut    = 1265
	noDefault   = 1364
	rowReferred = 1451
	noParent    = 1452
)

// mayPass reports whether a later change of other rows may let the database take a row: a parent that is missing, a
// child that is still there, or, where an upsert does not look for that, another row with a unique value of this one.
func mayPass(p *rule.Plan, code int) bool {
	switch code {
	case duplicateKey, 1022, 1169, 1586:
		return p.Guarded
	}
	return isForeign(code) && p.HasKey()
}

// isForeign reports whether an error is about a foreign key.
func isForeign(code int) bool {
	return code == rowReferred || code == 1217 || code == noParent || code == 1216
}

// postpone keeps a row for the end of its upload, or refuses it when nothing in the upload can help.
func (r *runner) postpone(it item, refused error) error {
	code, _ := codeOf(refused)
	p := it.u.Plan
	if r.shared || !mayPass(p, code) || isForeign(code) && !p.OwnParent() || it.comesAgain() {
		return r.refuse(it, refused)
	}
	r.leave(it)
	r.postponed = append(r.postponed, postponed{it, refused})
	return nil
}

// leave notes that no operation has taken a row.
func (r *runner) leave(it item) {
	if r.left == nil {
		r.left = map[item]bool{}
	}
	r.left[it] = true
}

// comesAgain reports whether a later row of the upload has the same key. The later row must not be applied first.
func (it item) comesAgain() bool {
	if it.u.lastOf == nil {
		it.u.lastOf = map[string]int{}
		for row := range it.u.rows.Len() {
			it.u.lastOf[item{it.u, row}.key()] = row
		}
	}
	return it.u.lastOf[it.key()] > it.row
}

// finish tries the postponed rows until none of them is taken any more, and refuses the rest.
func (r *runner) finish() error {
	for pass, took := 1, true; took && len(r.postponed) > 0 && pass <= laterPasses; pass++ {
		rows := r.postponed
		if pass%2 == 0 {
			slices.Reverse(rows)
		}
		if err := r.tryAgain(rows); err != nil {
			return err
		}
		took = len(r.postponed) < len(rows)
	}
	if err := r.swap(); err != nil {
		return err
	}
	rest := r.postponed
	r.postponed = nil
	for _, p := range rest {
		if err := r.refuse(p.item, p.refused); err != nil {
			return err
		}
	}
	return nil
}

// tryAgain applies rows one by one; r.postponed are then those that were refused again.
func (r *runner) tryAgain(rows []postponed) error {
	r.postponed = nil
	for _, p := range rows {
		delete(r.left, p.item)
		err := r.row(p.item)
		if err == nil && !r.left[p.item] {
			err = r.stamp([]item{p.item})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// swap applies rows that hold unique values which others of them want. It first makes all of them give up theirs. When
// some are refused even so, that is undone for all, and the others are tried without them.
func (r *runner) swap() error {
	var rows, rest []postponed
	for _, p := range r.postponed {
		if code, _ := codeOf(p.refused); code == duplicateKey && p.u.Plan.Free != nil && !p.deleted() {
			rows = append(rows, p)
		} else {
			rest = append(rest, p)
		}
	}
	for len(rows) > 1 {
		if err := r.c.text(r.ctx, "SAVEPOINT sync_swap"); err != nil {
			return err
		}
		u, out := rows[0].u, rows[0].u.out.clone()
		for _, p := range rows {
			if _, err := r.one(p.u.Plan.Free, p.item); err != nil && kindOf(err) != kindRow {
				return err // a row that keeps its values keeps the others out, too
			}
		}
		if err := r.tryAgain(rows); err != nil {
			return err
		}
		failed := r.postponed
		if len(failed) == 0 && len(out.Quarantined) == len(u.out.Quarantined) && out.LeftOut == u.out.LeftOut {
			rows = nil
			break
		}
		if err := r.c.text(r.ctx, "ROLLBACK TO SAVEPOINT sync_swap"); err != nil {
			return err
		}
		*u.out = out
		for _, p := range rows {
			r.leave(p.item)
		}
		rest = append(rest, failed...)
		n := len(rows)
		rows = slices.DeleteFunc(rows, func(p postponed) bool {
			return slices.ContainsFunc(failed, func(f postponed) bool { return f.item == p.item })
		})
		if len(rows) == n {
			break
		}
	}
	r.postponed = append(rest, rows...)
	return nil
}

// refuse puts a row into the quarantine, or fails the upload when the rule is all-or-nothing. A column without a
// default fails it too: nothing is wrong with the row, and the rows after it would have the same error.
func (r *runner) refuse(it item, refused error) error {
	if r.shared {
		return errSplit
	}
	r.leave(it)
	code, reason := codeOf(refused)
	switch {
	case it.u.Plan.AllOrNothing:
		return &RowError{Row: it.row, Code: code, Reason: clip(reason, reasonMax)}
	case code == noDefault:
		return refused
	}
	waits := mayPass(it.u.Plan, code)
	all := &it.u.out.Quarantined
	if len(*all) >= toldRows && !r.again {
		it.u.out.LeftOut++
		return r.quarantine(it, code, reason, waits)
	}
	at, _ := slices.BinarySearchFunc(*all, it.row, func(q Quarantined, row int) int { return cmp.Compare(q.Row, row) })
	*all = slices.Insert(*all, at, Quarantined{Row: it.row, Code: code, Reason: clip(reason, reasonMax), Waits: waits})
	if r.again {
		return nil
	}
	return r.quarantine(it, code, reason, waits)
}

// reasonMax limits the reason in a reply, in bytes. sync_quarantine has the full reason.
const reasonMax = 300

// whole refuses rows that have a value which its column would cut or round, and returns the others. The database itself
// does so without an error.
func (r *runner) whole(items []item) ([]item, error) {
	kept, all := items, true
	for i, it := range items {
		loss := ""
		if !it.deleted() {
			loss = it.u.Plan.Loses(it.values())
		}
		switch {
		case loss != "" && it.u.Plan.Rounding:
			r.s.count(rowsRounded, it.u.Plan.Row.Table, 1, nil)
		case loss != "":
			if err := r.refuse(it, &mysql.MySQLError{Number: valueCut, Message: loss}); err != nil {
				return nil, err
			}
			if all {
				kept, all = slices.Clone(items[:i]), false
			}
			continue
		}
		if !all {
			kept = append(kept, it)
		}
	}
	return kept, nil
}

// Foreign keys may form a circle: a shop has a manager, who works in a shop. Rows of such tables may need each other,
// so that no order applies them. When rows of a circle wait, they are applied in one transaction without the database's
// check, and each of them is checked before the commit.

// errOrphans ends a transaction in which some rows refer to rows that are missing.
var errOrphans = errors.New("rows refer to rows that are missing")

// retryCircles applies waiting rows that need each other. Rows that need others as well stay where they are.
func (s *Store) retryCircles(ctx context.Context, all []waitingRows) (took int, err error) {
	for circle := inCircles(all); len(circle) > 0; {
		var taken []any
		err := s.inTx(ctx, func(tx *Tx) (err error) {
			taken, err = tx.applyCircle(ctx, circle)
			return err
		})
		if !errors.Is(err, errOrphans) {
			if err == nil {
				took = len(taken)
			}
			s.count(rowsLeftQuarantine, "retried", uint64(took), nil)
			return took, err
		}
		left := map[any]bool{}
		for _, id := range taken {
			left[id] = true
		}
		circle = only(circle, func(_ *waitingRows, r *QuarantinedRow) bool { return left[r.ID] })
	}
	return 0, nil
}

// only are the groups with the rows that are wanted.
func only(all []waitingRows, want func(w *waitingRows, r *QuarantinedRow) bool) (some []waitingRows) {
	for _, w := range all {
		w.rows = slices.DeleteFunc(slices.Clone(w.rows), func(r QuarantinedRow) bool { return !want(&w, &r) })
		if len(w.rows) > 0 {
			some = append(some, w)
		}
	}
	return some
}

// inCircles are the rows that lack a parent and whose tables refer to each other in a circle.
func inCircles(all []waitingRows) []waitingRows {
	orphans := only(all, func(w *waitingRows, r *QuarantinedRow) bool {
		return w.plan.HasKey() && (r.Code == noParent || r.Code == 1216)
	})
	parents := map[string][]string{}
	for _, w := range orphans {
		parents[strings.ToLower(w.rows[0].Table)] = w.plan.Parents
	}
	return slices.DeleteFunc(orphans, func(w waitingRows) bool {
		table := strings.ToLower(w.rows[0].Table)
		reached := map[string]bool{}
		for next := parents[table]; len(next) > 0 && !reached[table]; {
			name := strings.ToLower(next[0])
			if next = next[1:]; !reached[name] {
				reached[name] = true
				next = slices.Concat(next, parents[name])
			}
		}
		return !reached[table]
	})
}

// applyCircle applies rows without the database's check of foreign keys, and returns the ids of those that are taken
// and have their parents. errOrphans: these are not all.
func (t *Tx) applyCircle(ctx context.Context, circle []waitingRows) (taken []any, err error) {
	check := func(on string) error {
		return onConn(t.sc, func(c *conn) error {
			err := c.text(context.WithoutCancel(ctx), "SET SESSION foreign_key_checks = "+on)
			c.broken = c.broken || err != nil
			return err
		})
	}
	if err := check("0"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, check("1")) }()
	rows := 0
	for _, w := range circle {
		ids, err := t.applyWaiting(ctx, w, false)
		if err != nil {
			return nil, err
		}
		rows, taken = rows+len(w.rows), append(taken, ids...)
	}
	orphans := map[any]bool{}
	for _, w := range circle {
		queries, err := t.parentChecks(ctx, w.rows[0].Table, w.plan.Key)
		if err != nil {
			return nil, err
		}
		for _, r := range w.rows {
			for _, q := range queries {
				err := t.Each(ctx, q, func(scanner) error {
					orphans[r.ID] = true
					return nil
				}, w.plan.KeyIn(r.Fields, r.Values)...)
				if err != nil {
					return nil, err
				}
			}
		}
	}
	taken = slices.DeleteFunc(taken, func(id any) bool { return orphans[id] })
	if len(taken) < rows {
		return taken, errOrphans
	}
	return taken, t.dropQuarantined(ctx, taken)
}

// parentChecks are a query for each foreign key of a table. It finds the row with a key when the row's parent is
// missing.
func (t *Tx) parentChecks(ctx context.Context, table string, columns []string) ([]string, error) {
	schema, name := splitName(table)
	child := (&rule.Table{Schema: schema, Name: name}).Quoted() + " child"
	key := rule.Join(columns, " AND ", func(k string) string { return "child." + rule.Quote(k) + " = ?" })
	type check struct{ constraint, parent, set, on string }
	var all []check
	err := t.Each(ctx, `SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name,
		referenced_column_name FROM information_schema.key_column_usage
		WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?
		AND referenced_table_name IS NOT NULL ORDER BY constraint_name, ordinal_position`, func(scan scanner) error {
		var name, column, schema, parent, referred string
		if err := scan(&name, &column, &schema, &parent, &referred); err != nil {
			return err
		}
		if n := len(all); n == 0 || all[n-1].constraint != name {
			all = append(all, check{constraint: name, parent: rule.Quote(schema) + "." + rule.Quote(parent)})
		}
		c := &all[len(all)-1]
		c.set += " AND child." + rule.Quote(column) + " IS NOT NULL"
		c.on += " AND parent." + rule.Quote(referred) + " = child." + rule.Quote(column)
		return nil
	}, schema, name)
	var queries []string
	for _, c := range all {
		queries = append(queries, "SELECT 1 FROM "+child+" WHERE "+key+c.set+
			" AND NOT EXISTS (SELECT 1 FROM "+c.parent+" parent WHERE TRUE"+c.on+" LOCK IN SHARE MODE)")
	}
	return queries, err
}
