package store

import (
	"context"
	"strings"
	"time"

	"syncgate/rule"
)

// ruleColumns are the columns of sync_control in the order of scanRule, NULL read as "".
const ruleColumns = `id, sync_table, sync_type, sync_user, sync_point_no, COALESCE(sync_field, ''),
	COALESCE(sync_range, ''), COALESCE(sync_range_value, ''), COALESCE(sync_operation_type, ''), COALESCE(sync_sql, ''),
	COALESCE(sync_patch_field, ''), COALESCE(sync_patch_field_value, ''), sync_is_carry_state,
	sync_is_use_state_carry_data, sync_is_update_state, sync_is_update_time, enabled, COALESCE(note, ''),
	COALESCE(updated_at, ''), COALESCE(updated_by, '')`

func scanRule(scan func(...any) error) (rule.Row, error) {
	var r rule.Row
	err := scan(&r.ID, &r.Table, &r.Type, &r.User, &r.PointNo, &r.Field, &r.Range, &r.RangeValue, &r.OperationType,
		&r.SQL, &r.PatchField, &r.PatchFieldValue, &r.CarryState, &r.UseCarriedState, &r.UpdateState, &r.UpdateTime,
		&r.Enabled, &r.Note, &r.UpdatedAt, &r.UpdatedBy)
	return r, err
}

// Rules reads every row of sync_control in the order of id.
func (s *Store) Rules(ctx context.Context) ([]rule.Row, error) {
	var all []rule.Row
	err := s.each(ctx, "SELECT "+ruleColumns+" FROM sync_control ORDER BY id", func(scan func(...any) error) error {
		r, err := scanRule(scan)
		all = append(all, r)
		return err
	})
	return all, public(err)
}

// RulesVersion changes with every edit of sync_control: inserts, deletes, and updates by tools that set updated_at
// themselves. It is a checksum over all columns, not a counter: compare it for equality alone.
func (s *Store) RulesVersion(ctx context.Context) (uint64, error) {
	// updated_at is read as text, which has all of its microseconds. The count keeps two equal rows from
	// cancelling each other out of the XOR.
	const q = "SELECT (BIT_XOR(CRC32(CONCAT_WS('\\0', " + ruleColumns + "))) << 24) ^ COUNT(*) FROM sync_control"
	var version uint64
	err := s.db.QueryRowContext(ctx, q).Scan(&version)
	return version, public(err)
}

// RuleState is what became of a rule.
type RuleState string

// The states of a rule. sync_rule_status has all but RuleDisabled, which is in the row of sync_control.
const (
	RuleOK       RuleState = "ok"       // in force as it stands
	RuleStale    RuleState = "stale"    // its last good version is in force; the row as it stands does not compile
	RuleBroken   RuleState = "broken"   // nothing of it is in force; no version has compiled since the start
	RuleDisabled RuleState = "disabled" // nothing of it is in force; the row is switched off
)

// RuleStates are all states, in order.
func RuleStates() []RuleState { return []RuleState{RuleOK, RuleStale, RuleBroken, RuleDisabled} }

// RuleStatus is what was found when a rule was compiled.
type RuleStatus struct {
	RuleID    uint64
	State     RuleState
	Problem   *rule.Diagnostic // the first error; nil when there is none
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
				r.RuleID, string(r.State), code, p.Column, p.Section, p.Line, p.Col, clip(text, textMax), s.stamp(r.CheckedAt))
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "DELETE FROM sync_rule_status WHERE rule_id NOT IN (SELECT id FROM sync_control)")
		return err
	})
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
				failure, failedAt = clip(r.LastFailure, textMax), s.stamp(r.FailedAt)
			}
			_, err := tx.Exec(ctx, `INSERT INTO sync_rule_status (rule_id, last_run_at, runs, rows_moved, failures,
				last_failure, last_failure_at) VALUES (?, ?, ?, ?, ?, ?, ?)
				ON DUPLICATE KEY UPDATE last_run_at = VALUES(last_run_at), runs = runs + VALUES(runs),
				rows_moved = rows_moved + VALUES(rows_moved), failures = failures + VALUES(failures),
				last_failure = COALESCE(VALUES(last_failure), last_failure),
				last_failure_at = COALESCE(VALUES(last_failure_at), last_failure_at)`,
				r.RuleID, s.stamp(r.At), r.Runs, r.Rows, r.Failures, failure, failedAt)
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
func (s *Store) stamp(t time.Time) string {
	zone, err := time.Parse("-07:00", s.o.TimeZone)
	if err != nil {
		return rule.DateTime(t.UTC()) // Open has looked at TimeZone
	}
	return rule.DateTime(t.In(zone.Location()))
}
