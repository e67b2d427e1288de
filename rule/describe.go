package rule

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Describe is the plan as `rules show` prints it: plain SQL in sections, with all else in comments. The sections
// compile to the same statements.
func (p *Plan) Describe() string {
	var b strings.Builder
	r := &p.Row
	fmt.Fprintf(&b, "-- rule %d: %s of %s, %s side, point %s (%s)\n", r.ID, r.Type, r.Table, r.User, r.PointNo, p.Form)
	list := func(names []string) string { return strings.ReplaceAll(strings.Join(names, ", "), "\n", " ") }
	if len(p.Fields) > 0 {
		b.WriteString("-- fields: " + list(p.Fields) + "\n")
	}
	if p.Period > 0 {
		fmt.Fprintf(&b, "-- period: %d hours\n", int(p.Period.Hours()))
	}
	if p.Paged() {
		b.WriteString("-- pages begin behind: " + list(p.Cursor) + "\n")
	}
	b.WriteString(p.Options.text())
	if p.Load != nil {
		b.WriteString("-- before there is any state:\n--   " +
			strings.ReplaceAll(p.Load.Start.named, "\n", "\n--   ") + "\n")
	}
	for _, s := range p.Upside {
		if s.Start != nil {
			b.WriteString("-- the first page:\n--   " + strings.ReplaceAll(s.Start.named, "\n", "\n--   ") + "\n")
		}
	}
	b.WriteString(p.sections())
	return b.String()
}

// sections is the plan's statements in the plain form.
func (p *Plan) sections() string {
	var b strings.Builder
	for _, s := range slices.Concat(p.Upside, p.Downside, p.UpdateState) {
		b.WriteString("-- " + s.phase.String())
		if s.phase == downside {
			b.WriteString(": " + s.Op.String())
		}
		if s.File == nil {
			b.WriteString("\n" + s.named + "\n")
			continue
		}
		var names []string
		for _, i := range s.File.Fields {
			names = append(names, p.Fields[i])
		}
		fmt.Fprintf(&b, " %s %s %s\n", s.File.Name, s.File.Format, strings.Join(names, ","))
	}
	return b.String()
}

// named is the argument as plain SQL writes it.
func (a *Arg) named() string {
	mark := ":"
	if a.AsText {
		mark = ":text."
	}
	_, reserved := plainSources[strings.ToLower(a.Name)]
	switch {
	case a.Source == Fixed && a.AsText:
		return Constant(asText(a.Value))
	case a.Source == Fixed:
		return Constant(a.Value)
	case a.Source == State && a.Name == "":
		return fmt.Sprintf("%sstate.%d", mark, a.Field+1)
	case a.Source == State:
		return mark + "state." + word(a.Name)
	case a.Source != Field && !(a.Source == Now && sameName(a.Name, updateTimeColumn)):
		return ":" + a.Source.String()
	case reserved:
		return mark + "row." + a.Name
	}
	return mark + word(a.Name)
}

// word is a name as a parameter writes it.
func word(name string) string {
	if wordAt(name, 0) == len(name) {
		return name
	}
	return Quote(name)
}

// Constant is a value as SQL. The session has no NO_BACKSLASH_ESCAPES.
func Constant(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(v) + "'"
	case []byte:
		return "x'" + hex.EncodeToString(v) + "'"
	}
	return fmt.Sprint(v)
}

// Convert rewrites a JSON or literal row to the plain form with named parameters. A row that is plain or generated
// already comes back as it is. t is the rule's table, whose columns are the fields where sync_field names none; it may
// be nil. The diagnostics are those of the old row, so that they show where the seed meant something else. The error
// says why a row cannot be converted.
func Convert(r Row, t *Table) (Row, []Diagnostic, error) {
	p, ds := Compile(r, t)
	if p == nil {
		return r, ds, fmt.Errorf("rule %d cannot be converted before it is correct: %s", r.ID, firstError(ds))
	}
	if p.Form == Generated || p.Form == Named {
		return r, ds, nil
	}
	out := r
	if !p.Rounding && p.Form == Literal && r.mainPhase() == downside && !p.writesFile() {
		p.given = append(p.given, "allow-rounding")
	}
	out.SQL = p.Options.text() + p.sections()
	out.OperationType, out.PatchField, out.PatchFieldValue = "", "", ""
	odd := func(name string) bool { return word(name) != name }
	if !slices.ContainsFunc(p.listed, odd) {
		out.Field = strings.Join(p.listed, ", ")
	}
	again, more := Compile(out, t)
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
// sides: all columns, generated SQL. options go into all of them, and where, a condition, into those that read.
func Init(table, point, options, where string, types ...string) []Row {
	var rows []Row
	for _, typ := range types {
		for _, user := range []string{Server, Client} {
			row := Row{Table: table, Type: typ, User: user, PointNo: point, Enabled: true,
				Note: "statements are generated from the table; see syncgate rules show"}
			if options != "" {
				row.SQL = "-- option: " + options + "\n"
			}
			if where != "" && row.mainPhase() == upside {
				row.SQL += "-- option: where " + where + "\n"
			}
			rows = append(rows, row)
		}
	}
	return rows
}
