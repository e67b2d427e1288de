package rule

import (
	"fmt"
	"slices"
	"strings"
)

// Convert rewrites a JSON or literal row to the plain form with named parameters. A row that is plain or generated
// already comes back as it is. The diagnostics are those of the row as it was, so that differences to the seed's
// semantics are seen; the error says why a row cannot be converted.
func Convert(r Row) (Row, []Diagnostic, error) {
	p, ds := Compile(r, nil)
	if p == nil {
		return r, ds, fmt.Errorf("rule %d cannot be converted before it is correct: %s", r.ID, firstError(ds))
	}
	if p.Form == Generated || p.Form == Named {
		return r, ds, nil
	}
	out := r
	out.SQL = p.Options.text() + p.sections()
	out.OperationType, out.PatchField, out.PatchFieldValue = "", "", ""
	odd := func(name string) bool { return word(name) != name }
	if strings.TrimSpace(r.Field) != "" && !slices.ContainsFunc(p.Fields, odd) {
		out.Field = strings.Join(p.Fields, ", ")
	}
	again, more := Compile(out, nil)
	if again == nil {
		return r, ds, fmt.Errorf("rule %d cannot be written as plain SQL: %s", r.ID, firstError(more))
	}
	return out, ds, nil
}

// firstError is the first error among diagnostics that hold one.
func firstError(ds []Diagnostic) Diagnostic {
	return ds[slices.IndexFunc(ds, func(d Diagnostic) bool { return d.Severity == Error })]
}

// Init writes the rows that sync a table between a point (or AnyPoint) and the centre in the given directions, for both
// sides: all columns, generated SQL.
func Init(table, point string, types ...string) []Row {
	var rows []Row
	for _, typ := range types {
		for _, user := range []string{Server, Client} {
			rows = append(rows, Row{Table: table, Type: typ, User: user, PointNo: point, Enabled: true,
				Note: "statements are generated from the table; see syncgate rules show"})
		}
	}
	return rows
}
