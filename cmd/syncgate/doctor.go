package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/doctor"
	"syncgate/internal/text"
	"syncgate/rule"
)

func newDoctor() *cobra.Command {
	const short = "Check the database as a whole: grants, modes, durability, clocks, indexes, engines, versions"
	cmd := onDatabase("doctor", short, "", func(c *call) error {
		e := examination{doctor.Examination{Out: c.out}}
		facts, err := c.db.Facts(c.Context())
		if err != nil {
			return err
		}
		e.Server(facts)
		e.Grants(facts)
		if err := e.transactions(c, facts.User); err != nil {
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
		if e.Worst > doctor.OK {
			return &cli.ExitError{Code: e.Worst}
		}
		return nil
	})
	cmd.Long = `Check everything outside the rules that sync depends on. Each finding is ok, warn or fail. A failure
stops sync or can lose acknowledged rows. Exit 0: all ok; 1: a warning; 2: a failure.`
	return cmd
}

// examination judges what the server adds to its database.
type examination struct{ doctor.Examination }

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
		e.Say(doctor.Warn, "transactions",
			"rules that read by update_time miss rows whose transaction is open for longer than "+
				"the rule's lag, because "+user+" may not see transactions; grant process on *.* to "+user)
	case held != "":
		e.Say(doctor.Warn, "transactions", held+"; rows that were written after it wait for its end")
	default:
		e.Say(doctor.OK, "transactions", "none holds back reading by update_time")
	}
	return nil
}

// schema reports whether the schema is this program's, without which the rules cannot be read. Triggers that the
// account may not make are left out, and with them the history of edits.
func (e *examination) schema(c *call) bool {
	skipped, err := c.db.CheckSchema(c.Context())
	switch {
	case err != nil:
		e.Say(doctor.Fail, "schema", strings.ReplaceAll(withRemedy(err).Error(), "\n", "; "))
	case len(skipped) > 0:
		e.Say(doctor.Warn, "schema", "edits of rules are not recorded: 'syncgate migrate' could not run "+
			strings.Join(skipped, ", "))
	default:
		e.Say(doctor.OK, "schema", "up to date")
	}
	return err == nil
}

// triggers reports those whose account is gone. Every edit of a rule or of a recorded table fails with error 1449 then.
func (e *examination) triggers(c *call) error {
	orphaned, err := c.db.OrphanedTriggers(c.Context())
	for _, t := range orphaned {
		e.Say(doctor.Fail, "triggers",
			t+": the account that made the trigger is gone, so that every change of the table fails "+
				"with error 1449; drop the trigger, then run 'syncgate migrate', or for sync_change_… "+
				"'syncgate rules init TABLE --changes --write'")
	}
	return err
}

// keys reports whether the master key opens the points' keys.
func (e *examination) keys(c *call) {
	stored, err := c.db.Keys(c.Context())
	if err != nil {
		e.Say(doctor.Fail, "keys", err.Error())
		return
	}
	file := c.cfg.MasterKey
	master, err := readMasterKey(file)
	switch n := opens(master, stored); {
	case errors.Is(err, fs.ErrNotExist) && len(stored) == 0:
		e.Say(doctor.OK, "keys", "no point is enrolled yet; "+file+" is made with the first key")
	case err != nil:
		e.Say(doctor.Fail, "keys", fmt.Sprintf("master_key_file %s: %v; %d keys are sealed under it", file, err,
			len(stored)))
	case n < len(stored):
		e.Say(doctor.Fail, "keys",
			fmt.Sprintf("%s opens %d of %d keys; the others are sealed under another master key: put that "+
				"file back, or give those points new keys with 'syncgate point rotate'", file, n, len(stored)))
	default:
		e.Say(doctor.OK, "keys", fmt.Sprintf("%s opens all %d", file, n))
	}
}

func (e *examination) rules(ds []rule.Diagnostic, rules int) {
	bad := map[rule.Severity]int{}
	for _, d := range ds {
		bad[d.Severity]++
		switch d.Code {
		case rule.NoWatermarkIndex:
			e.Say(doctor.Warn, "index", d.String())
		case rule.NoWatermark, rule.NullWatermark, rule.UnseenTransactions:
			e.Say(doctor.Warn, "watermark", d.String())
		}
	}
	switch {
	case bad[rule.Error] > 0:
		e.Say(doctor.Fail, "rules", text.Plural(bad[rule.Error], "error")+"; see 'syncgate rules check'")
	case bad[rule.Warning] > 0:
		e.Say(doctor.Warn, "rules", text.Plural(bad[rule.Warning], "warning")+"; see 'syncgate rules check'")
	default:
		e.Say(doctor.OK, "rules", text.Plural(rules, "rule")+", nothing wrong")
	}
}
