package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/internal/text"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

func newRules() *cobra.Command {
	return cli.Group("rules", "Show, check and try rows of sync_control, and undo an edit",
		newRulesList(), newRulesShow(), newRulesCheck(), newRulesExplain(), newRulesTry(),
		newRulesConvert(), newRulesInit(), newRulesResync(), newRulesHistory(), newRulesDiff(), newRulesRevert())
}

// rule finds a row of sync_control.
func (c *call) rule(id uint64) (rule.Row, error) {
	rows, err := c.db.Rules(c.Context())
	for _, row := range rows {
		if row.ID == id {
			return row, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("sync_control has no row with id %d; 'syncgate rules list' shows its rows", id)
	}
	return rule.Row{}, err
}

func newRulesList() *cobra.Command {
	const short = "List the rules with the state that the server recorded"
	return onCentre("list", short, textOrJSON, func(c *call) error {
		rows, err := c.db.RuleStates(c.Context())
		if err != nil {
			return err
		}
		const heading = "ID\tTABLE\tTYPE\tSIDE\tPOINT\tSTATE\tROWS MOVED\tFAILURES\tLAST RUN\tLAG\tBACKLOG\tERROR"
		return list(c, rows, heading, func(r *store.RuleLine) []any {
			return []any{r.ID, r.Table, r.Type, r.User, r.PointNo, r.State, r.RowsMoved, r.Failures, r.LastRun,
				lag(r.LagMs), r.BacklogRows, r.Error}
		})
	})
}

func newRulesShow() *cobra.Command {
	const short = "Show a rule's statements, also generated ones, and the values bound to each"
	return onCentre("show ID", short, "", func(c *call) error {
		row, err := c.rule(c.id)
		if err != nil {
			return err
		}
		plan, ds, err := c.compile(row)
		if err != nil {
			return err
		}
		if plan != nil {
			fmt.Fprint(c.out, plan.Describe())
		}
		return c.verdict(row, ds)
	})
}

// table reads a table's definition; nil when the database has no such table.
func (c *call) table(name string) (*rule.Table, error) {
	return c.db.NewChecker().Table(c.Context(), name)
}

// compile makes a row's plan as the server would. The server makes no plan of a point's own row; that row is compiled
// with the definition of the table of the same name here.
func (c *call) compile(row rule.Row) (*rule.Plan, []rule.Diagnostic, error) {
	table, err := c.table(row.Table)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case row.User != rule.Client:
		return ruleset.Compile(c.Context(), c.db, rule.Server, row, table)
	case row.SQL == "" && table == nil:
		return nil, nil, fmt.Errorf("rule %d is a point's; its agent writes the statements from the point's table %s. "+
			"The centre has no table of that name to show them by", row.ID, row.Table)
	}
	plan, ds := rule.Compile(row, table)
	return plan, ds, nil
}

// verdict prints the diagnostics of a rule, and returns an error when one of them is an error.
func (c *call) verdict(row rule.Row, ds []rule.Diagnostic) error {
	out := c.out
	if c.format == "json" {
		out = c.ErrOrStderr()
	}
	for _, d := range ds {
		fmt.Fprintln(out, d)
	}
	if worst, _ := rule.Worst(ds); worst == rule.Error {
		return fmt.Errorf("%s of %s, %s side, point %s, cannot run as it stands",
			row.Type, row.Table, row.User, row.PointNo)
	}
	return nil
}

// plan returns the plan of a row of sync_control, or an error when the row cannot run.
func (c *call) plan(id uint64) (*rule.Plan, error) {
	row, err := c.rule(id)
	if err != nil {
		return nil, err
	}
	plan, ds, err := c.compile(row)
	if err != nil {
		return nil, err
	}
	return plan, c.verdict(row, ds)
}

func newRulesCheck() *cobra.Command {
	const short = "Check every row of sync_control; exit 0 clean, 1 warnings, 2 errors; needs no running server"
	return onCentre("check", short, "text, json, sarif", func(c *call) error {
		ds, rules, err := c.checkAll()
		if err != nil {
			return err
		}
		if err := c.writeDiagnostics(ds, rules); err != nil {
			return err
		}
		switch worst, _ := rule.Worst(ds); worst {
		case rule.Error:
			return &cli.ExitError{Code: 2}
		case rule.Warning:
			return &cli.ExitError{Code: 1}
		}
		return nil
	})
}

// checkAll checks each row by itself and all of them together, in the order of id.
func (c *call) checkAll() (ds []rule.Diagnostic, rules int, err error) {
	all, err := c.db.Rules(c.Context())
	if err != nil {
		return nil, 0, err
	}
	db := c.db.NewChecker()
	found, errs := make([][]rule.Diagnostic, len(all)), make([]error, len(all))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range checkWorkers {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all); i = int(next.Add(1)) - 1 {
				if row := all[i]; row.Enabled {
					found[i], errs[i] = c.check(db, row)
				}
			}
		})
	}
	workers.Wait()
	if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
		return nil, 0, fmt.Errorf("rule %d: %w", all[i].ID, errs[i])
	}
	ds = append(slices.Concat(found...), rule.CheckSet(all, func(name string) *rule.Table {
		t, e := db.Table(c.Context(), name)
		err = errors.Join(err, e)
		return t
	})...)
	return unique(ds), len(all), err
}

// checkWorkers is how many rules are checked at once: each waits for the database most of the time.
const checkWorkers = 4

func (c *call) check(db *store.Checker, row rule.Row) ([]rule.Diagnostic, error) {
	table, err := db.Table(c.Context(), row.Table)
	if err != nil {
		return nil, err
	}
	_, ds, err := ruleset.Compile(c.Context(), db, rule.Server, row, table)
	return ds, err
}

// unique sorts the diagnostics by row, errors first, and removes duplicates.
func unique(ds []rule.Diagnostic) []rule.Diagnostic {
	slices.SortStableFunc(ds, func(a, b rule.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.RuleID, b.RuleID), cmp.Compare(b.Severity, a.Severity),
			cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col), cmp.Compare(a.Code, b.Code))
	})
	return slices.Compact(ds)
}

func (c *call) writeDiagnostics(ds []rule.Diagnostic, rules int) error {
	switch c.format {
	case "json":
		return cli.WriteJSON(c.out, append([]rule.Diagnostic{}, ds...))
	case "sarif":
		return writeSARIF(c.out, ds)
	}
	count := map[rule.Severity]int{}
	for _, d := range ds {
		count[d.Severity]++
		fmt.Fprintln(c.out, d)
	}
	_, err := fmt.Fprintf(c.out, "%s: %s, %s, %s\n", text.Plural(rules, "rule"),
		text.Plural(count[rule.Error], "error"), text.Plural(count[rule.Warning], "warning"),
		text.Plural(count[rule.Info], "remark"))
	return err
}

// object is a JSON object.
type object = map[string]any

// writeSARIF prints diagnostics as SARIF 2.1.0 (OASIS), for code review and CI. A row of sync_control is not a file: a
// finding has a logical location, and the position within the column is a region of an artifact named after it.
func writeSARIF(w io.Writer, ds []rule.Diagnostic) error {
	rules, results := []object{}, []object{}
	seen := map[rule.Code]bool{}
	for _, d := range ds {
		results = append(results, sarifResult(d))
		if !seen[d.Code] {
			seen[d.Code] = true
			info := protocol.Status(d.Code).Info()
			rules = append(rules, object{"id": d.Code.String(), "name": info.Name,
				"shortDescription": object{"text": info.Meaning}, "help": object{"text": info.Remedy}})
		}
	}
	driver := object{"name": "syncgate", "version": cli.Version(), "rules": rules}
	return cli.WriteJSON(w, object{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{"tool": object{"driver": driver}, "results": results}}})
}

func sarifResult(d rule.Diagnostic) object {
	text, column := d.Message, d.Column
	if d.Fix != "" {
		text += "; " + d.Fix
	}
	if d.Section != "" {
		column += "/" + d.Section
	}
	place := object{"artifactLocation": object{"uri": fmt.Sprintf("sync_control/%d/%s", d.RuleID, column)}}
	if d.Line > 0 {
		place["region"] = object{"startLine": d.Line, "startColumn": d.Col}
	}
	row := object{"fullyQualifiedName": fmt.Sprintf("sync_control id=%d", d.RuleID), "kind": "row"}
	level := map[rule.Severity]string{rule.Error: "error", rule.Warning: "warning", rule.Info: "note"}[d.Severity]
	return object{"ruleId": d.Code.String(), "level": level, "message": object{"text": text},
		"locations": []object{{"physicalLocation": place, "logicalLocations": []object{row}}}}
}
