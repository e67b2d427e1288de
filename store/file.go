package store

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"syncgate/rule"
)

// files are the files a transaction writes. Rows go to a file aside; publish syncs and renames it, so that a reader
// sees the old file or the new one. publish comes just before COMMIT: a crash between the two leaves the new file, and
// the batch, which was not acknowledged, comes again and writes the same. The other way round the file could stay
// behind what was acknowledged.
type files struct {
	dir  string
	root *os.Root // nil until the first file
	open []*fileAside
}

type fileAside struct {
	name, aside string
	f           *os.File
	w           *bufio.Writer
}

func newFiles(dir string) *files { return &files{dir: dir} }

// write appends a batch to its file. Parts of one transaction make one file.
func (r *runner) write(b *batch, spec *rule.File) error {
	err := r.files.write(b, spec)
	if err != nil {
		return notFromDB(fmt.Errorf("%w: %s: %w", ErrFile, spec.Name, err))
	}
	for range b.rows.len() {
		b.countApplied(rule.OpFile)
	}
	return nil
}

func (fs *files) write(b *batch, spec *rule.File) error {
	a, fresh, err := fs.aside(spec.Name, b.u.Plan.Row.ID)
	if err != nil {
		return err
	}
	out := newFileWriter(a.w, spec, b.u.Plan.Fields)
	if fresh {
		if err := out.header(); err != nil {
			return err
		}
	}
	for i := range b.rows.len() {
		if err := out.row(b.rows.row(i)); err != nil {
			return err
		}
	}
	return nil
}

// aside finds or makes the file beside the one that is meant. os.Root refuses names and links that leave the
// directory.
func (fs *files) aside(name string, ruleID uint64) (a *fileAside, fresh bool, err error) {
	for _, a := range fs.open {
		if a.name == name {
			return a, false, nil
		}
	}
	if fs.dir == "" {
		return nil, false, errors.New("no directory for files is configured")
	}
	if fs.root == nil {
		if fs.root, err = os.OpenRoot(fs.dir); err != nil {
			return nil, false, err
		}
	}
	if dir := path.Dir(name); dir != "." {
		if err := fs.root.MkdirAll(dir, 0o755); err != nil {
			return nil, false, err
		}
	}
	if info, err := fs.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return nil, false, errors.New("it exists and is not a regular file")
	}
	a = &fileAside{name: name}
	for n := 0; a.f == nil; n++ {
		a.aside = path.Join(path.Dir(name), fmt.Sprintf(".%s.%d-%d", path.Base(name), ruleID, n))
		a.f, err = fs.root.OpenFile(a.aside, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil && (!errors.Is(err, os.ErrExist) || n > 1000) {
			return nil, false, err
		}
	}
	a.w = bufio.NewWriter(a.f)
	fs.open = append(fs.open, a)
	return a, true, nil
}

// publish makes every file of the transaction the one that readers see.
func (fs *files) publish() error {
	for len(fs.open) > 0 {
		a := fs.open[0]
		if err := errors.Join(a.w.Flush(), a.f.Sync()); err != nil {
			return notFromDB(fmt.Errorf("%w: %s: %w", ErrFile, a.name, err))
		}
		if err := fs.root.Rename(a.aside, a.name); err != nil {
			return notFromDB(fmt.Errorf("%w: %s: %w", ErrFile, a.name, err))
		}
		fs.open = fs.open[1:]
		if err := errors.Join(a.f.Close(), fs.syncDir(path.Dir(a.name))); err != nil {
			return notFromDB(fmt.Errorf("%w: %s: %w", ErrFile, a.name, err))
		}
	}
	return nil
}

// syncDir makes a rename survive a power cut.
func (fs *files) syncDir(name string) error {
	d, err := fs.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// discard removes what was not published and closes the directory.
func (fs *files) discard() {
	for _, a := range fs.open {
		_ = a.f.Close()             // its content is not wanted
		_ = fs.root.Remove(a.aside) // a leftover is a hidden file that nobody reads
	}
	fs.open = nil
	if fs.root != nil {
		_ = fs.root.Close() // a directory handle
		fs.root = nil
	}
}

// fileWriter prints rows in one format.
type fileWriter struct {
	w      io.Writer
	spec   *rule.File
	fields []string
	csv    *csv.Writer
}

func newFileWriter(w io.Writer, spec *rule.File, fields []string) *fileWriter {
	f := &fileWriter{w: w, spec: spec, csv: csv.NewWriter(w)}
	for _, i := range spec.Fields {
		f.fields = append(f.fields, fields[i])
	}
	return f
}

func (f *fileWriter) header() error {
	switch f.spec.Format {
	case rule.CSV:
		return f.line(f.fields)
	case rule.TSV:
		escaped := make([]string, len(f.fields))
		for i, name := range f.fields {
			escaped[i] = escapeTSV(name)
		}
		return f.line(escaped)
	}
	return nil
}

func (f *fileWriter) row(row []any) error {
	values := make([]any, len(f.spec.Fields))
	for i, at := range f.spec.Fields {
		values[i] = row[at]
	}
	if f.spec.Format == rule.JSONL {
		text, err := encodeRow(f.fields, values)
		if err != nil {
			return err
		}
		_, err = io.WriteString(f.w, text+"\n")
		return err
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = plainText(v)
		if f.spec.Format == rule.TSV {
			if texts[i] = escapeTSV(texts[i]); v == nil {
				texts[i] = `\N` // as LOAD DATA reads it
			}
		}
	}
	return f.line(texts)
}

// line writes what row and header made of the values. A value with a line break cannot stand in a file of lines.
func (f *fileWriter) line(texts []string) error {
	switch f.spec.Format {
	case rule.CSV: // RFC 4180
		if err := f.csv.Write(texts); err != nil {
			return err
		}
		f.csv.Flush()
		return f.csv.Error()
	case rule.Lines:
		if strings.ContainsAny(texts[0], "\r\n") {
			return errors.New("a value with a line break in a file of one value a line")
		}
		_, err := io.WriteString(f.w, texts[0]+"\n")
		return err
	}
	_, err := io.WriteString(f.w, strings.Join(texts, "\t")+"\n")
	return err
}

// escapeTSV writes text as LOAD DATA reads it.
func escapeTSV(text string) string {
	return strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`).Replace(text)
}

// plainText is a value without quotes: NULL is empty, bytes are base64.
func plainText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

// encodeRow writes a row as a JSON object in the order of its fields. Text is a string, or {"text64": …} when it
// is not valid UTF-8; bytes are {"base64": …}; a float always has a point or an exponent, so that it stays one.
func encodeRow(fields []string, row []any) (string, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, field := range fields {
		if i > 0 {
			b.WriteString(", ")
		}
		name, err := marshal(field)
		if err != nil {
			return "", err
		}
		value, err := encodeValue(row[i])
		if err != nil {
			return "", err
		}
		b.WriteString(name + ": " + value)
	}
	b.WriteByte('}')
	return b.String(), nil
}

func encodeValue(v any) (string, error) {
	switch v := v.(type) {
	case []byte:
		return marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString(v)})
	case string:
		if strings.ToValidUTF8(v, "") != v {
			return marshal(map[string]string{"text64": base64.StdEncoding.EncodeToString([]byte(v))})
		}
	case float64:
		text := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return text, nil
	}
	return marshal(v)
}

// marshal is json.Marshal that leaves <, > and & as they are, for people.
func marshal(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}
