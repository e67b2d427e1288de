package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/rule"
	"syncgate/store"
)

func newDoctor() *cobra.Command {
	var s settings
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the database as a whole: grants, modes, durability, clocks, indexes, engines, versions",
		Long:  "Look at everything outside the rules that sync depends on. Exit 0: nothing to do; 1: something to look at; 2: something that breaks the promise.",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := s.load()
			if err != nil {
				return err
			}
			cfg.AcceptUnsafe = true // it is looked at here, rather than refused
			db, err := openCentre(c.Context(), cfg, zerolog.Nop(), true, nil)
			if err != nil {
				return err
			}
			defer db.Close()
			e := examination{out: c.OutOrStdout()}
			facts, err := db.Facts(c.Context())
			if err != nil {
				return err
			}
			e.server(facts)
			e.grants(facts)
			ds, rules, err := checkAll(c.Context(), db)
			if err != nil {
				return err
			}
			e.rules(ds, rules)
			if e.worst > 0 {
				return &cli.ExitError{Code: e.worst}
			}
			return nil
		},
	}
	s.flags(c)
	return c
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
		e.say(2, "read_only", "the server takes no writes: read_only is "+v)
	}
	if f.MaxPacket < 16<<20 {
		e.say(1, "max_packet", fmt.Sprintf("max_allowed_packet is %d bytes; a row over it cannot cross, and 16 MiB is the largest frame", f.MaxPacket))
	}
	e.say(0, "sql_mode", "the server's own is "+orDash(f.Variables["sql_mode"])+"; syncgate sets a strict one for itself")
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
	{"INDEX", 1, "migrations make indexes"}, {"CREATE VIEW", 1, "sync_control_status is a view"}, {"TRIGGER", 1, "the history of edits is kept by triggers"},
}

func (e *examination) grants(f *store.Facts) {
	all := strings.ToUpper(strings.Join(f.Grants, "\n"))
	if strings.Contains(all, "ALL PRIVILEGES") {
		e.say(0, "grants", "all privileges")
		return
	}
	missing := 0
	for _, w := range wanted {
		if !strings.Contains(all, w.name) {
			missing++
			e.say(w.level, "grants", "no "+w.name+": "+w.why)
		}
	}
	if missing == 0 {
		e.say(0, "grants", "all that is needed")
	}
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
		e.say(2, "rules", fmt.Sprintf("%d errors; see 'syncgate rules check'", bad[rule.Error]))
	case bad[rule.Warning] > 0:
		e.say(1, "rules", fmt.Sprintf("%d warnings; see 'syncgate rules check'", bad[rule.Warning]))
	default:
		e.say(0, "rules", fmt.Sprintf("%d rules, nothing wrong with them", rules))
	}
}
