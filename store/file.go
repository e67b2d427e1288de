package store

import (
	"bufio"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"syncgate/rule"
)

// files are the files that a transaction writes. Rows go to a temporary file; publish syncs and renames it, so that a
// reader sees the old file or the new one. publish runs just before COMMIT. A crash between the two leaves the new
// file; the batch was not acknowledged, so the point sends it again and the file is written again. In the other order a
// crash could leave an old file after the acknowledgement.
type files struct {
	dir  string
	root *os.Root // nil until the first file
	open []*tempFile
}

type tempFile struct {
	name, temp string
	f          *os.File
	w          *bufio.Writer
}

func newFiles(dir string) *files { return &files{dir: dir} }

// write appends an upload to its file. Parts of one transaction make one file.
func (r *runner) write(u *Upload, spec *rule.File) error {
	name := spec.NameFor(u.Env.Point)
	err := errors.New("the name of the point cannot be part of a file's name")
	if name != "" {
		err = r.files.write(u, spec, name)
	}
	if err != nil {
		return notFromDB(fmt.Errorf("%w: %s: %w", ErrFile, spec.Name, err))
	}
	for range u.rows.Len() {
		u.countApplied(rule.OpFile)
	}
	return nil
}

func (fs *files) write(u *Upload, spec *rule.File, name string) error {
	f, fresh, err := fs.temp(name, u.Plan.Row.ID)
	if err != nil {
		return err
	}
	names, values := make([]string, len(spec.Fields)), make([]any, len(spec.Fields))
	for i, at := range spec.Fields {
		names[i] = u.Plan.Fields[at]
		values[i] = names[i]
	}
	if fresh && (spec.Format == rule.CSV || spec.Format == rule.TSV) {
		if err := writeLine(f.w, spec.Format, names, values); err != nil {
			return err
		}
	}
	for n := range u.rows.Len() {
		row := u.rows.Row(n)
		for i, at := range spec.Fields {
			values[i] = row[at]
		}
		if err := writeLine(f.w, spec.Format, names, values); err != nil {
			return err
		}
	}
	return nil
}

// temp finds or makes the temporary file of a file, in the same directory. os.Root refuses names and links that leave
// the root directory.
func (fs *files) temp(name string, ruleID uint64) (a *tempFile, fresh bool, err error) {
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
	a = &tempFile{name: name}
	for n := 0; a.f == nil; n++ {
		a.temp = path.Join(path.Dir(name), fmt.Sprintf(".%s.%d-%d", path.Base(name), ruleID, n))
		a.f, err = fs.root.OpenFile(a.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil && (!errors.Is(err, os.ErrExist) || n > 1000) {
			return nil, false, err
		}
	}
	a.w = bufio.NewWriter(a.f)
	fs.open = append(fs.open, a)
	return a, true, nil
}

// publish puts every file of the transaction in the place of the old one.
func (fs *files) publish() error {
	for len(fs.open) > 0 {
		a := fs.open[0]
		err := errors.Join(a.w.Flush(), a.f.Sync())
		if err == nil {
			err = fs.root.Rename(a.temp, a.name)
		}
		if err == nil {
			fs.open = fs.open[1:]
			err = errors.Join(a.f.Close(), fs.syncDir(path.Dir(a.name)))
		}
		if err != nil {
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
		_ = a.f.Close()            // its content is dropped
		_ = fs.root.Remove(a.temp) // a leftover is a hidden file
	}
	fs.open = nil
	if fs.root != nil {
		_ = fs.root.Close() // a directory handle
		fs.root = nil
	}
}

// writeLine writes values, whose names are given, as one line of a format.
func writeLine(w io.Writer, format rule.FileFormat, names []string, values []any) error {
	if format == rule.JSONL {
		text, err := encodeRow(names, values)
		if err != nil {
			return err
		}
		_, err = io.WriteString(w, text+"\n")
		return err
	}
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = plainText(v)
		if format == rule.TSV {
			if texts[i] = escapeTSV(texts[i]); v == nil {
				texts[i] = `\N` // as LOAD DATA reads it
			}
		}
	}
	if format == rule.CSV { // RFC 4180
		c := csv.NewWriter(w)
		_ = c.Write(texts) // c.Error has its error
		c.Flush()
		return c.Error()
	}
	if format == rule.Lines && strings.ContainsAny(texts[0], "\r\n") {
		return errors.New("a value with a line break in a file of one value a line")
	}
	_, err := io.WriteString(w, strings.Join(texts, "\t")+"\n")
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
