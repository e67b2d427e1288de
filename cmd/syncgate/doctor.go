package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/internal/text"
	"syncgate/rule"
	"syncgate/store"
)

func newDoctor() *cobra.Command {
	const short = "Check the database as a whole: grants, modes, durability, clocks, indexes, engines, versions"
	cmd := onDatabase("doctor", short, "", func(c *call) error {
		e := examination{out: c.out}
		facts, err := c.db.Facts(c.Context())
		if err != nil {
			return err
		}
		e.server(facts)
		e.grants(facts)
		if err := e.transactions(c, facts.User); err != nil {
			return err
		}
		if err := e.zone(c); err != nil {
			return err
		}
		if e.schema(c) {
			if err := e.triggers(c); err != nil {
				return err
			}
			e.keys(c)
			ds, rules, err := c.checkAll()
			if err != nil {
				return err
			}
			e.rules(ds, rules)
		}
		if e.worst > ok {
			return &cli.ExitError{Code: e.worst}
		}
		return nil
	})
	cmd.Long = `Check everything outside the rules that sync depends on. Each finding is ok, warn or fail. A failure
stops sync or can lose acknowledged rows. Exit 0: all ok; 1: a warning; 2: a failure.`
	return cmd
}

// The levels of a finding. They are the command's exit codes.
const (
	ok = iota
	warn
	fail
)

// examination prints findings and remembers the worst level.
type examination struct {
	out   io.Writer
	worst int
}

func (e *examination) say(level int, what, finding string) {
	e.worst = max(e.worst, level)
	fmt.Fprintf(e.out, "%-5s  %-12s  %s\n", [...]string{"ok", "warn", "fail"}[level], what, finding)
}

// maxSkew is how far clocks may differ before periods and expiry need attention.
const maxSkew = 2 * time.Second

func (e *examination) server(f *store.Facts) {
	e.say(ok, "version", f.Version+", database "+f.Database+", as "+f.User)
	if unsafe := f.Unsafe(); len(unsafe) > 0 {
		for _, u := range unsafe {
			e.say(fail, "durability", u)
		}
	} else {
		e.say(ok, "durability", "an acknowledged row survives a power cut")
	}
	if f.Skew.Abs() > maxSkew {
		e.say(warn, "clock", fmt.Sprintf("the database's clock differs from this host's by %v; "+
			"synchronise both with the same time server", f.Skew.Round(time.Millisecond)))
	} else {
		e.say(ok, "clock", fmt.Sprintf("the database's clock is within %v of this host's", maxSkew))
	}
	if v := f.Variables["read_only"]; v != "" && v != "OFF" && v != "0" {
		e.say(fail, "read_only", "the server takes no writes: read_only is "+v+
			"; find out why, then SET GLOBAL read_only = 0")
	}
	if f.MaxPacket < 16<<20 {
		e.say(warn, "max_packet", fmt.Sprintf("max_allowed_packet is %d bytes; a larger row cannot be synced. "+
			"The largest frame has 16 MiB", f.MaxPacket))
	}
	e.say(ok, "sql_mode", "the server's is '"+f.Variables["sql_mode"]+"'; syncgate's own sessions use a strict one")
}

// wanted are the privileges that the server needs on its database.
var wanted = [...]struct {
	name  string
	level int
	why   string
}{
	{"SELECT", fail, "rules and tables are read"},
	{"INSERT", fail, "rows are applied"},
	{"UPDATE", fail, "rows are applied"},
	{"DELETE", fail, "the request ledger is purged"},
	{"CREATE", warn, "migrations make tables"},
	{"ALTER", warn, "migrations change tables"},
	{"INDEX", warn, "migrations make indexes"},
	{"CREATE VIEW", warn, "sync_control_status is a view"},
	{"DROP", warn, "migrations replace that view"},
	{"TRIGGER", warn, "the history of edits is kept by triggers"},
}

func (e *examination) grants(f *store.Facts) {
	has := privileges(f.Grants, f.Database)
	missing := 0
	for _, w := range wanted {
		if !has[w.name] && !has["ALL PRIVILEGES"] {
			missing++
			e.say(w.level, "grants",
				fmt.Sprintf("%s on %s is missing: %s; grant it to %s", w.name, f.Database, w.why, f.User))
		}
	}
	if missing == 0 {
		e.say(ok, "grants", "all that are needed")
	}
}

// zone tells which time zone rules see.
func (e *examination) zone(c *call) error {
	zone, doubt, err := c.db.Zone(c.Context())
	if doubt != "" {
		e.say(warn, "time_zone", doubt+"; set time_zone in the settings to theirs. Rules see "+zone)
	} else if err == nil {
		e.say(ok, "time_zone", "rules see that of the database's other clients: "+zone+
			". If your applications set another in their sessions, set time_zone in the settings")
	}
	return err
}

// transactions tells whether reading by time sees the transactions of others, and whether one holds it back.
func (e *examination) transactions(c *call, user string) error {
	sees, err := c.db.SeesTransactions(c.Context())
	if err != nil {
		return err
	}
	held, err := c.db.Held(c.Context())
	switch {
	case err != nil:
		return err
	case !sees:
		e.say(warn, "transactions", "rules that read by update_time miss rows whose transaction is open for longer than "+
			"the rule's lag, because "+user+" may not see transactions; grant process on *.* to "+user)
	case held != "":
		e.say(warn, "transactions", held+"; rows that were written after it wait for its end")
	default:
		e.say(ok, "transactions", "none holds back reading by update_time")
	}
	return nil
}

// privileges are those that lines of SHOW GRANTS give on a whole database.
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
		e.say(fail, "schema", strings.ReplaceAll(withRemedy(err).Error(), "\n", "; "))
	case len(skipped) > 0:
		e.say(warn, "schema", "edits of rules are not recorded: 'syncgate migrate' could not run "+
			strings.Join(skipped, ", "))
	default:
		e.say(ok, "schema", "up to date")
	}
	return err == nil
}

// triggers reports those whose account is gone. Every edit of a rule or of a recorded table fails with error 1449 then.
func (e *examination) triggers(c *call) error {
	orphaned, err := c.db.OrphanedTriggers(c.Context())
	for _, t := range orphaned {
		e.say(fail, "triggers", t+": the account that made the trigger is gone, so that every change of the table fails "+
			"with error 1449; drop the trigger, then run 'syncgate migrate', or for sync_change_… "+
			"'syncgate rules init TABLE --changes --write'")
	}
	return err
}

// keys reports whether the master key opens the points' keys.
func (e *examination) keys(c *call) {
	stored, err := c.db.Keys(c.Context())
	if err != nil {
		e.say(fail, "keys", err.Error())
		return
	}
	file := c.cfg.MasterKey
	master, err := readMasterKey(file)
	switch n := opens(master, stored); {
	case errors.Is(err, fs.ErrNotExist) && len(stored) == 0:
		e.say(ok, "keys", "no point is enrolled yet; "+file+" is made with the first key")
	case err != nil:
		e.say(fail, "keys", fmt.Sprintf("master_key_file %s: %v; %d keys are sealed under it", file, err, len(stored)))
	case n < len(stored):
		e.say(fail, "keys", fmt.Sprintf("%s opens %d of %d keys; the others are sealed under another master key: put that "+
			"file back, or give those points new keys with 'syncgate point rotate'", file, n, len(stored)))
	default:
		e.say(ok, "keys", fmt.Sprintf("%s opens all %d", file, n))
	}
}

func (e *examination) rules(ds []rule.Diagnostic, rules int) {
	bad := map[rule.Severity]int{}
	for _, d := range ds {
		bad[d.Severity]++
		switch d.Code {
		case rule.NoWatermarkIndex:
			e.say(warn, "index", d.String())
		case rule.NoWatermark, rule.NullWatermark, rule.UnseenTransactions:
			e.say(warn, "watermark", d.String())
		}
	}
	switch {
	case bad[rule.Error] > 0:
		e.say(fail, "rules", text.Plural(bad[rule.Error], "error")+"; see 'syncgate rules check'")
	case bad[rule.Warning] > 0:
		e.say(warn, "rules", text.Plural(bad[rule.Warning], "warning")+"; see 'syncgate rules check'")
	default:
		e.say(ok, "rules", text.Plural(rules, "rule")+", nothing wrong")
	}
}
