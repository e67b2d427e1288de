package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// WriteJSON prints v, indented.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// List prints all as JSON, or as a table with a row for each.
func List[T any](w io.Writer, asJSON bool, all []T, heading string, row func(*T) []any) error {
	if asJSON {
		return WriteJSON(w, append([]T{}, all...))
	}
	t := NewTable(w, heading)
	for i := range all {
		t.Row(row(&all[i])...)
	}
	return t.Flush()
}

// Say prints v as JSON, or a line of text.
func Say(w io.Writer, asJSON bool, v any, format string, args ...any) error {
	if asJSON {
		return WriteJSON(w, v)
	}
	_, err := fmt.Fprintf(w, format+"\n", args...)
	return err
}

// Table prints rows in columns as wide as they have to be.
type Table struct{ *tabwriter.Writer }

// NewTable begins a table. heading has the names of the columns with a tab between, or is empty.
func NewTable(w io.Writer, heading string) Table {
	t := Table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if heading != "" {
		fmt.Fprintln(t, heading)
	}
	return t
}

// Row prints an empty cell or a zero time as -.
func (t Table) Row(cells ...any) {
	line := make([]string, len(cells))
	for i, cell := range cells {
		if at, ok := cell.(time.Time); ok {
			cell = Stamp(at)
		}
		if line[i] = strings.Join(strings.Fields(fmt.Sprint(cell)), " "); line[i] == "" {
			line[i] = "-"
		}
	}
	fmt.Fprintln(t, strings.Join(line, "\t"))
}

// Stamp is a time for a table; empty when it is zero.
func Stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// Sample is a value for a table: one line, not too wide.
func Sample(v any) string {
	const width = 40
	text := fmt.Sprint(v)
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		text = fmt.Sprintf("x'%x'", v)
	case string:
		if text = fmt.Sprintf("%q", v); v == "" {
			return "''"
		}
		text = text[1 : len(text)-1]
	}
	if r := []rune(text); len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return text
}
