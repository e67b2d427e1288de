package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"syncgate/business"
	"syncgate/cmd/internal/cli"
	"syncgate/protocol"
	"syncgate/rule"
)

func newRulesCheck() *cobra.Command {
	return onCentre("check", "Check every row of sync_control; exit 0 clean, 1 warnings, 2 errors; needs no running server", "text, json, sarif", func(c *call) error {
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
	for _, row := range all {
		if !row.Enabled {
			continue
		}
		table, err := c.table(row.Table)
		var found []rule.Diagnostic
		if err == nil {
			_, found, err = business.Compile(c.Context(), c.db, row, table)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("rule %d: %w", row.ID, err)
		}
		ds = append(ds, found...)
	}
	ds = append(ds, rule.CheckSet(all, func(name string) *rule.Table {
		t, e := c.table(name)
		err = errors.Join(err, e)
		return t
	})...)
	return unique(ds), len(all), err
}

// unique puts the diagnostics in the order of rows, errors first, and says nothing twice.
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
		return writeJSON(c.out, append([]rule.Diagnostic{}, ds...))
	case "sarif":
		return writeSARIF(c.out, ds)
	}
	count := map[rule.Severity]int{}
	for _, d := range ds {
		count[d.Severity]++
		fmt.Fprintln(c.out, d)
	}
	_, err := fmt.Fprintf(c.out, "%s: %s, %s, %s\n", plural(rules, "rule"),
		plural(count[rule.Error], "error"), plural(count[rule.Warning], "warning"), plural(count[rule.Info], "remark"))
	return err
}

// object is a JSON object.
type object = map[string]any

// writeSARIF prints diagnostics for tools that read SARIF 2.1.0 (OASIS), as code review and
// CI do. A row of sync_control is no file, so a finding carries a logical location, and the
// position within the column is a region of an artifact named after that column.
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
	return writeJSON(w, object{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
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
