package store

import (
	"context"
	"fmt"
)

// Resync is a comparison of a table that a point is asked for, and what came of it.
type Resync struct {
	ID       uint64 `json:"id"`
	Point    string `json:"point"`
	Table    string `json:"table"`
	Type     string `json:"type"` // of the rule; upload: the point's rows are right, download: the centre's
	Where    string `json:"where,omitempty"`
	DryRun   bool   `json:"dry_run"`
	State    string `json:"state"` // asked, running, done or failed
	Compared uint64 `json:"compared"`

	MissingThere uint64 `json:"missing_at_centre"`
	MissingHere  uint64 `json:"missing_at_point"`
	Different    uint64 `json:"different"`
	Note         string `json:"note,omitempty"`
}

const resyncColumns = `SELECT id, point_no, sync_table, sync_type, row_condition, dry_run, state, compared, missing_there,
	missing_here, different, COALESCE(note, '') FROM sync_resync `

func (s *Store) resyncs(ctx context.Context, where string, args ...any) ([]Resync, error) {
	return readAll(ctx, s, resyncColumns+where, func(r *Resync) []any {
		return []any{&r.ID, &r.Point, &r.Table, &r.Type, &r.Where, &r.DryRun, &r.State, &r.Compared, &r.MissingThere,
			&r.MissingHere, &r.Different, &r.Note}
	}, args...)
}

// AskResync asks a point for a comparison. It counts as an edit of the rules, so that connected points learn of it.
func (s *Store) AskResync(ctx context.Context, r Resync) (id uint64, err error) {
	err = s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM sync_resync WHERE reported_at < NOW(6) - INTERVAL 90 DAY AND state IN ('done', 'failed')")
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO sync_resync (point_no, sync_table, sync_type, row_condition, dry_run)
			VALUES (?, ?, ?, ?, ?)`, r.Point, r.Table, r.Type, r.Where, r.DryRun)
		if err == nil {
			err = tx.One(ctx, "SELECT LAST_INSERT_ID()", nil, &id)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO sync_control_edit (slot, edited)
				VALUES (CONNECTION_ID() % 64, UNIX_TIMESTAMP(NOW(6)) * 1000000)
				ON DUPLICATE KEY UPDATE edited = GREATEST(edited + 1, VALUES(edited))`)
		}
		return err
	})
	return id, err
}

// Resync reads one comparison of a point, or returns ErrNotFound.
func (s *Store) Resync(ctx context.Context, id uint64, point string) (Resync, error) {
	all, err := s.resyncs(ctx, "WHERE id = ? AND point_no = ?", id, point)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%w: sync_resync id=%d of point %s", ErrNotFound, id, point)
	}
	if err != nil {
		return Resync{}, err
	}
	return all[0], nil
}

// NextResync is the first comparison that a point has not finished; the zero Resync when there is none.
func (s *Store) NextResync(ctx context.Context, point string) (Resync, error) {
	all, err := s.resyncs(ctx, "WHERE point_no = ? AND state IN ('asked', 'running') ORDER BY id LIMIT 1", point)
	if err != nil || len(all) == 0 {
		return Resync{}, err
	}
	return all[0], nil
}

// ReportResync keeps what a point reports.
func (s *Store) ReportResync(ctx context.Context, r Resync) error {
	return s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sync_resync SET state = ?, compared = ?, missing_there = ?, missing_here = ?,
			different = ?, note = ?, reported_at = NOW(6) WHERE id = ? AND point_no = ? AND state IN ('asked', 'running')`,
			r.State, r.Compared, r.MissingThere, r.MissingHere, r.Different, r.Note, r.ID, r.Point)
		return err
	})
}
