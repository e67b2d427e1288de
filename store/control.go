package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Rules reads every row of sync_control in the order of id.
func (s *Store) Rules(ctx context.Context) ([]rule.Row, error) { return s.rules(ctx, "sync_control") }

// FetchedRules reads the rows that the centre gave to this point.
func (s *Store) FetchedRules(ctx context.Context) ([]rule.Row, error) {
	return s.rules(ctx, "sync_agent_rule")
}

func (s *Store) rules(ctx context.Context, table string) ([]rule.Row, error) {
	rows, err := readAll(ctx, s, "SELECT "+s.columns.selected()+" FROM "+table+" ORDER BY id", s.columns.fields)
	for i := range rows { // texts, as in the original's table, compare without case and blanks at the end
		r := &rows[i]
		r.Table, r.PointNo = strings.TrimRight(r.Table, " "), strings.TrimRight(r.PointNo, " ")
		for _, word := range []*string{&r.Type, &r.User, &r.Range} {
			*word = strings.ToLower(strings.TrimSpace(*word))
		}
	}
	return rows, err
}

// SaveFetchedRules replaces the rows that FetchedRules reads. It ignores columns that are not declared.
func (t *Tx) SaveFetchedRules(ctx context.Context, rows [][]rowset.StateItem) error {
	if _, err := t.Exec(ctx, "DELETE FROM sync_agent_rule"); err != nil {
		return err
	}
	for _, row := range rows {
		query, values := t.s.columns.fetched(row)
		if _, err := t.Exec(ctx, query, values...); err != nil {
			return err
		}
	}
	return nil
}

// RulesVersion changes with every edit of sync_control. Compare it for equality only. Where the triggers that count
// edits exist, it is a hash of their counts and of the number of rows, because TRUNCATE fires no trigger. Elsewhere it
// is a hash of all rows.
func (s *Store) RulesVersion(ctx context.Context) (uint64, error) {
	// An account without the TRIGGER privilege sees no triggers. created tells when one was made anew: until then
	// it may have missed edits.
	const counted = `SELECT COUNT(*), CONCAT_WS(' ', MAX(created), (SELECT SUM(edited) FROM sync_control_edit),
			(SELECT COUNT(*) FROM sync_control))
		FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND event_object_table = 'sync_control'
		AND trigger_name IN ('sync_control_edit_insert', 'sync_control_edit_update', 'sync_control_edit_delete')`
	var triggers int
	var state string
	if err := s.db.QueryRowContext(ctx, counted).Scan(&triggers, &state); err != nil {
		return 0, public(err)
	}
	if triggers < 3 {
		// A sum, unlike an XOR, does not cancel equal changes out; the id makes each row's hash another.
		hash := `SHA2(CONCAT_WS('\0', ` + s.columns.selected() + `), 256)`
		q := `SELECT COALESCE(SUM(CAST(CONV(LEFT(` + hash + `, 16), 16, 10) AS UNSIGNED)), 0) FROM sync_control`
		if err := s.db.QueryRowContext(ctx, q).Scan(&state); err != nil {
			return 0, public(err)
		}
	}
	sum := sha256.Sum256([]byte(state))
	return binary.BigEndian.Uint64(sum[:]), nil
}

// RuleState is what became of a rule.
type RuleState string

// The states of a rule. sync_rule_status has all but RuleDisabled, which is in the row of sync_control.
const (
	RuleOK       RuleState = "ok"       // in force as it stands
	RuleStale    RuleState = "stale"    // its last good version is in force; the row as it stands does not compile
	RuleBroken   RuleState = "broken"   // nothing of it is in force; no version has compiled since the start
	RuleDisabled RuleState = "disabled" // nothing of it is in force; the row is switched off
	// RuleElsewhere is the state of a rule of the server in the database of a point.
	RuleElsewhere RuleState = "elsewhere"
)

// RuleStates are the states that a rule has where it may run, in order.
func RuleStates() []RuleState { return []RuleState{RuleOK, RuleStale, RuleBroken, RuleDisabled} }

// RuleStatus is what was found when a rule was compiled.
type RuleStatus struct {
	RuleID    uint64
	State     RuleState
	Problem   *rule.Diagnostic // the first error; nil when there is none
	Warnings  []rule.Diagnostic
	CheckedAt time.Time
}

// SaveRuleStatus writes what was found and forgets rules that are gone from sync_control.
func (s *Store) SaveRuleStatus(ctx context.Context, all []RuleStatus) error {
	return s.inTx(ctx, func(tx *Tx) error {
		for _, r := range all {
			var code, text string
			var p rule.Diagnostic
			if r.Problem != nil {
				p, code, text = *r.Problem, r.Problem.Code.String(), r.Problem.Message
				if p.Fix != "" {
					text += "; " + p.Fix
				}
			}
			_, err := tx.Exec(ctx, `INSERT INTO sync_rule_status (rule_id, state, error_code, error_column,
				error_section, error_line, error_position, error_text, checked_at)
				VALUES (?, ?, NULLIF(?, ''), NULLIF(?, ''), NULLIF(?, ''), NULLIF(?, 0), NULLIF(?, 0), NULLIF(?, ''), ?)
				ON DUPLICATE KEY UPDATE state = VALUES(state), error_code = VALUES(error_code),
				error_column = VALUES(error_column), error_section = VALUES(error_section),
				error_line = VALUES(error_line), error_position = VALUES(error_position),
				error_text = VALUES(error_text), checked_at = VALUES(checked_at)`,
				r.RuleID, string(r.State), code, p.Column, p.Section, p.Line, p.Col, clip(text, textMax),
				stamp(r.CheckedAt))
			if err == nil {
				err = saveWarnings(ctx, tx, &r)
			}
			if err != nil {
				return err
			}
		}
		// TRUNCATE and a session without the triggers leave no delete in the history.
		_, err := tx.Exec(ctx, `INSERT INTO sync_control_history (control_id, action, changed_by, row_before)
			SELECT h.control_id, 'delete', 'without a trigger: TRUNCATE?', h.row_after FROM sync_control_history h
			JOIN sync_rule_status s ON s.rule_id = h.control_id LEFT JOIN sync_control c ON c.id = h.control_id
			WHERE c.id IS NULL AND h.action <> 'delete'
			AND h.id = (SELECT MAX(id) FROM sync_control_history l WHERE l.control_id = h.control_id)`)
		if err != nil {
			return err
		}
		for _, table := range []string{"sync_rule_status", "sync_rule_warning", "sync_rule_columns"} {
			if _, err := tx.Exec(ctx, "DELETE FROM "+table+
				" WHERE rule_id NOT IN (SELECT id FROM sync_control)"); err != nil {
				return err
			}
		}
		return nil
	})
}

// Difference says where the columns of a rule's table differ between this end and another. Lists have commas.
type Difference struct {
	RuleID uint64
	Peer   string // a point, or the centre
	Here   string // columns that are missing here
	There  string // columns that are missing there
}

// RuleDifferences are those that SaveRuleDifferences has written.
func (s *Store) RuleDifferences(ctx context.Context) (all []Difference, err error) {
	err = s.each(ctx, `SELECT rule_id, peer, COALESCE(missing_here, ''), COALESCE(missing_there, '')
		FROM sync_rule_columns`, func(scan scanner) error {
		var d Difference
		err := scan(&d.RuleID, &d.Peer, &d.Here, &d.There)
		all = append(all, d)
		return err
	})
	return all, public(err)
}

// SaveRuleDifferences writes what has changed. One without columns is forgotten.
func (s *Store) SaveRuleDifferences(ctx context.Context, all []Difference) error {
	return s.inTx(ctx, func(tx *Tx) error {
		for _, d := range all {
			var err error
			if d.Here == "" && d.There == "" {
				_, err = tx.Exec(ctx, "DELETE FROM sync_rule_columns WHERE rule_id = ? AND peer = ?", d.RuleID, d.Peer)
			} else {
				_, err = tx.Exec(ctx, `REPLACE INTO sync_rule_columns (rule_id, peer, missing_here, missing_there)
					VALUES (?, ?, NULLIF(?, ''), NULLIF(?, ''))`,
					d.RuleID, d.Peer, clip(d.Here, textMax), clip(d.There, textMax))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func saveWarnings(ctx context.Context, tx *Tx, r *RuleStatus) error {
	if len(r.Warnings) == 0 {
		_, err := tx.Exec(ctx, "DELETE FROM sync_rule_warning WHERE rule_id = ?", r.RuleID)
		return err
	}
	var lines []string
	for _, w := range r.Warnings {
		lines = append(lines, w.String())
	}
	_, err := tx.Exec(ctx, "REPLACE INTO sync_rule_warning (rule_id, warnings) VALUES (?, ?)", r.RuleID,
		clip(strings.Join(lines, "\n"), textMax))
	return err
}

// RuleRuns are the runs of one rule since the last call of AddRuleRuns.
type RuleRuns struct {
	RuleID      uint64
	Runs, Rows  uint64
	Failures    uint64
	At          time.Time // the last run
	LastFailure string    // empty: none since
	FailedAt    time.Time
}

// AddRuleRuns adds to the counters that sync_control_status shows. Call it at intervals, not for every request.
func (s *Store) AddRuleRuns(ctx context.Context, all []RuleRuns) error {
	return s.inTx(ctx, func(tx *Tx) error {
		for _, r := range all {
			var failure, failedAt any
			if r.LastFailure != "" {
				failure, failedAt = clip(r.LastFailure, textMax), stamp(r.FailedAt)
			}
			_, err := tx.Exec(ctx, `INSERT INTO sync_rule_status (rule_id, last_run_at, runs, rows_moved, failures,
				last_failure, last_failure_at) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON DUPLICATE KEY UPDATE last_run_at = VALUES(last_run_at), runs = runs + VALUES(runs),
				rows_moved = rows_moved + VALUES(rows_moved), failures = failures + VALUES(failures),
				last_failure = COALESCE(VALUES(last_failure), last_failure),
				last_failure_at = COALESCE(VALUES(last_failure_at), last_failure_at)`,
				r.RuleID, stamp(r.At), r.Runs, r.Rows, r.Failures, failure, failedAt)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// textMax keeps what is written for people within a TEXT column, bytes.
const textMax = 4000

// clip shortens text at the end of a character.
func clip(text string, most int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// stamp is t as a TIMESTAMP(6) of the session.
func stamp(t time.Time) string { return rule.DateTime(t.UTC()) }
