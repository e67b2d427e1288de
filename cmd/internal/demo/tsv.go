package demo

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// tsv is a tab-separated file whose fields escape a tab as \t, a newline as \n and a
// backslash as \\. It has no header line. A name that ends in .gz is decompressed.
type tsv struct {
	path    string
	columns []column
	rows    int
}

// packageColumns names the nine fields of a Debian package index; a file of another
// width gets c1, c2, ….
var packageColumns = [...]string{"package", "version", "section", "priority", "maintainer",
	"installed_kib", "size_bytes", "description", "homepage"}

// inspect reads the file once, to learn its width, its length and which of its columns
// hold nothing but numbers. limit, when above 0, is how many rows count.
func inspect(path string, limit int) (*tsv, error) {
	f := &tsv{path: path}
	var numeric []bool
	err := f.each(limit, func(line int, fields []string) error {
		if numeric == nil {
			numeric = make([]bool, len(fields))
			for i := range numeric {
				numeric[i] = true
			}
		}
		if len(fields) != len(numeric) {
			return fmt.Errorf("%s:%d: %d fields, where the first line has %d", path, line, len(fields), len(numeric))
		}
		for i, s := range fields {
			numeric[i] = numeric[i] && isNumber(s)
		}
		f.rows++
		return nil
	})
	if err != nil {
		return nil, err
	}
	if f.rows == 0 {
		return nil, fmt.Errorf("%s: no rows", path)
	}
	f.columns = []column{{"id", "BIGINT UNSIGNED NOT NULL PRIMARY KEY"}}
	for i, n := range numeric {
		c := column{name: "c" + strconv.Itoa(i+1), kind: "LONGTEXT NOT NULL"}
		if len(numeric) == len(packageColumns) {
			c.name = packageColumns[i]
		}
		if n {
			c.kind = "BIGINT UNSIGNED"
		}
		f.columns = append(f.columns, c)
	}
	return f, nil
}

// isNumber says whether s comes back from a BIGINT UNSIGNED as it was; an empty field
// becomes NULL.
func isNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	return s == "" || err == nil && strconv.FormatUint(n, 10) == s
}

// source gives the rows as values of the table's columns, the line number first.
func (f *tsv) source() source {
	return source{columns: f.columns, rows: f.rows, each: func(yield func([]any) error) error {
		row := make([]any, len(f.columns))
		return f.each(f.rows, func(line int, fields []string) error {
			row[0] = int64(line)
			for i, s := range fields {
				if row[i+1] = any(s); s == "" && f.columns[i+1].kind == "BIGINT UNSIGNED" {
					row[i+1] = nil
				}
			}
			return yield(row)
		})
	}}
}

func (f *tsv) each(limit int, yield func(line int, fields []string) error) error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(f.path, ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	unescape := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r")
	for line := 1; lines.Scan(); line++ {
		if limit > 0 && line > limit {
			return nil
		}
		fields := strings.Split(lines.Text(), "\t")
		for i, s := range fields {
			if strings.Contains(s, `\`) {
				fields[i] = unescape.Replace(s)
			}
		}
		if err := yield(line, fields); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}
