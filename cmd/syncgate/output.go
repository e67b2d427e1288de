package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// say prints v where JSON is asked for, else a line of text.
func (c *call) say(v any, format string, args ...any) error {
	if c.format == "json" {
		return writeJSON(c.out, v)
	}
	_, err := fmt.Fprintf(c.out, format+"\n", args...)
	return err
}

// writeJSON prints v for people and programs; a list without elements is [].
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// list prints all where JSON is asked for, else a table with a row for each.
func list[T any](c *call, all []T, heading string, row func(*T) []any) error {
	if c.format == "json" {
		return writeJSON(c.out, append([]T{}, all...))
	}
	t := newTable(c.out, heading)
	for i := range all {
		t.row(row(&all[i])...)
	}
	return t.Flush()
}

// table prints rows in columns as wide as they have to be.
type table struct{ *tabwriter.Writer }

// newTable begins a table; heading has a tab between the names of columns, and may be empty.
func newTable(w io.Writer, heading string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if heading != "" {
		fmt.Fprintln(t, heading)
	}
	return t
}

// row prints what is empty, or a time that never was, as -.
func (t table) row(cells ...any) {
	line := make([]string, len(cells))
	for i, cell := range cells {
		if at, ok := cell.(time.Time); ok {
			cell = stamp(at)
		}
		if line[i] = strings.Join(strings.Fields(fmt.Sprint(cell)), " "); line[i] == "" {
			line[i] = "-"
		}
	}
	fmt.Fprintln(t, strings.Join(line, "\t"))
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// plural is n of something, as in 1 row, 2 rows.
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// sample is a value as a person reads it in a table: one line, not too wide.
func sample(v any) string {
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
