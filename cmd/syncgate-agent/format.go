package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"syncgate/agent"
	"syncgate/store"
)

// format is how a file holds rows: csv as of RFC 4180, tsv with the escapes of MySQL's LOAD DATA, or jsonl, one object
// a line as store.EncodeRow writes it. The first line of csv and tsv has the columns' names.
type format struct {
	kind string
	null string // NULL in csv, without quotes; tsv always has \N
}

// formatOf is the format that a file's name tells.
func formatOf(name string) string {
	name = strings.TrimSuffix(name, ".gz")
	for kind, endings := range map[string][]string{"tsv": {".tsv", ".tab", ".txt"},
		"jsonl": {".jsonl", ".ndjson", ".json"}} {
		if slices.ContainsFunc(endings, func(ending string) bool { return strings.HasSuffix(name, ending) }) {
			return kind
		}
	}
	return "csv"
}

// rowReader reads rows.
type rowReader struct {
	format
	in      *bufio.Reader
	line    int // that was read last
	columns []string
}

// newRowReader reads the first line where the columns are not given.
func newRowReader(in io.Reader, f format, columns []string) (*rowReader, error) {
	r := &rowReader{format: f, in: bufio.NewReaderSize(in, 64<<10), columns: columns}
	if mark, _ := r.in.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = r.in.Discard(3) // Peek has read it
	}
	if f.kind == "jsonl" || columns != nil {
		return r, nil
	}
	names, err := r.fields()
	if errors.Is(err, io.EOF) {
		return r, nil // no line, no row
	}
	for _, name := range names {
		text, _ := name.(string)
		if text == "" || slices.Contains(r.columns, text) {
			return nil, fmt.Errorf("line 1: %q is empty or there twice; the first line has the columns' names, or "+
				"--columns", text)
		}
		r.columns = append(r.columns, text)
	}
	return r, err
}

// next is the next row; io.EOF behind the last. An error names its line.
func (r *rowReader) next() (agent.Row, error) {
	row := agent.Row{Columns: r.columns}
	var err error
	if r.kind == "jsonl" {
		var text string
		for text == "" && err == nil {
			text, err = r.text()
		}
		if err == nil {
			row.Columns, row.Values, err = store.DecodeRow(text)
		}
	} else {
		row.Values, err = r.fields()
		if err == nil && len(row.Values) != len(r.columns) {
			err = fmt.Errorf("%d fields, and there are %d columns", len(row.Values), len(r.columns))
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("line %d: %w", r.line, err)
	}
	return row, err
}

// text is a line without its end.
func (r *rowReader) text() (string, error) {
	line, err := r.in.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	r.line++
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), err
}

// fields are those of the next record that is not empty.
func (r *rowReader) fields() (values []any, err error) {
	for err == nil && len(values) == 0 {
		if r.kind == "csv" {
			values, err = r.record()
			continue
		}
		var line string
		if line, err = r.text(); err != nil || line == "" && len(r.columns) != 1 {
			continue
		}
		for field := range strings.SplitSeq(line, "\t") {
			values = append(values, unescape(field))
		}
	}
	return values, err
}

// record is a record of csv; none for an empty line. Quoted fields may have ends of lines in them, which stay as they
// are.
func (r *rowReader) record() (values []any, err error) {
	var field []byte
	quoted, inside, any := false, false, false
	add := func() {
		if text := string(field); !quoted && text == r.null {
			values = append(values, nil)
		} else {
			values = append(values, textOrBytes(text))
		}
		field, quoted = field[:0], false
	}
	r.line++
	for {
		c, err := r.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && inside:
			return nil, errors.New("the quotes are not closed")
		case errors.Is(err, io.EOF) && !any:
			return nil, err
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case err == nil && inside && c == '"':
			if inside = r.ahead('"'); inside {
				_, _ = r.in.Discard(1) // ahead has read it
				field = append(field, c)
			}
		case err == nil && inside:
			if field = append(field, c); c == '\n' {
				r.line++
			}
		case err == nil && c == '"' && len(field) == 0 && !quoted:
			quoted, inside, any = true, true, true
		case err == nil && c == ',':
			any = true
			add()
		case err == nil && c == '\r' && r.ahead('\n'):
		case err != nil || c == '\n':
			if any || len(field) > 0 {
				add()
			}
			return values, nil
		case quoted:
			return nil, errors.New("text behind the closing quote")
		default:
			field, any = append(field, c), true
		}
	}
}

// ahead reports whether c follows.
func (r *rowReader) ahead(c byte) bool {
	next, _ := r.in.Peek(1)
	return len(next) == 1 && next[0] == c
}

// textOrBytes is text, or bytes where it is no UTF-8.
func textOrBytes(text string) any {
	if !utf8.ValidString(text) {
		return []byte(text)
	}
	return text
}

// escapes are those of tsv.
var escapes = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`)

func unescape(field string) any {
	if field == `\N` {
		return nil
	}
	var b strings.Builder
	for i := 0; i < len(field); i++ {
		c := field[i]
		if c == '\\' && i+1 < len(field) {
			i++
			if c = field[i]; strings.IndexByte("tnr0", c) >= 0 {
				c = "\t\n\r\x00"[strings.IndexByte("tnr0", c)]
			}
		}
		b.WriteByte(c)
	}
	return textOrBytes(b.String())
}

// heading is the line with the columns' names.
func (f format) heading(columns []string) []byte {
	names := make([]any, len(columns))
	for i, name := range columns {
		names[i] = name
	}
	line, _ := f.appendRow(nil, nil, names) // only jsonl can fail
	return line
}

// appendRow writes a row.
func (f format) appendRow(dst []byte, columns []string, values []any) ([]byte, error) {
	if f.kind == "jsonl" {
		text, err := store.EncodeRow(columns, values)
		return append(append(dst, text...), '\n'), err
	}
	for i, v := range values {
		if i > 0 {
			dst = append(dst, map[string]byte{"csv": ',', "tsv": '\t'}[f.kind])
		}
		dst = f.appendValue(dst, v)
	}
	return append(dst, '\n'), nil
}

func (f format) appendValue(dst []byte, v any) []byte {
	var text string
	switch v := v.(type) {
	case nil:
		if f.kind == "tsv" {
			return append(dst, `\N`...)
		}
		return append(dst, f.null...)
	case string:
		text = v
	case []byte:
		text = string(v)
	case float64:
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	default:
		return fmt.Append(dst, v)
	}
	switch {
	case f.kind == "tsv":
		return append(dst, escapes.Replace(text)...)
	case text == f.null || text == "" || strings.ContainsAny(text, "\",\r\n"):
		return append(append(append(dst, '"'), strings.ReplaceAll(text, `"`, `""`)...), '"')
	}
	return append(dst, text...)
}
