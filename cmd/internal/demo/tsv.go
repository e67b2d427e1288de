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

// packageColumns names the nine fields of a Debian package index; a file of another
// width gets c1, c2, ….
var packageColumns = [...]string{"package", "version", "section", "priority", "maintainer",
	"installed_kib", "size_bytes", "description", "homepage"}

// number is the type of a column in which there are nothing but numbers; an empty field is NULL.
const number = "BIGINT UNSIGNED"

// openTSV gives the rows of a tab-separated file, the line number first. It reads the file once, to learn its width, its
// length and which of its columns hold nothing but numbers. limit, when above 0, is how many rows count.
func openTSV(path string, limit int) (source, error) {
	s := source{}
	err := eachLine(path, limit, func(line int, fields []string) error {
		if s.columns == nil {
			s.columns = []column{{"id", number + " NOT NULL PRIMARY KEY"}}
			for i := range fields {
				s.columns = append(s.columns, column{"c" + strconv.Itoa(i+1), number})
				if len(fields) == len(packageColumns) {
					s.columns[i+1].name = packageColumns[i]
				}
			}
		}
		if len(fields) != len(s.columns)-1 {
			return fmt.Errorf("%s:%d: %d fields, where the first line has %d", path, line, len(fields), len(s.columns)-1)
		}
		for i, f := range fields {
			n, err := strconv.ParseUint(f, 10, 64)
			if f != "" && (err != nil || strconv.FormatUint(n, 10) != f) {
				s.columns[i+1].kind = "LONGTEXT NOT NULL"
			}
		}
		s.rows++
		return nil
	})
	if err == nil && s.rows == 0 {
		err = fmt.Errorf("%s: no rows", path)
	}
	s.each = func(yield func([]any) error) error {
		row := make([]any, len(s.columns))
		return eachLine(path, s.rows, func(line int, fields []string) error {
			row[0] = int64(line)
			for i, f := range fields {
				if row[i+1] = f; f == "" && s.columns[i+1].kind == number {
					row[i+1] = nil
				}
			}
			return yield(row)
		})
	}
	return s, err
}

// eachLine reads a file without a heading whose fields escape a tab as \t, a newline as \n and a backslash as \\. A name
// that ends in .gz is decompressed.
func eachLine(path string, limit int, yield func(line int, fields []string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--input: %w", err)
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			return fmt.Errorf("%s is not gzip: %w", path, err)
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 16<<20)
	unescape := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\r`, "\r")
	for line := 1; (limit == 0 || line <= limit) && lines.Scan(); line++ {
		fields := strings.Split(lines.Text(), "\t")
		for i, f := range fields {
			fields[i] = unescape.Replace(f)
		}
		if err := yield(line, fields); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
