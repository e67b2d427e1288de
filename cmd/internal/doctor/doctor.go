// Package doctor judges a database: what it says of itself, and the privileges that a program has on it.
package doctor

import (
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"syncgate/store"
)

// The levels of a finding. They are the command's exit codes.
const (
	OK = iota
	Warn
	Fail
)

// Examination prints findings and remembers the worst level.
type Examination struct {
	Out   io.Writer // nil: the findings are only kept
	Worst int
	All   []Finding
}

// Finding is one line of an examination.
type Finding struct {
	Level   string `json:"level"`
	What    string `json:"what"`
	Finding string `json:"finding"`
}

// Say prints a finding about something.
func (e *Examination) Say(level int, what, finding string) {
	e.Worst = max(e.Worst, level)
	e.All = append(e.All, Finding{[...]string{"ok", "warn", "fail"}[level], what, finding})
	if e.Out != nil {
		fmt.Fprintf(e.Out, "%-5s  %-12s  %s\n", e.All[len(e.All)-1].Level, what, finding)
	}
}

// MaxSkew is how far clocks may differ before periods and expiry need attention.
const MaxSkew = 2 * time.Second

// Server judges what a database says of itself.
func (e *Examination) Server(f *store.Facts) {
	e.Say(OK, "version", f.Version+", database "+f.Database+", as "+f.User)
	if unsafe := f.Unsafe(); len(unsafe) > 0 {
		for _, u := range unsafe {
			e.Say(Fail, "durability", u)
		}
	} else {
		e.Say(OK, "durability", "an acknowledged row survives a power cut")
	}
	if f.Skew.Abs() > MaxSkew {
		e.Say(Warn, "clock", fmt.Sprintf("the database's clock differs from this host's by %v; "+
			"synchronise both with the same time server", f.Skew.Round(time.Millisecond)))
	} else {
		e.Say(OK, "clock", fmt.Sprintf("the database's clock is within %v of this host's", MaxSkew))
	}
	zone := "rules see that of the database's other clients: " + f.Zone
	if f.Summer {
		zone += "; SQL of a rule's own takes a TIMESTAMP in the hour that comes twice in autumn for the " +
			"first of the two"
	}
	if f.OtherZone {
		e.Say(Warn, "time_zone",
			zone+". init_connect sets another for other clients: set time_zone in the settings to theirs")
	} else {
		e.Say(OK, "time_zone",
			zone+". If your applications set another in their sessions, set time_zone in the settings")
	}
	if v := f.Variables["read_only"]; v != "" && v != "OFF" && v != "0" {
		e.Say(Fail, "read_only", "the server takes no writes: read_only is "+v+
			"; find out why, then SET GLOBAL read_only = 0")
	}
	if f.MaxPacket < 16<<20 {
		e.Say(Warn, "max_packet", fmt.Sprintf("max_allowed_packet is %d bytes; a larger row cannot be synced. "+
			"The largest frame has 16 MiB", f.MaxPacket))
	}
	e.Say(OK, "sql_mode", "the server's is '"+f.Variables["sql_mode"]+"'; syncgate's own sessions use a strict one")
}

// wanted are the privileges that both programs need on their database.
var wanted = [...]struct {
	name  string
	level int
	why   string
}{
	{"SELECT", Fail, "rules and tables are read"},
	{"INSERT", Fail, "rows are applied"},
	{"UPDATE", Fail, "rows are applied"},
	{"DELETE", Fail, "old requests and batches are deleted"},
	{"CREATE", Warn, "migrations make tables"},
	{"ALTER", Warn, "migrations change tables"},
	{"INDEX", Warn, "migrations make indexes"},
	{"CREATE VIEW", Warn, "sync_control_status is a view"},
	{"DROP", Warn, "migrations replace that view"},
	{"TRIGGER", Warn, "the history of edits is kept by triggers"},
}

// Grants judges the privileges on the database as a whole.
func (e *Examination) Grants(f *store.Facts) {
	has := privileges(f.Grants, f.Database)
	missing := 0
	for _, w := range wanted {
		if !has[w.name] && !has["ALL PRIVILEGES"] {
			missing++
			e.Say(w.level, "grants",
				fmt.Sprintf("%s is missing: %s; GRANT %s ON `%s`.* TO %s", w.name, w.why, w.name, f.Database,
					Account(f.User)))
		}
	}
	if missing == 0 {
		e.Say(OK, "grants", "all that are needed")
	}
}

// Account is user@host as a GRANT names it.
func Account(user string) string {
	at := strings.LastIndexByte(user, '@')
	return "'" + user[:max(at, 0)] + "'@'" + user[at+1:] + "'"
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
