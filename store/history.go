package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"syncgate/rule"
)

// RuleLine is a rule with its state, as sync_control_status shows it.
type RuleLine struct {
	ID          uint64    `json:"id"`
	Table       string    `json:"sync_table"`
	Type        string    `json:"sync_type"`
	User        string    `json:"sync_user"`
	PointNo     string    `json:"sync_point_no"`
	Enabled     bool      `json:"enabled"`
	State       string    `json:"state"` // a RuleState, failing at a point, or new while no server has looked at it
	Error       string    `json:"error,omitempty"`
	RowsMoved   uint64    `json:"rows_moved"`
	Failures    uint64    `json:"failures"`
	LastRun     time.Time `json:"last_run,omitzero"`
	LastFailure string    `json:"last_failure,omitempty"`
	Place       string    `json:"place,omitempty"` // of the error in the row
	Warnings    string    `json:"warnings,omitempty"`
	UpdatedAt   time.Time `json:"updated_at,omitzero"`
	UpdatedBy   string    `json:"updated_by,omitempty"`

	// What the points report of the rule, or of the one that works with it:
	Points      uint64 `json:"points"`            // that report it
	InTrouble   uint64 `json:"points_in_trouble"` // where it is broken, stale or fails
	LagMs       uint64 `json:"lag_ms"`            // the largest
	BacklogRows uint64 `json:"backlog_rows"`
}

// RuleStates lists the rules in the order of id, with what the server last recorded about each.
func (s *Store) RuleStates(ctx context.Context) ([]RuleLine, error) {
	return readAll(ctx, s, `SELECT id, sync_table, sync_type, sync_user, sync_point_no, enabled, state,
		COALESCE(CONCAT_WS(' ', error_code, error_text), ''), rows_moved, failures, UNIX_TIMESTAMP(last_run_at),
		COALESCE(last_failure, ''), points_reporting, points_in_trouble, COALESCE(lag_ms, 0), COALESCE(backlog_rows, 0),
		CONCAT(COALESCE(error_column, ''), COALESCE(CONCAT('[', error_section, ']'), ''),
		COALESCE(CONCAT(' ', error_line, ':', error_position), '')), COALESCE(warnings, ''), UNIX_TIMESTAMP(updated_at),
		COALESCE(updated_by, '') FROM sync_control_status ORDER BY id`, func(r *RuleLine) []any {
		return []any{&r.ID, &r.Table, &r.Type, &r.User, &r.PointNo, &r.Enabled, &r.State, &r.Error, &r.RowsMoved,
			&r.Failures, (*unixTime)(&r.LastRun), &r.LastFailure, &r.Points, &r.InTrouble, &r.LagMs, &r.BacklogRows,
			&r.Place, &r.Warnings, (*unixTime)(&r.UpdatedAt), &r.UpdatedBy}
	})
}

// Edit is one edit of sync_control. Before is nil for an insert, After for a delete.
type Edit struct {
	ID     uint64    `json:"edit"`
	RuleID uint64    `json:"rule_id"`
	Action string    `json:"action"` // insert, update, delete
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Before *rule.Row `json:"before"`
	After  *rule.Row `json:"after"`
}

// History lists the newest edits first: of one rule, or of all when ruleID is 0. It is empty where the deployment does
// not allow the triggers that keep it.
func (s *Store) History(ctx context.Context, ruleID uint64, limit int) ([]Edit, error) {
	var all []Edit
	err := s.each(ctx, `SELECT id, control_id, action, UNIX_TIMESTAMP(changed_at), changed_by, row_before, row_after
		FROM sync_control_history WHERE control_id = ? OR ? = 0 ORDER BY id DESC LIMIT ?`, func(scan scanner) error {
		var e Edit
		var before, after sql.NullString
		if err := scan(&e.ID, &e.RuleID, &e.Action, (*unixTime)(&e.At), &e.By, &before, &after); err != nil {
			return err
		}
		var err error
		if e.Before, err = s.columns.past(before); err == nil {
			e.After, err = s.columns.past(after)
		}
		if err != nil {
			return fmt.Errorf("sync_control_history id %d: %w", e.ID, err)
		}
		all = append(all, e)
		return nil
	}, ruleID, ruleID, limit)
	return all, public(err)
}

// SaveRule writes a row of sync_control: a new one when its ID is 0, else that one, whether it exists or was deleted.
// Empty texts are stored as NULL. It returns the row's id.
func (s *Store) SaveRule(ctx context.Context, r rule.Row) (uint64, error) {
	q, values := s.columns.save(&r)
	res, err := s.db.ExecContext(ctx, q, values...)
	if err != nil {
		return 0, public(err)
	}
	if r.ID != 0 {
		return r.ID, nil
	}
	id, err := res.LastInsertId()
	return uint64(id), public(err)
}
