package test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "syncgate"

// arrows are the packages of the project that each package may import, with the reasons. cmd is not among them,
// because it may import every package. A package that is not named here fails the test. docs/architecture.md has the
// same list.
var arrows = map[string][]string{
	// The mechanisms know nothing of the project, so that each can be read and tested alone.
	"reactor":            {},
	"crypto":             {},
	"migrations":         {},
	"internal/pyliteral": {},
	"internal/limit":     {},
	"internal/account":   {}, // the bytes of clients
	"internal/logging":   {}, // no line waits for its reader
	"internal/text":      {},
	"internal/harness":   {},
	// What the tests of the whole share makes databases and speaks the wire.
	"internal/harness/harnesstest": {"crypto", "internal/harness", "internal/rowset", "migrations", "protocol", "store",
		"store/localdb", "store/localdb/localdbtest"},
	"internal/harness/pythontest": {},
	"internal/rowset":             {}, // the words that the wire, the rules and the database share
	// A session seals with crypto and reads the v1 wire's Python literals.
	"protocol": {"crypto", "internal/pyliteral", "internal/rowset"},
	// Seed-era rules hold Python literals. A plan binds rows and carried state.
	"rule": {"internal/pyliteral", "internal/rowset"},
	// A store runs plans and makes the schema.
	"store":                     {"rule", "migrations", "internal/rowset"},
	"store/localdb":             {},
	"store/localdb/localdbtest": {"store/localdb"},
	// The page shows points and rules as the database has them.
	"admin": {"store"},
	// Rules in force are compiled by rule and checked by the store's database, at the centre and at a point.
	"ruleset": {"rule", "store"},
	// A request is a message; its answer is what the store made of the plan in force.
	"business": {"protocol", "rule", "ruleset", "store", "internal/rowset"},
	// The server stands between the reactor and business, which do not know each other.
	"gateway": {"reactor", "protocol", "crypto", "business", "rule", "ruleset", "store", "internal/rowset"},
	// The point speaks the same wire and runs the same plans on the same kind of database.
	"agent": {"protocol", "crypto", "rule", "ruleset", "store", "internal/rowset"},
	"test": {"crypto", "migrations", "protocol", "rule", "store", "store/localdb", "store/localdb/localdbtest",
		"internal/harness/harnesstest", "internal/rowset"},
}

// common packages may be imported by every package: internal/limit is how an option is declared, internal/text how a
// number is written, internal/account how what clients share is counted, internal/logging how often a line may come.
var common = []string{"internal/limit", "internal/text", "internal/account", "internal/logging"}

// strangers are packages that must not be reached by any way, with why.
var strangers = []struct {
	from, stranger, why string
}{
	{"reactor", "net", "every socket is the poller's; net has one of its own"},
	{"reactor", "github.com/rs/zerolog", "it reports through its observer"},
	{"protocol", "github.com/rs/zerolog", "it reports through errors"},
	{"protocol", "net", "it is bytes to messages and back"},
	{"crypto", "github.com/rs/zerolog", "it reports through errors"},
	{"crypto", "net", "it has no I/O"},
	{"rule", "github.com/rs/zerolog", "it reports through diagnostics"},
	{"rule", "net", "it is pure"},
	{"rule", "database/sql", "it is pure"},
	{"store", "github.com/rs/zerolog", "it reports through errors"},
	{"internal/rowset", "database/sql", "it is words, without a database"},
	{"internal/pyliteral", "os/exec", "nothing in it could run"},
	{"internal/pyliteral", "net", "nothing in it could run"},
}

// listed is what `go list -json` tells about one package.
type listed struct {
	ImportPath   string
	Imports      []string // written in its files, tests apart
	TestImports  []string
	XTestImports []string
	Deps         []string // reached by any way
}

func listPackages(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list",
		"-json=ImportPath,Imports,TestImports,XTestImports,Deps", "./...")
	cmd.Dir = Root(t)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, complaint.String())
	}
	packages := make(map[string]listed)
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, module+"/")] = p
	}
}

func ours(imports []string) []string {
	var names []string
	for _, path := range imports {
		if name, ok := strings.CutPrefix(path, module+"/"); ok {
			names = append(names, name)
		}
	}
	return names
}

// Each package imports only the packages that arrows allow, and reaches none of its strangers.
func TestArrows(t *testing.T) {
	packages := listPackages(t)
	for name := range arrows {
		if _, ok := packages[name]; !ok {
			t.Errorf("arrows names package %s, which does not exist", name)
		}
	}
	for name, p := range packages {
		if strings.HasPrefix(name, "cmd/") {
			continue
		}
		allowed, ok := arrows[name]
		if !ok {
			t.Errorf("package %s is missing in arrows; add it there and in docs/architecture.md", name)
			continue
		}
		for _, imported := range ours(p.Imports) {
			if !slices.Contains(allowed, imported) && !slices.Contains(common, imported) {
				t.Errorf("%s imports %s, and may import only %v", name, imported, allowed)
			}
		}
		for _, imported := range ours(slices.Concat(p.Imports, p.TestImports, p.XTestImports)) {
			if name == "reactor" && imported == "business" || name == "business" && imported == "reactor" {
				t.Errorf("%s and %s know of each other", name, imported)
			}
			if strings.HasPrefix(imported, "cmd/") && name != "test" {
				t.Errorf("%s imports %s: cmd is the end of every arrow", name, imported)
			}
		}
	}
	for _, s := range strangers {
		if slices.Contains(packages[s.from].Deps, s.stranger) {
			t.Errorf("%s reaches %s, and must not: %s", s.from, s.stranger, s.why)
		}
	}
}

// docs/architecture.md lists the same arrows, but for those of the tests' own packages.
func TestArchitectureListsArrows(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(Root(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if from, to, ok := strings.Cut(line, " -> "); ok {
			listed[strings.TrimSpace(from)] = strings.TrimSpace(to)
		}
	}
	for name, allowed := range arrows {
		if strings.HasSuffix(name, "test") {
			continue
		}
		if want := strings.Join(slices.Sorted(slices.Values(allowed)), ", "); listed[name] != want {
			t.Errorf("docs/architecture.md lets %s import %q, want %q", name, listed[name], want)
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("docs/architecture.md has arrows of %s, and arrows has none", name)
	}
}

// Every import of a program goes from cmd down: nothing outside of cmd has a main.
func TestOnlyCmdHasPrograms(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./...")
	cmd.Dir = Root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if !strings.HasPrefix(path, module+"/cmd/") {
			t.Errorf("%s is a program outside of cmd", path)
		}
	}
}
