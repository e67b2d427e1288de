package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

func newRulesCheck() *cobra.Command {
	r := &rulesCommand{}
	return r.command("check", "Check every row of sync_control; exit 0 clean, 1 warnings, 2 errors; needs no running server", cobra.NoArgs,
		[]string{"text", "json", "sarif"},
		func(c *cobra.Command, db *centre, _ []string) error {
			ds, rows, err := checkAll(c.Context(), db)
			if err != nil {
				return err
			}
			if err := writeDiagnostics(c.OutOrStdout(), r.format, ds, rows); err != nil {
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
func checkAll(ctx context.Context, db *centre) (ds []rule.Diagnostic, rows int, err error) {
	all, err := db.Rules(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, row := range all {
		if !row.Enabled {
			continue
		}
		_, found, err := compile(ctx, db, row)
		if err != nil {
			return nil, 0, fmt.Errorf("rule %d: %w", row.ID, err)
		}
		ds = append(ds, found...)
	}
	facts := func(name string) *rule.Table {
		t, e := db.Table(ctx, name)
		if e != nil && !errors.Is(e, store.ErrNoTable) {
			err = e
		}
		return t
	}
	ds = append(ds, rule.CheckSet(all, facts)...)
	return unique(ds), len(all), err
}

// unique puts the diagnostics in the order of rows and says nothing twice.
func unique(ds []rule.Diagnostic) []rule.Diagnostic {
	slices.SortStableFunc(ds, func(a, b rule.Diagnostic) int { return cmp.Compare(a.RuleID, b.RuleID) })
	seen := map[rule.Diagnostic]bool{}
	return slices.DeleteFunc(ds, func(d rule.Diagnostic) bool {
		again := seen[d]
		seen[d] = true
		return again
	})
}

func writeDiagnostics(w io.Writer, format string, ds []rule.Diagnostic, rows int) error {
	switch format {
	case "json":
		if ds == nil {
			ds = []rule.Diagnostic{}
		}
		return writeJSON(w, ds)
	case "sarif":
		return writeSARIF(w, ds)
	}
	count := map[rule.Severity]int{}
	for _, d := range ds {
		count[d.Severity]++
		fmt.Fprintln(w, d)
	}
	_, err := fmt.Fprintf(w, "%d rules: %d errors, %d warnings, %d remarks\n", rows, count[rule.Error], count[rule.Warning], count[rule.Info])
	return err
}
