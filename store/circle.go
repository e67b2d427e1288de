package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Foreign keys may form a circle: a shop has a manager, who works in a shop. Rows of such tables may need each other, so
// that no order applies them. When rows of a circle wait, they are applied in one transaction without the database's
// check, and each of them is checked before the commit.

// errOrphans ends a transaction in which some rows refer to rows that are missing.
var errOrphans = errors.New("rows refer to rows that are missing")

// waitingRow is a row of a circle with the plan that applies it.
type waitingRow struct {
	QuarantinedRow
	plan *rule.Plan
	env  rule.Env
}

// retryCircles applies waiting rows that need each other. Rows that need others as well stay where they are.
func (s *Store) retryCircles(ctx context.Context, find FindPlan, rows []QuarantinedRow) (took int, err error) {
	circle := inCircles(find, rows)
	for len(circle) > 0 {
		orphans := map[uint64]bool{}
		err := s.inTx(ctx, func(tx *Tx) error {
			clear(orphans)
			return tx.applyCircle(ctx, circle, orphans)
		})
		if err == nil {
			s.count(rowsLeftQuarantine, "retried", uint64(len(circle)), nil)
			return len(circle), nil
		}
		if !errors.Is(err, errOrphans) {
			return 0, err
		}
		circle = slices.DeleteFunc(circle, func(r waitingRow) bool { return orphans[r.ID] })
	}
	return 0, nil
}

// inCircles are the rows that lack a parent and whose tables refer to each other in a circle.
func inCircles(find FindPlan, rows []QuarantinedRow) (circle []waitingRow) {
	parents := map[string][]string{}
	for _, row := range rows {
		if plan, env := find(&row); plan != nil && plan.HasKey() && (row.Code == noParent || row.Code == 1216) {
			circle = append(circle, waitingRow{row, plan, env})
			parents[strings.ToLower(row.Table)] = plan.Parents
		}
	}
	return slices.DeleteFunc(circle, func(r waitingRow) bool {
		table := strings.ToLower(r.Table)
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

// applyCircle applies rows without the database's check of foreign keys, and fails with errOrphans, having named them,
// when rows of them are refused or lack a parent.
func (t *Tx) applyCircle(ctx context.Context, rows []waitingRow, orphans map[uint64]bool) (err error) {
	waiting := make([]QuarantinedRow, len(rows))
	for i := range rows {
		waiting[i], orphans[rows[i].ID] = rows[i].QuarantinedRow, true
	}
	locked, err := t.lockQuarantined(ctx, waiting)
	if err != nil {
		return err
	}
	for _, row := range locked {
		delete(orphans, row.ID) // the others have left the quarantine meanwhile
	}
	check := func(on string) error {
		return onConn(t.sc, func(c *conn) error {
			err := c.text(context.WithoutCancel(ctx), "SET SESSION foreign_key_checks = "+on)
			c.broken = c.broken || err != nil
			return err
		})
	}
	if err := check("0"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, check("1")) }()
	for _, r := range rows {
		if orphans[r.ID] {
			continue
		}
		plan := *r.plan
		plan.AllOrNothing = false
		out, err := t.apply(ctx, &plan, rowset.Rows{Columns: r.Fields, Values: r.Values}, r.env, true)
		if err != nil {
			return err
		}
		orphans[r.ID] = len(out.Quarantined) > 0
	}
	checks := map[string][]string{}
	for _, r := range rows {
		if orphans[r.ID] {
			continue
		}
		if orphans[r.ID], err = t.lacksParent(ctx, r, checks); err != nil {
			return err
		}
	}
	maps.DeleteFunc(orphans, func(_ uint64, is bool) bool { return !is })
	if len(orphans) > 0 {
		return errOrphans
	}
	ids := make([]any, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	_, err = t.Exec(ctx, "DELETE FROM sync_quarantine WHERE id IN (?"+strings.Repeat(", ?", len(ids)-1)+")", ids...)
	return err
}

// lacksParent reports whether a foreign key of a row that was applied refers to nothing.
func (t *Tx) lacksParent(ctx context.Context, r waitingRow, checks map[string][]string) (lacks bool, err error) {
	queries, known := checks[r.Table]
	if !known {
		if queries, err = t.parentChecks(ctx, r); err != nil {
			return false, err
		}
		checks[r.Table] = queries
	}
	for _, q := range queries {
		err := t.Each(ctx, q, func(scanner) error { lacks = true; return nil }, r.plan.KeyIn(r.Fields, r.Values)...)
		if err != nil || lacks {
			return lacks, err
		}
	}
	return false, nil
}

// parentChecks are a query for each foreign key of a table. It finds the row with a key when the row's parent is missing.
func (t *Tx) parentChecks(ctx context.Context, r waitingRow) ([]string, error) {
	schema, name, qualified := strings.Cut(r.Table, ".")
	if !qualified {
		schema, name = "", r.Table
	}
	table := quoteName(name)
	if qualified {
		table = quoteName(schema) + "." + table
	}
	key := make([]string, len(r.plan.Key))
	for i, k := range r.plan.Key {
		key[i] = "child." + quoteName(k) + " = ?"
	}
	type check struct{ parent, set, on string }
	var names []string
	all := map[string]*check{}
	err := t.Each(ctx, `SELECT constraint_name, column_name, referenced_table_schema, referenced_table_name, referenced_column_name
		FROM information_schema.key_column_usage WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?
		AND referenced_table_name IS NOT NULL ORDER BY constraint_name, ordinal_position`, func(scan scanner) error {
		var name, column, schema, parent, referred string
		if err := scan(&name, &column, &schema, &parent, &referred); err != nil {
			return err
		}
		if all[name] == nil {
			names = append(names, name)
			all[name] = &check{parent: quoteName(schema) + "." + quoteName(parent)}
		}
		c := all[name]
		c.set += " AND child." + quoteName(column) + " IS NOT NULL"
		c.on += " AND parent." + quoteName(referred) + " = child." + quoteName(column)
		return nil
	}, schema, name)
	var queries []string
	for _, name := range names {
		c := all[name]
		queries = append(queries, "SELECT 1 FROM "+table+" child WHERE "+strings.Join(key, " AND ")+c.set+
			" AND NOT EXISTS (SELECT 1 FROM "+c.parent+" parent WHERE TRUE"+c.on+" LOCK IN SHARE MODE)")
	}
	return queries, err
}
