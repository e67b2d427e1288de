package main

import (
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

func newDoctor() *cobra.Command {
	cmd := onDatabase("doctor", "Look at the database as a whole: grants, modes, durability, clocks, indexes, engines, versions", "", func(c *call) error {
		e := examination{out: c.out}
		facts, err := c.db.Facts(c.Context())
		if err != nil {
			return err
		}
		e.server(facts)
		e.grants(facts)
		if e.schema(c) {
			ds, rules, err := c.checkAll()
			if err != nil {
				return err
			}
			e.rules(ds, rules)
		}
		if e.worst > 0 {
			return &cli.ExitError{Code: e.worst}
		}
		return nil
	})
	cmd.Long = "Look at everything outside the rules that sync depends on. Exit 0: nothing to do; 1: something to look at; 2: something that breaks the promise."
	return cmd
}

// examination collects findings and remembers the worst: 1 to look at, 2 broken.
type examination struct {
	out   io.Writer
	worst int
}

func (e *examination) say(level int, what, finding string) {
	e.worst = max(e.worst, level)
	fmt.Fprintf(e.out, "%-5s  %-12s  %s\n", [...]string{"ok", "look", "BAD"}[level], what, finding)
}

// maxSkew is how far clocks may differ before periods and expiry are worth a look.
const maxSkew = 2 * time.Second

func (e *examination) server(f *store.Facts) {
	e.say(0, "version", f.Version+", database "+f.Database+", as "+f.User)
	if unsafe := f.Unsafe(); len(unsafe) > 0 {
		for _, u := range unsafe {
			e.say(2, "durability", u)
		}
	} else {
		e.say(0, "durability", "an acknowledged row survives a power cut")
	}
	if f.Skew.Abs() > maxSkew {
		e.say(1, "clock", fmt.Sprintf("the database's clock is %v from this host's; let both follow the same time server", f.Skew.Round(time.Millisecond)))
	} else {
		e.say(0, "clock", fmt.Sprintf("the database's clock is within %v of this host's", maxSkew))
	}
	if v := f.Variables["read_only"]; v != "" && v != "OFF" && v != "0" {
		e.say(2, "read_only", "the server takes no writes: read_only is "+v+"; see why, then SET GLOBAL read_only = 0")
	}
	if f.MaxPacket < 16<<20 {
		e.say(1, "max_packet", fmt.Sprintf("max_allowed_packet is %d bytes; a row over it cannot cross, and 16 MiB is the largest frame", f.MaxPacket))
	}
	e.say(0, "sql_mode", "the server's own is '"+f.Variables["sql_mode"]+"'; syncgate sets a strict one for itself")
}

// wanted are the privileges that the server needs on its database. TRIGGER is only for
// the history of edits.
var wanted = [...]struct {
	name  string
	level int
	why   string
}{
	{"SELECT", 2, "rules and tables are read"}, {"INSERT", 2, "rows are applied"}, {"UPDATE", 2, "rows are applied"},
	{"DELETE", 2, "the request ledger is purged"}, {"CREATE", 1, "migrations make tables"}, {"ALTER", 1, "migrations change tables"},
	{"INDEX", 1, "migrations make indexes"}, {"CREATE VIEW", 1, "sync_control_status is a view"}, {"DROP", 1, "migrations replace that view"},
	{"TRIGGER", 1, "the history of edits is kept by triggers"},
}

func (e *examination) grants(f *store.Facts) {
	has := privileges(f.Grants, f.Database)
	missing := 0
	for _, w := range wanted {
		if !has[w.name] && !has["ALL PRIVILEGES"] {
			missing++
			e.say(w.level, "grants", fmt.Sprintf("no %s on %s: %s; grant it to %s", w.name, f.Database, w.why, f.User))
		}
	}
	if missing == 0 {
		e.say(0, "grants", "all that is needed")
	}
}

// privileges are those that lines of SHOW GRANTS give on the whole of a database.
func privileges(grants []string, database string) map[string]bool {
	has := map[string]bool{}
	for _, line := range grants {
		line, ok := strings.CutPrefix(line, "GRANT ")
		what, rest, on := strings.Cut(line, " ON ")
		scope, _, to := strings.Cut(rest, " TO ")
		scope = strings.NewReplacer("`", "", `\_`, "_", `\%`, "%").Replace(scope)
		matches, _ := path.Match(strings.ReplaceAll(scope, "%", "*"), database+".*")
		if ok && on && to && (matches || scope == "*.*") {
			for name := range strings.SplitSeq(what, ", ") {
				has[name] = true
			}
		}
	}
	return has
}

// schema reports whether the schema is this program's, without which the rules cannot be read. Triggers that the
// account may not make are left out, and with them the history of edits.
func (e *examination) schema(c *call) bool {
	skipped, err := c.db.CheckSchema(c.Context())
	switch {
	case err != nil:
		e.say(2, "schema", strings.ReplaceAll(withRemedy(err).Error(), "\n", "; "))
	case len(skipped) > 0:
		e.say(1, "schema", "edits of rules are not recorded, since 'syncgate migrate' could not run "+strings.Join(skipped, ", "))
	default:
		e.say(0, "schema", "up to date")
	}
	return err == nil
}

func (e *examination) rules(ds []rule.Diagnostic, rules int) {
	bad := map[rule.Severity]int{}
	for _, d := range ds {
		bad[d.Severity]++
		if d.Code == rule.NoWatermarkIndex {
			e.say(1, "index", d.String())
		}
	}
	switch {
	case bad[rule.Error] > 0:
		e.say(2, "rules", cli.Plural(bad[rule.Error], "error")+"; see 'syncgate rules check'")
	case bad[rule.Warning] > 0:
		e.say(1, "rules", cli.Plural(bad[rule.Warning], "warning")+"; see 'syncgate rules check'")
	default:
		e.say(0, "rules", cli.Plural(rules, "rule")+", nothing wrong")
	}
}
