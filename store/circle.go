package store

import (
	"context"
	"errors"
	"slices"
	"strings"

	"syncgate/rule"
)

// Foreign keys may form a circle: a shop has a manager, who works in a shop. Rows of such tables may need each other, so
// that no order applies them. When rows of a circle wait, they are applied in one transaction without the database's
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

// applyCircle applies rows without the database's check of foreign keys, and returns the ids of those that are taken and
// have their parents. errOrphans: these are not all.
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
				err := t.Each(ctx, q, func(scanner) error { orphans[r.ID] = true; return nil }, w.plan.KeyIn(r.Fields, r.Values)...)
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

// parentChecks are a query for each foreign key of a table. It finds the row with a key when the row's parent is missing.
func (t *Tx) parentChecks(ctx context.Context, table string, columns []string) ([]string, error) {
	schema, name := splitName(table)
	child := (&rule.Table{Schema: schema, Name: name}).Quoted() + " child"
	key := rule.Join(columns, " AND ", func(k string) string { return "child." + rule.Quote(k) + " = ?" })
	type check struct{ constraint, parent, set, on string }
	var all []check
	err := t.Each(ctx, `SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name, referenced_column_name
		FROM information_schema.key_column_usage WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?
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
