package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

func filePlan(name string, format rule.FileFormat, fields ...int) *rule.Plan {
	return &rule.Plan{Row: rule.Row{ID: 3, Table: "black_list"}, Fields: []string{"domain", "hits", "mark"},
		Downside: []rule.Statement{{Op: rule.OpFile, File: &rule.File{Name: name, Format: format, Fields: fields}}}}
}

func contents(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFileFormats(t *testing.T) {
	dir := t.TempDir()
	s := open(t, func(o *Options) { o.FileRoot = dir })
	rows := [][]any{{"a.example", int64(1), []byte{0xff}}, {"b, \"c\"\t\\", nil, []byte("x")}, {"", 1.5, nil}}
	for i, tt := range []struct {
		format rule.FileFormat
		fields []int
		want   string
	}{
		{rule.CSV, []int{0, 1, 2}, "domain,hits,mark\na.example,1,/w==\n\"b, \"\"c\"\"\t\\\",,eA==\n,1.5,\n"},
		{rule.TSV, []int{1, 0}, "hits\tdomain\n1\ta.example\n\\N\tb, \"c\"\\t\\\\\n1.5\t\n"},
		{rule.JSONL, []int{0, 1, 2}, `{"domain": "a.example", "hits": 1, "mark": {"base64":"/w=="}}` + "\n" +
			`{"domain": "b, \"c\"\t\\", "hits": null, "mark": {"base64":"eA=="}}` + "\n" +
			`{"domain": "", "hits": 1.5, "mark": null}` + "\n"},
		{rule.Lines, []int{0}, "a.example\nb, \"c\"\t\\\n\n"},
	} {
		name := fmt.Sprint("lists/list.", tt.format)
		o := applied(t, s, upload(filePlan(name, tt.format, tt.fields...), "p1", uint64(i+1), rows...))
		equal(t, "taken by file", o.ByOp["file"], 3)
		equal(t, string(tt.format), contents(t, dir, name), tt.want)
	}
	names, err := os.ReadDir(filepath.Join(dir, "lists"))
	if err != nil || len(names) != 4 {
		t.Errorf("%v %v", names, err) // nothing is left aside
	}
}

func TestFileIsTheOldOneOrTheNewOne(t *testing.T) {
	dir := t.TempDir()
	s := open(t, func(o *Options) { o.FileRoot = dir })
	p := filePlan("list", rule.Lines, 0)
	applied(t, s, upload(p, "p1", 1, []any{"old", nil, nil}))
	for name, u := range map[string]*Upload{
		"a value with a line break": upload(p, "p1", 2, []any{"fine", nil, nil}, []any{"a\nb", nil, nil}),
		"a name that leaves":        upload(filePlan("../list", rule.Lines, 0), "p1", 3, []any{"new", nil, nil}),
		"an absolute name": upload(filePlan("/tmp/syncgate-list", rule.Lines, 0), "p1", 4,
			[]any{"new", nil, nil}),
		"a directory":        upload(filePlan("sub", rule.Lines, 0), "p1", 5, []any{"new", nil, nil}),
		"a link that leaves": upload(filePlan("away/list", rule.Lines, 0), "p1", 6, []any{"new", nil, nil}),
		"a link":             upload(filePlan("link", rule.Lines, 0), "p1", 7, []any{"new", nil, nil}),
	} {
		if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
			t.Fatal(err)
		}
		_ = os.Symlink(t.TempDir(), filepath.Join(dir, "away")) // there from the first round on
		_ = os.Symlink("list", filepath.Join(dir, "link"))      // likewise
		if o := s.Apply(testContext(t), []*Upload{u})[0]; o.Err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
	equal(t, "the file", contents(t, dir, "list"), "old\n")
	equal(t, "ledger", one(t, s, "SELECT COUNT(*) FROM sync_request"), "1")
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), ".") {
			t.Errorf("%s is left", n.Name())
		}
	}
	none := open(t)
	if o := none.Apply(testContext(t), []*Upload{upload(p, "p1", 1)})[0]; o.Err == nil {
		t.Error("a file without a directory")
	}
}

// The parts of a download that come in one transaction make one file, which is seen when it is committed.
func TestFileOfSeveralParts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, func(o *Options) { o.FileRoot = dir })
	p := filePlan("list", rule.CSV, 0)
	for _, commit := range []bool{true, false} {
		tx, err := s.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"a", "b"} {
			if _, err := tx.Apply(testContext(t), p, rowset.Rows{Values: []any{fmt.Sprint(part, commit), nil, nil}},
				rule.Env{}); err != nil {
				t.Fatal(err)
			}
		}
		if commit {
			if _, err := os.Stat(filepath.Join(dir, "list")); err == nil {
				t.Error("seen before it was committed")
			}
			err = tx.Commit(testContext(t))
		} else {
			err = tx.Rollback()
		}
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "the file", contents(t, dir, "list"), "domain\natrue\nbtrue\n")
	}
}

// Two points have a file each. A point's name never leads to another place.
func TestFileOfAPoint(t *testing.T) {
	dir := t.TempDir()
	s := open(t, func(o *Options) { o.FileRoot = dir })
	p := filePlan("lists/{point_no}.txt", rule.Lines, 0)
	for seq, point := range []string{"north", "south"} {
		applied(t, s, upload(p, point, uint64(seq+1), []any{point + ".example", nil, nil}))
	}
	equal(t, "north", contents(t, dir, "lists/north.txt"), "north.example\n")
	equal(t, "south", contents(t, dir, "lists/south.txt"), "south.example\n")
	for _, point := range []string{"../up", "a/b", "a:b", "..", "n\x00"} {
		o := s.Apply(testContext(t), []*Upload{upload(p, point, 1, []any{"x", nil, nil})})[0]
		if !errors.Is(o.Err, ErrFile) {
			t.Errorf("point %q: %v", point, o.Err)
		}
	}
}

// part makes an upload a part of a read of all rows.
func part(u *Upload, part uint32) *Upload {
	u.Part = rowset.PartOfAll | part
	return u
}

func TestFileOfAReadInSeveralUploads(t *testing.T) {
	dir := t.TempDir()
	s := open(t, func(o *Options) { o.FileRoot = dir })
	p := filePlan("lists/all.csv", rule.CSV, 0)
	row := func(seq uint64, domain string) *Upload { return upload(p, "p1", seq, []any{domain, nil, nil}) }
	sees := func(want string) {
		t.Helper()
		equal(t, "the file", contents(t, dir, "lists/all.csv"), "domain\n"+want)
	}
	applied(t, s, part(row(1, "old"), rowset.FirstPart|rowset.LastPart))
	applied(t, s, part(row(2, "a"), rowset.FirstPart))
	sees("old\n")
	applied(t, s, part(row(3, "b"), 0))
	if o := s.Apply(testContext(t), []*Upload{part(row(4, "c\n"), 0)})[0]; o.Err != nil { // csv quotes it
		t.Fatal(o.Err)
	}
	applied(t, s, part(row(5, "d"), rowset.LastPart))
	sees("a\nb\n\"c\n\"\nd\n")
	equal(t, "sent again", applied(t, s, part(row(5, "d"), rowset.LastPart)).Duplicate, true)
	sees("a\nb\n\"c\n\"\nd\n")

	// A read whose collected part is gone is not shown. The next one is.
	applied(t, s, part(row(6, "e"), rowset.FirstPart))
	if err := os.Remove(filepath.Join(dir, "lists", ".all.csv.part")); err != nil {
		t.Fatal(err)
	}
	applied(t, s, part(row(7, "f"), rowset.LastPart))
	sees("a\nb\n\"c\n\"\nd\n")
	applied(t, s, part(row(8, "g"), rowset.FirstPart|rowset.LastPart))
	sees("g\n")
	names, err := os.ReadDir(filepath.Join(dir, "lists"))
	if err != nil || len(names) != 1 {
		t.Errorf("%v %v", names, err)
	}
}

// What a transaction that was not committed has left in a file is cut before rows are appended.
func TestFileAppends(t *testing.T) {
	dir := t.TempDir()
	s := open(t, func(o *Options) { o.FileRoot = dir })
	p := filePlan("log", rule.CSV, 0)
	row := func(seq uint64, domain string) *Upload { return upload(p, "p1", seq, []any{domain, nil, nil}) }
	name := filepath.Join(dir, "log")
	if err := os.WriteFile(name, []byte("of a first transaction that was not committed"), 0o600); err != nil {
		t.Fatal(err)
	}
	applied(t, s, row(1, "a"))
	tx, err := s.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	p.FileMode = rule.FileAppend
	for _, domain := range []string{"b", strings.Repeat("long", 10_000)} {
		rows := rowset.Rows{Values: []any{domain, nil, nil}}
		if _, err := tx.Apply(testContext(t), p, rows, rule.Env{Point: "p1"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	equal(t, "after a rollback", contents(t, dir, "log"), "domain\na\n")
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("of a crash")
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	applied(t, s, row(2, "c"))
	applied(t, s, part(row(3, "d"), rowset.FirstPart|rowset.LastPart)) // the rule says that it appends
	equal(t, "after a crash", contents(t, dir, "log"), "domain\na\nc\nd\n")
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	applied(t, s, row(4, "e"))
	equal(t, "moved away", contents(t, dir, "log"), "domain\ne\n")

	p.FileMode = rule.FileSnapshot
	if o := s.Apply(testContext(t), []*Upload{row(5, "f")})[0]; !errors.Is(o.Err, ErrMismatch) {
		t.Errorf("new rows for a snapshot: %v", o.Err)
	}
	equal(t, "a refused upload", contents(t, dir, "log"), "domain\ne\n")
}
