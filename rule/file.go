package rule

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// pointInName stands for the point in the name of a file.
const pointInName = "{point_no}"

// NameFor is the file's name for a point; "" when the point's name cannot be part of it.
func (f *File) NameFor(point string) string {
	if !strings.Contains(f.Name, pointInName) {
		return f.Name
	}
	name := strings.ReplaceAll(f.Name, pointInName, point)
	if !strings.Contains(point, "/") && badFileName(name) == "" {
		return name
	}
	return ""
}

func (p *Plan) writesFile() bool { return len(p.Downside) > 0 && p.Downside[0].Op == OpFile }

// Snapshot reports whether a download makes a file of all rows of the selection, and so begins from the start each
// time.
func (p *Plan) Snapshot() bool {
	return p.writesFile() && p.Row.Type == Download && p.FileMode != FileAppend
}

// checkFile says when the file of the rule is replaced.
func (c *compiler) checkFile() {
	switch {
	case c.plan.writesFile() && c.errors == 0:
		name := c.plan.Downside[0].File.Name
		c.column(Info, BadFile, "sync_sql", name+": "+c.plan.describeFile(),
			"-- option: file snapshot, or append, decides it otherwise")
	case c.plan.FileMode != "" && c.errors == 0:
		c.refuseIn(BadOption, "sync_sql", "option file is for the row that writes a file",
			"write -- downside: file NAME FORMAT")
	}
}

// describeFile says when the file of a rule is replaced.
func (p *Plan) describeFile() string {
	switch {
	case p.Snapshot() || p.FileMode == FileSnapshot:
		return "each read of the whole selection replaces the file"
	case p.FileMode == FileAppend:
		return "rows are appended to the file"
	}
	return "an upload that reads its whole selection replaces the file, one that reads on appends to it"
}

// maxFileName is the bytes of the longest file name.
const maxFileName = 200

// file compiles a file operation: `NAME [FORMAT [FIELD,…]]`. Without a format the name's ending decides; any other than
// .csv, .tsv, .jsonl and .ndjson is lines, as the seed's black list was.
func (c *compiler) file(s *script) bool {
	bad := func(msg, fix string) bool { return c.refuse(s, 0, BadFile, msg, fix) }
	if s.phase != downside {
		return bad("a file is written at downside only", "")
	}
	var words []string
	switch {
	case s.src != nil:
		words = strings.Fields(s.src.text)
	case c.plan.Form == Literal:
		words = c.seedFile(s)
	default:
		return bad("the file has no name", "write -- downside: file NAME FORMAT")
	}
	if len(words) == 0 || len(words) > 3 {
		return bad("a file operation is NAME FORMAT FIELDS", "write, say, black_list.txt lines domain")
	}
	f := &File{Name: words[0], Format: cmp.Or(formats[strings.ToLower(path.Ext(words[0]))], Lines)}
	if why := badFileName(f.Name); why != "" {
		return bad(fmt.Sprintf("the file name %q %s", f.Name, why), "write a name like lists/black.txt")
	}
	if c.row.Type == Upload && c.row.PointNo == AnyPoint && !strings.Contains(f.Name, pointInName) {
		return bad("each point would replace the file of the others", "put "+pointInName+" into its name")
	}
	if len(words) > 1 {
		f.Format = FileFormat(strings.ToLower(words[1]))
		if !slices.Contains([]FileFormat{CSV, TSV, JSONL, Lines}, f.Format) {
			return bad(fmt.Sprintf("there is no format %q", words[1]), "the formats are csv, tsv, jsonl and lines")
		}
	}
	for _, name := range c.fileFields(s, words) {
		i := c.fieldIndex(name)
		if i < 0 {
			return c.refuse(s, 0, UnknownField, "the file cannot have the field "+name, hint(name, c.plan.Fields))
		}
		f.Fields = append(f.Fields, i)
	}
	if f.Format == Lines && len(f.Fields) != 1 {
		return bad("lines takes one field, not "+plural(len(f.Fields), "field"), "name it: "+f.Name+" lines FIELD")
	}
	s.out = Statement{Op: OpFile, File: f, phase: downside, text: s.src}
	return true
}

// seedFile is the file of a row of the original, which has no statement for it: it is named after the table. Several
// fields need a format that keeps them apart.
func (c *compiler) seedFile(s *script) []string {
	name, format := c.row.Table, Lines
	if c.row.PointNo == AnyPoint && c.row.Type == Upload {
		name += "-" + pointInName
	}
	if len(c.fileFields(s, nil)) != 1 {
		format = TSV
	}
	return []string{name + ".txt", string(format)}
}

// fileFields are the fields named behind the format, those of sync_patch_field, or all.
func (c *compiler) fileFields(s *script, words []string) (names []string) {
	if len(words) == 3 {
		return strings.Split(words[2], ",")
	}
	if s.seed == nil || len(s.seed.entries) == 0 {
		return c.plan.Fields
	}
	for _, e := range s.seed.entries {
		names = append(names, e.field)
	}
	return names
}

var formats = map[string]FileFormat{".csv": CSV, ".tsv": TSV, ".jsonl": JSONL, ".ndjson": JSONL}

// badFileName says why a name could leave the directory or surprise a file system.
func badFileName(name string) string {
	odd := func(r rune) bool { return r < ' ' || strings.ContainsRune(`\:*?"<>|`, r) }
	switch {
	case len(name) > maxFileName:
		return "is too long"
	case strings.ContainsFunc(name, odd):
		return "has a character that not every file system takes"
	case path.IsAbs(name) || path.Clean(name) != name || name == "." || name == ".." || strings.HasPrefix(name, "../"):
		return "leaves the directory"
	case strings.HasPrefix(name, ".") || strings.Contains(name, "/."):
		return "is hidden"
	}
	return ""
}
