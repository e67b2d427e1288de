package migrations

import (
	"regexp"
	"strings"
	"testing"
)

func TestSetsAreInOrderAndWhole(t *testing.T) {
	named := regexp.MustCompile(`^\d{4}_[a-z_]+$`)
	for _, set := range []Set{Server, Agent} {
		all, err := Load(set)
		if err != nil {
			t.Fatal(err)
		}
		have := map[string]bool{}
		for i, m := range all {
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
		all, err := Load(set)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if strings.Contains(literal.ReplaceAllString(m.SQL, ""), ";") {
				t.Errorf("%s holds a semicolon", m.Name)
			}
			if n := strings.Count(m.SQL, "CREATE "); n != 1 {
				t.Errorf("%s creates %d things", m.Name, n)
			}
		}
	}
}

// Every column tells the DBA what it is for, in the tool the DBA has.
func TestEveryColumnHasAComment(t *testing.T) {
	column := regexp.MustCompile(`^    [a-z_]+ (BIGINT|INT|SMALLINT|TINYINT|VARCHAR|VARBINARY|BINARY|TEXT|MEDIUMTEXT|LONGTEXT|MEDIUMBLOB|LONGBLOB|JSON|ENUM|TIMESTAMP)\b`)
	seen := 0
	for _, set := range []Set{Server, Agent} {
		all, err := Load(set)
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
	if seen < 80 {
		t.Errorf("only %d columns seen", seen)
	}
}

func TestConstraintNamesFit(t *testing.T) {
	name := regexp.MustCompile("CONSTRAINT `([^`]+)`")
	for _, set := range []Set{Server, Agent} {
		seen := map[string]string{}
		all, err := Load(set)
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

func TestNoSuchSet(t *testing.T) {
	if _, err := Load("elsewhere"); err == nil {
		t.Error("a set that does not exist was loaded")
	}
}
