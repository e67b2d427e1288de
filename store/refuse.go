package store

import (
	"cmp"
	"slices"

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

// mayPass reports whether a later change of other rows may let the database take a row: a parent that is missing, a child
// that is still there, or, where an upsert does not look for that, another row with a unique value of this one.
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
	for i, it := range items {
		if it.deleted() || it.u.Plan.Loses(it.values()) == "" {
			continue
		}
		kept := slices.Clone(items[:i])
		for _, it := range items[i:] {
			switch loss := it.u.Plan.Loses(it.values()); {
			case loss != "" && !it.deleted() && it.u.Plan.Rounding:
				r.s.count(rowsRounded, it.u.Plan.Row.Table, 1, nil)
				kept = append(kept, it)
			case loss != "" && !it.deleted():
				if err := r.refuse(it, &mysql.MySQLError{Number: valueCut, Message: loss}); err != nil {
					return nil, err
				}
			default:
				kept = append(kept, it)
			}
		}
		return kept, nil
	}
	return items, nil
}
