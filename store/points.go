package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Point is a detection point. A zero time means that it has not happened.
type Point struct {
	Point        string     `json:"point"`
	Note         string     `json:"note,omitempty"`
	AllowLegacy  bool       `json:"allow_legacy"` // the v1 wire stays open although the point has used the v2 wire
	CreatedAt    time.Time  `json:"created_at"`
	RevokedAt    time.Time  `json:"revoked_at,omitzero"`
	ModernSeenAt time.Time  `json:"modern_seen_at,omitzero"`
	LegacySeenAt time.Time  `json:"legacy_seen_at,omitzero"`
	SeenAt       time.Time  `json:"seen_at,omitzero"`    // the later of both
	Wire         Wire       `json:"last_wire,omitempty"` // the wire it used then
	Keys         []PointKey `json:"keys"`                // in the order of ID
}

// PointKey is the public part of a key.
type PointKey struct {
	ID         uint32    `json:"id"`
	CreatedAt  time.Time `json:"created_at"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
}

// WrappedKey is a live key as the database has it: sealed under the gateway's master key.
type WrappedKey struct {
	Point   string
	ID      uint32
	Wrapped []byte // at most 255 bytes
}

// Wire is the protocol that a point used.
type Wire string

// The two wires.
const (
	Modern Wire = "modern"
	Legacy Wire = "legacy"
)

// WrapKey seals a key that gets this id.
type WrapKey func(keyID uint32) []byte

// AddPoint enrols a point with its first key, whose id is 1. ErrExists: the point is enrolled already, or one whose
// name differs only by case, which people and the tables of most databases take for the same.
func (s *Store) AddPoint(ctx context.Context, point, note string, wrap WrapKey) (keyID uint32, err error) {
	const first = 1
	return first, s.inTx(ctx, func(tx *Tx) error {
		var twin string
		err := tx.One(ctx, "SELECT point_no FROM sync_point WHERE LOWER(point_no) = LOWER(?) LIMIT 1",
			[]any{point}, &twin)
		if err == nil {
			return fmt.Errorf("%w: point %s", ErrExists, twin)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO sync_point (point_no, note) VALUES (?, NULLIF(?, ''))", point, note)
		if refused := (*SQLError)(nil); errors.As(err, &refused) && refused.Code == duplicateKey {
			return fmt.Errorf("%w: point %s", ErrExists, point)
		}
		if err != nil {
			return err
		}
		return addKey(ctx, tx, point, first, wrap)
	})
}

// RotatePoint gives a point another key. Two keys are valid at once: its newest one so far stays, older ones are
// revoked. ErrNotFound: no such point, or it is revoked. ErrKeyInUse: the point uses a key that would be revoked, and
// has never used the one that would stay.
func (s *Store) RotatePoint(ctx context.Context, point string, wrap WrapKey) (keyID uint32, err error) {
	err = s.inTx(ctx, func(tx *Tx) error {
		err := tx.One(ctx, "SELECT 1 FROM sync_point WHERE point_no = ? AND revoked_at IS NULL FOR UPDATE",
			[]any{point}, new(int))
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: point %s", ErrNotFound, point)
		}
		if err == nil {
			err = tx.One(ctx, "SELECT COALESCE(MAX(key_id), 0) + 1 FROM sync_point_key WHERE point_no = ?",
				[]any{point}, &keyID)
		}
		if err == nil {
			err = addKey(ctx, tx, point, keyID, wrap)
		}
		var inUse bool
		if err == nil {
			err = tx.One(ctx, `SELECT COUNT(last_used_at) > 0 AND SUM(last_used_at IS NOT NULL AND key_id >= ?) = 0
				FROM sync_point_key WHERE point_no = ? AND revoked_at IS NULL AND key_id < ?`,
				[]any{keyID - 1, point, keyID}, &inUse)
		}
		if err == nil && inUse {
			err = fmt.Errorf("%w: point %s has not used key %d yet", ErrKeyInUse, point, keyID-1)
		}
		if err == nil {
			_, err = tx.Exec(ctx, `UPDATE sync_point_key SET revoked_at = CURRENT_TIMESTAMP(6)
				WHERE point_no = ? AND revoked_at IS NULL AND key_id < (SELECT key_id FROM (SELECT key_id
				FROM sync_point_key WHERE point_no = ? AND revoked_at IS NULL
				ORDER BY key_id DESC LIMIT 1 OFFSET 1) kept)`,
				point, point)
		}
		return err
	})
	return keyID, err
}

func addKey(ctx context.Context, tx *Tx, point string, id uint32, wrap WrapKey) error {
	const q = "INSERT INTO sync_point_key (point_no, key_id, wrapped) VALUES (?, ?, ?)"
	_, err := tx.Exec(ctx, q, point, id, wrap(id))
	return err
}

// Rewrap replaces the wrapped form of every key that is not revoked with what wrap makes of it: all or, when
// wrap fails, none.
func (s *Store) Rewrap(ctx context.Context, wrap func(WrappedKey) ([]byte, error)) (n int, err error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return 0, err
	}
	sealed := make([][]byte, len(keys))
	for i, k := range keys {
		if sealed[i], err = wrap(k); err != nil {
			return 0, err
		}
	}
	return len(keys), s.inTx(ctx, func(tx *Tx) error {
		for i, k := range keys {
			_, err := tx.Exec(ctx, "UPDATE sync_point_key SET wrapped = ? "+
				"WHERE point_no = ? AND key_id = ? AND wrapped = ?",
				sealed[i], k.Point, k.ID, k.Wrapped)
			if err != nil {
				return err
			}
		}
		var others int
		err := tx.One(ctx, `SELECT COUNT(*) FROM sync_point_key k JOIN sync_point p USING (point_no)
			WHERE k.revoked_at IS NULL AND p.revoked_at IS NULL`, nil, &others)
		if err == nil && others != len(keys) {
			err = fmt.Errorf("%w: a key was added or revoked meanwhile; run this again", ErrRetry)
		}
		return err
	})
}

// RevokePoint revokes one key of a point, or with key id 0 the point and all of its keys. ErrNotFound: there is no such
// key or point, or it is revoked already.
func (s *Store) RevokePoint(ctx context.Context, point string, keyID uint32) error {
	return s.inTx(ctx, func(tx *Tx) error {
		n, err := tx.Exec(ctx, `UPDATE sync_point_key SET revoked_at = CURRENT_TIMESTAMP(6)
			WHERE point_no = ? AND (key_id = ? OR ? = 0) AND revoked_at IS NULL`, point, keyID, keyID)
		if err == nil && keyID == 0 {
			n, err = tx.Exec(ctx, `UPDATE sync_point SET revoked_at = CURRENT_TIMESTAMP(6)
				WHERE point_no = ? AND revoked_at IS NULL`, point)
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: point %s key %d", ErrNotFound, point, keyID)
		}
		for _, table := range []string{"sync_point_status", "sync_point_agent"} {
			if err == nil && keyID == 0 {
				_, err = tx.Exec(ctx, "DELETE FROM "+table+" WHERE point_no = ?", point)
			}
		}
		return err
	})
}

// Keys are the live keys of the points that are not revoked.
func (s *Store) Keys(ctx context.Context) ([]WrappedKey, error) {
	return readAll(ctx, s, `SELECT k.point_no, k.key_id, k.wrapped
		FROM sync_point_key k JOIN sync_point p USING (point_no)
		WHERE k.revoked_at IS NULL AND p.revoked_at IS NULL ORDER BY k.point_no, k.key_id`,
		func(k *WrappedKey) []any { return []any{&k.Point, &k.ID, &k.Wrapped} })
}

// Points are all points ever enrolled, in the order of their names, with all their keys.
func (s *Store) Points(ctx context.Context) ([]Point, error) {
	var all []Point
	err := s.each(ctx, `SELECT p.point_no, COALESCE(p.note, ''), p.allow_legacy, UNIX_TIMESTAMP(p.created_at),
		UNIX_TIMESTAMP(p.revoked_at), UNIX_TIMESTAMP(p.modern_seen_at), UNIX_TIMESTAMP(p.legacy_seen_at),
		COALESCE(k.key_id, 0), UNIX_TIMESTAMP(k.created_at), UNIX_TIMESTAMP(k.revoked_at),
		UNIX_TIMESTAMP(k.last_used_at)
		FROM sync_point p LEFT JOIN sync_point_key k USING (point_no) ORDER BY p.point_no, k.key_id`,
		func(scan scanner) error {
			var p Point
			var k PointKey
			err := scan(&p.Point, &p.Note, &p.AllowLegacy, (*unixTime)(&p.CreatedAt), (*unixTime)(&p.RevokedAt),
				(*unixTime)(&p.ModernSeenAt), (*unixTime)(&p.LegacySeenAt), &k.ID, (*unixTime)(&k.CreatedAt),
				(*unixTime)(&k.RevokedAt), (*unixTime)(&k.LastUsedAt))
			if p.SeenAt = p.ModernSeenAt; !p.SeenAt.IsZero() {
				p.Wire = Modern
			}
			if p.LegacySeenAt.After(p.SeenAt) {
				p.SeenAt, p.Wire = p.LegacySeenAt, Legacy
			}
			if n := len(all); n == 0 || all[n-1].Point != p.Point {
				all = append(all, p)
			}
			if last := &all[len(all)-1]; k.ID != 0 {
				last.Keys = append(last.Keys, k)
			}
			return err
		})
	return all, public(err)
}

// unixTime scans UNIX_TIMESTAMP of a column. NULL is the zero time.
type unixTime time.Time

// Scan implements sql.Scanner.
func (t *unixTime) Scan(value any) error {
	var seconds sql.NullFloat64
	if err := seconds.Scan(value); err != nil || !seconds.Valid {
		return err
	}
	*t = unixTime(time.UnixMicro(int64(seconds.Float64*1e6 + 0.5)).UTC())
	return nil
}

// PointUse is that a point was connected, with its key and its wire. The v1 wire has no key: its id is 0.
type PointUse struct {
	Point string
	KeyID uint32
	Wire  Wire
	At    time.Time
}

// TouchPoints records when points were last connected. All get the time of the last one: they were seen within a
// second, and thousands of them take a few statements.
func (s *Store) TouchPoints(ctx context.Context, all ...PointUse) error {
	var at time.Time
	var keys []any
	points := map[Wire][]any{}
	for _, u := range all {
		if points[u.Wire] = append(points[u.Wire], u.Point); u.At.After(at) {
			at = u.At
		}
		if u.KeyID != 0 {
			keys = append(keys, u.Point, u.KeyID)
		}
	}
	seen := " = '" + stamp(at) + "' WHERE "
	return s.inTx(ctx, func(tx *Tx) error {
		err := tx.many(ctx, "UPDATE sync_point SET modern_seen_at"+seen+"point_no IN (", "?", ")", points[Modern], 1)
		if err == nil {
			err = tx.many(ctx, "UPDATE sync_point SET legacy_seen_at"+seen+"point_no IN (", "?", ")", points[Legacy], 1)
		}
		if err == nil {
			err = tx.many(ctx, "UPDATE sync_point_key SET last_used_at"+seen+"(point_no, key_id) IN (",
				"(?, ?)", ")", keys, 2)
		}
		return err
	})
}

// AllowLegacy opens or closes the v1 wire to a point that has used the v2 wire.
func (s *Store) AllowLegacy(ctx context.Context, point string, allow bool) error {
	const q = "UPDATE sync_point SET allow_legacy = ? WHERE point_no = ?"
	return s.changeOne(ctx, "point "+point, q, allow, point)
}

// changeOne runs a statement that changes one row. ErrNotFound: it matched none; name says which was meant.
func (s *Store) changeOne(ctx context.Context, name, q string, args ...any) error {
	n, err := s.exec(ctx, q, args...)
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return err
}
