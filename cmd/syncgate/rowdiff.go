package main

import (
	"fmt"
	"io"
	"strings"

	"syncgate/rule"
)

// change is one column of sync_control before and after.
type change struct{ column, before, after string }

// rowDiff lists the columns in which two versions of a row differ; nil is no row.
func rowDiff(before, after *rule.Row) []change {
	var list []change
	b, a := columnsOf(before), columnsOf(after)
	for i := range a {
		if a[i].text != b[i].text {
			list = append(list, change{a[i].name, b[i].text, a[i].text})
		}
	}
	return list
}

type columnText struct{ name, text string }

// columnsOf is what a DBA may edit of a row, in the table's order.
func columnsOf(r *rule.Row) []columnText {
	exists := r != nil
	if !exists {
		r = &rule.Row{}
	}
	flag := func(b bool) string {
		switch {
		case !exists:
			return ""
		case b:
			return "1"
		default:
			return "0"
		}
	}
	return []columnText{
		{"sync_table", r.Table}, {"sync_type", r.Type}, {"sync_user", r.User}, {"sync_point_no", r.PointNo},
		{"sync_field", r.Field}, {"sync_range", r.Range}, {"sync_range_value", r.RangeValue},
		{"sync_operation_type", r.OperationType}, {"sync_sql", r.SQL}, {"sync_patch_field", r.PatchField},
		{"sync_patch_field_value", r.PatchFieldValue}, {"sync_is_carry_state", flag(r.CarryState)},
		{"sync_is_use_state_carry_data", flag(r.UseCarriedState)}, {"sync_is_update_state", flag(r.UpdateState)},
		{"sync_is_update_time", flag(r.UpdateTime)}, {"enabled", flag(r.Enabled)}, {"note", r.Note},
	}
}

// writeDiff prints the lines that went with - and those that came with +, under the
// name of their column. Lines that begin or end both versions are left out.
func writeDiff(w io.Writer, list []change) {
	for _, d := range list {
		fmt.Fprintf(w, "  %s\n", d.column)
		before, after := lines(d.before), lines(d.after)
		for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
			before, after = before[1:], after[1:]
		}
		for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
			before, after = before[:len(before)-1], after[:len(after)-1]
		}
		for _, l := range before {
			fmt.Fprintf(w, "    - %s\n", l)
		}
		for _, l := range after {
			fmt.Fprintf(w, "    + %s\n", l)
		}
	}
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
