package protocol

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The table of statuses in the document is the catalogue's; -update writes it.
func TestDocumentHasTheCatalogue(t *testing.T) {
	const path = "../docs/protocol.md"
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(stored), "<!-- statuses")
	head, rest, ok2 := strings.Cut(rest, "-->\n")
	_, after, ok3 := strings.Cut(rest, "<!-- /statuses -->")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s has no place for the statuses", path)
	}
	var table strings.Builder
	table.WriteString("| number | name | meaning | again | what to do |\n|---|---|---|---|---|\n")
	for _, s := range catalogue() {
		again := "no"
		if s.Retry {
			again = "yes"
		}
		fmt.Fprintf(&table, "| %d | %s | %s | %s | %s |\n", s.Status, s.Name, cell(s.Meaning), again, cell(s.Remedy))
	}
	want := before + "<!-- statuses" + head + "-->\n" + table.String() + "<!-- /statuses -->" + after
	switch {
	case want == string(stored):
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the statuses in %s are not the catalogue's; run this test with -update", path)
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
