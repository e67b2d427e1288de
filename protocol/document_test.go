package protocol

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDocumentTables compares the tables of docs/protocol.md that have a declaration in this package; -update writes
// them.
func TestDocumentTables(t *testing.T) {
	const path = "../docs/protocol.md"
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := string(stored)
	for name, table := range map[string]string{"ops": opsTable(), "statuses": statusesTable()} {
		before, rest, ok := strings.Cut(want, "<!-- "+name+":")
		head, rest, ok2 := strings.Cut(rest, "-->\n")
		_, after, ok3 := strings.Cut(rest, "<!-- /"+name+" -->")
		if !ok || !ok2 || !ok3 {
			t.Fatalf("%s has no place for the %s", path, name)
		}
		want = before + "<!-- " + name + ":" + head + "-->\n" + table + "<!-- /" + name + " -->" + after
	}
	switch {
	case want == string(stored):
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("a table in %s differs from its declaration; run this test with -update", path)
	}
}

func opsTable() string {
	var table strings.Builder
	table.WriteString("| op | number | from | request payload | reply payload |\n|---|---|---|---|---|\n")
	for op, o := range ops {
		if o.name == "" {
			continue
		}
		from := map[sides]string{fromClient: "client", fromServer: "server", fromClient | fromServer: "both"}[o.from]
		request, reply := "none", "none"
		if o.request != nil {
			request = typeName(o.request)
		}
		if o.reply != nil {
			reply = typeName(o.reply)
		}
		if o.several {
			reply += ", several"
		}
		fmt.Fprintf(&table, "| %s | %d | %s | %s | %s |\n", strings.ToUpper(o.name), op, from, request, reply)
	}
	return table.String()
}

func statusesTable() string {
	var table strings.Builder
	table.WriteString("| number | name | meaning | again | what to do |\n|---|---|---|---|---|\n")
	for _, s := range catalogue() {
		again := "no"
		if s.Retry {
			again = "yes"
		}
		fmt.Fprintf(&table, "| %d | %s | %s | %s | %s |\n", s.Status, s.Name, cell(s.Meaning), again, cell(s.Remedy))
	}
	return table.String()
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// TestOpsHavePayloadTests fails for an op whose payloads no test encodes and decodes.
func TestOpsHavePayloadTests(t *testing.T) {
	tested := map[string]bool{}
	for _, b := range bodies {
		tested[typeName(b.body)] = true
	}
	for op, o := range ops {
		for _, p := range []payload{o.request, o.reply} {
			if p != nil && !tested[typeName(p)] {
				t.Errorf("%v: %s is not in bodies", Op(op), typeName(p))
			}
		}
	}
}
