package store

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// files are the files that a transaction writes. publish runs just before COMMIT. A crash between the two leaves the
// new file; the batch was not acknowledged, so the point sends it again and the file is written again. In the other
// order a crash could leave an old file after the acknowledgement.
//
// A snapshot goes to a temporary file, which publish renames, so that a reader sees the old file or the new one. The
// parts of a read that takes several uploads are collected in a hidden file, which the last upload copies. Rows that
// are appended go into the file itself, behind the bytes that are committed. sync_file has their number.
type files struct {
	dir  string
	root *os.Root // nil until the first file
	open []*outFile
}

type outFile struct {
	name string
	base string // has the rows of earlier uploads; "": there are none
	temp string // becomes name when it is published; "": the rows go into base itself
	kept int64  // bytes of base that are committed
	f    *os.File
	w    *bufio.Writer

	fresh bool // nothing has been written
}

func newFiles(dir string) *files { return &files{dir: dir} }

// fileError marks what went wrong with a file.
func fileError(name string, err error) error {
	if err == nil {
		return nil
	}
	return notFromDB(fmt.Errorf("%w: %s: %w", ErrFile, name, err))
}

// write writes an upload to its file.
func (r *runner) write(u *Upload, spec *rule.File) error {
	f, err := r.file(u, spec)
	if err == nil && f != nil {
		err = fileError(f.name, f.write(u, spec))
	}
	if err != nil {
		return err
	}
	for range u.rows.Len() {
		u.countApplied(rule.OpFile)
	}
	return nil
}

// file is the file of an upload, opened behind the rows of earlier uploads. It is nil when the upload goes on with a
// read whose beginning is not here: the next read makes the file.
func (r *runner) file(u *Upload, spec *rule.File) (*outFile, error) {
	part := u.Part
	if u.Plan.FileMode == rule.FileAppend {
		part = 0
	} else if u.Plan.FileMode == rule.FileSnapshot && part == 0 {
		return nil, mismatch("its rows are not all that the rule selects, as option file snapshot needs them")
	}
	f := &outFile{name: spec.NameFor(u.Env.Point)}
	if f.name == "" {
		return nil, fileError(spec.Name, errors.New("the name of the point cannot be part of a file's name"))
	}
	for _, open := range r.files.open {
		if open.name == f.name {
			return open, nil
		}
	}
	if err := r.files.openRoot(path.Dir(f.name)); err != nil {
		return nil, fileError(f.name, err)
	}
	if known, err := r.lockFile(f, part); err != nil || !known {
		return nil, err
	}
	return f, fileError(f.name, r.files.begin(f, u.Plan.Row.ID, part))
}

// lockFile finds and locks what the rows of earlier uploads are in. It is not known when these are not all there.
func (r *runner) lockFile(f *outFile, part uint32) (known bool, err error) {
	if part == rowset.All {
		return true, nil
	}
	if f.base = f.name; part != 0 {
		f.base = path.Join(path.Dir(f.name), "."+path.Base(f.name)+".part")
	}
	const lock = "INSERT INTO sync_file (name) VALUES (?) ON DUPLICATE KEY UPDATE name = VALUES(name)"
	_, err = r.c.do(r.ctx, lock, f.base)
	if err != nil || part&rowset.FirstPart != 0 {
		return true, err
	}
	err = r.c.ask(r.ctx, "SELECT size FROM sync_file WHERE name = ? FOR UPDATE", func(v []any) error {
		known, f.kept = v[0] != nil, int64(asUint(v[0]))
		return nil
	}, f.base)
	size := int64(0)
	if info, err := r.files.root.Lstat(f.base); err == nil {
		size = info.Size()
	}
	if part == 0 { // a file that somebody has moved away begins anew
		known, f.kept = true, min(f.kept, size)
	}
	return known && size >= f.kept, err
}

func (f *outFile) write(u *Upload, spec *rule.File) error {
	names, values := make([]string, len(spec.Fields)), make([]any, len(spec.Fields))
	for i, at := range spec.Fields {
		names[i] = u.Plan.Fields[at]
		values[i] = names[i]
	}
	if f.fresh && (spec.Format == rule.CSV || spec.Format == rule.TSV) {
		if err := writeLine(f.w, spec.Format, names, values); err != nil {
			return err
		}
	}
	f.fresh = false
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

// openRoot opens the configured directory and makes one in it. os.Root refuses names and links that leave it.
func (fs *files) openRoot(dir string) (err error) {
	if fs.dir == "" {
		return errors.New("no directory for files is configured")
	}
	if fs.root == nil {
		if fs.root, err = os.OpenRoot(fs.dir); err != nil {
			return err
		}
	}
	return fs.root.MkdirAll(dir, 0o755)
}

// begin opens a file for the rows of an upload.
func (fs *files) begin(f *outFile, ruleID uint64, part uint32) (err error) {
	for _, name := range []string{f.name, cmp.Or(f.base, f.name)} {
		if info, err := fs.root.Lstat(name); err == nil && !info.Mode().IsRegular() {
			return errors.New("it exists and is not a regular file")
		}
	}
	if part&rowset.LastPart != 0 {
		err = fs.temporary(f, ruleID)
	} else {
		f.f, err = fs.root.OpenFile(f.base, os.O_WRONLY|os.O_CREATE, 0o644)
	}
	if err != nil {
		return err
	}
	fs.open = append(fs.open, f) // discard closes it
	f.w, f.fresh = bufio.NewWriter(f.f), f.kept == 0
	switch {
	case f.temp == "":
		if err = f.f.Truncate(f.kept); err == nil {
			_, err = f.f.Seek(f.kept, io.SeekStart)
		}
	case f.base != "":
		var base *os.File
		if base, err = fs.root.Open(f.base); err == nil {
			_, err = io.CopyN(f.f, base, f.kept)
			err = errors.Join(err, base.Close())
		}
	}
	return err
}

// temporary makes a temporary file in the directory of a file.
func (fs *files) temporary(f *outFile, ruleID uint64) (err error) {
	for n := 0; f.f == nil; n++ {
		f.temp = path.Join(path.Dir(f.name), fmt.Sprintf(".%s.%d-%d", path.Base(f.name), ruleID, n))
		f.f, err = fs.root.OpenFile(f.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil && (!errors.Is(err, os.ErrExist) || n > 1000) {
			return err
		}
	}
	return nil
}

// publish puts every snapshot of the transaction in the place of the old file, and keeps the sizes of all files.
func (fs *files) publish(ctx context.Context, c *conn) error {
	for len(fs.open) > 0 {
		f := fs.open[0]
		err := errors.Join(f.w.Flush(), f.f.Sync())
		size, failed := f.f.Seek(0, io.SeekCurrent)
		if err = errors.Join(err, failed); err == nil && f.temp != "" {
			err = fs.root.Rename(f.temp, f.name)
		}
		if err == nil {
			fs.open = fs.open[1:]
			err = errors.Join(f.f.Close(), fs.syncDir(path.Dir(f.name)))
		}
		if err != nil {
			return fileError(f.name, err)
		}
		name := f.name
		switch {
		case f.temp == "":
			name = f.base
		case f.base != "":
			_ = fs.root.Remove(f.base) // its rows are in the file now
		}
		const q = "INSERT INTO sync_file (name, size) VALUES (?, ?) ON DUPLICATE KEY UPDATE size = VALUES(size)"
		if _, err := c.do(ctx, q, name, size); err != nil {
			return err
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

// discard undoes what was not published and closes the directory.
func (fs *files) discard() {
	for _, f := range fs.open {
		if f.temp == "" {
			_ = f.f.Truncate(f.kept) // else the next upload does it
		} else {
			_ = fs.root.Remove(f.temp) // a leftover is a hidden file
		}
		_ = f.f.Close() // its content is dropped
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
		text, err := EncodeRow(names, values)
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
