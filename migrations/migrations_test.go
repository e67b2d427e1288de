package migrations

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestSetsAreInOrderAndWhole(t *testing.T) {
	named := regexp.MustCompile(`^\d{4}_[a-z_]+$`)
	for _, set := range []Set{Server, Agent} {
		all, err := Load(set, nil)
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for i, m := range all {
			if owner := Owner(m.Name); owner != "" && owner != set {
				t.Errorf("%s of %s belongs to %s", m.Name, set, owner)
			}
			number, name := m.Name[:4], m.Name[5:]
			if !named.MatchString(m.Name) {
				t.Errorf("%s: %s is not NNNN_name", set, m.Name)
			}
			if i > 0 && all[i-1].Name[:4] >= number {
				t.Errorf("%s: %s does not come after %s", set, m.Name, all[i-1].Name)
			}
			have[name] = true
		}
		for _, want := range []string{"sync_control", "sync_rule_status", "sync_control_status", "sync_quarantine"} {
			if !have[want] {
				t.Errorf("%s lacks %s", set, want)
			}
		}
	}
}

func TestOneStatementAFile(t *testing.T) {
	literal := regexp.MustCompile(`'[^']*'`)
	for _, set := range []Set{Server, Agent} {
		all, err := Load(set, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if strings.Contains(literal.ReplaceAllString(m.SQL, ""), ";") {
				t.Errorf("%s holds a semicolon", m.Name)
			}
			if n := strings.Count(m.SQL, "CREATE ") + strings.Count(m.SQL, "ALTER "); n != 1 {
				t.Errorf("%s makes %d things", m.Name, n)
			}
		}
	}
}

// Every column tells the DBA what it is for, in the tool the DBA has.
func TestEveryColumnHasAComment(t *testing.T) {
	column := regexp.MustCompile(`^    [a-z_]+ (BIGINT|INT|SMALLINT|TINYINT|VARCHAR|VARBINARY|BINARY|TEXT|MEDIUMTEXT|LONGTEXT|MEDIUMBLOB|LONGBLOB|JSON|ENUM|TIMESTAMP)\b`)
	seen := 0
	for _, set := range []Set{Server, Agent} {
		all, err := Load(set, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			for line := range strings.Lines(m.SQL) {
				if !column.MatchString(line) {
					continue
				}
				seen++
				if !strings.Contains(line, " COMMENT '") {
					t.Errorf("%s: no comment: %s", m.Name, line)
				}
			}
		}
	}
	if seen < 60 { // those of sync_control are declared in rule
		t.Errorf("only %d columns seen", seen)
	}
}

func TestConstraintNamesFit(t *testing.T) {
	name := regexp.MustCompile("(?:ADD |,\\s+|^\\s*)CONSTRAINT `([^`]+)`") // not what is dropped
	for _, set := range []Set{Server, Agent} {
		seen := map[string]string{}
		all, err := Load(set, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			for _, found := range name.FindAllStringSubmatch(m.SQL, -1) {
				if len(found[1]) > 64 {
					t.Errorf("%s: %q is longer than 64", m.Name, found[1])
				}
				if other, twice := seen[found[1]]; twice { // MySQL wants them unique in a database
					t.Errorf("%q stands in %s and in %s", found[1], other, m.Name)
				}
				seen[found[1]] = m.Name
			}
		}
	}
}

func TestListsFillTheStatements(t *testing.T) {
	lists := func(columns string) map[string]string {
		return map[string]string{"columns": columns, "fetched columns": columns, "old row": columns, "new row": columns}
	}
	for set, want := range map[Set]int{Server: 4, Agent: 5} {
		one, err := Load(set, lists("a"))
		two, err2 := Load(set, lists("a, b"))
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		listed := 0
		for i, m := range one {
			if m.Listed {
				listed++
			}
			unfilled := strings.Contains(m.SQL, "columns}") || strings.Contains(m.SQL, " row}")
			if m.Listed == (m.Hash == two[i].Hash) || unfilled {
				t.Errorf("%s: listed %v: %s", m.Name, m.Listed, m.SQL)
			}
		}
		if listed != want {
			t.Errorf("%s: %d statements have lists", set, listed)
		}
	}
}

func TestOwner(t *testing.T) {
	for name, want := range map[string]Set{"0000_server": Server, "0000_agent": Agent, "0013_sync_request": Server,
		"0012_sync_outbox": Agent, "0001_sync_control": "", "9999_elsewhere": ""} {
		if got := Owner(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestNoSuchSet(t *testing.T) {
	if _, err := Load("elsewhere", nil); err == nil {
		t.Error("a set that does not exist was loaded")
	}
}
