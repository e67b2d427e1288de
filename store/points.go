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
	Keys         []PointKey `json:"keys"` // in the order of ID
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

// liveKeys is the number of a point's keys that are valid at once: the one in use and the next.
const liveKeys = 2

// AddPoint enrols a point with its first key, whose id is 1. wrap seals the key that has the given id. ErrExists: the
// point is enrolled already.
func (s *Store) AddPoint(
	ctx context.Context, point, note string, wrap func(keyID uint32) ([]byte, error),
) (keyID uint32, err error) {
	const first = 1
	sealed, err := wrap(first)
	if err != nil {
		return 0, err
	}
	err = s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO sync_point (point_no, note) VALUES (?, NULLIF(?, ''))", point, note)
		var refused *SQLError
		if errors.As(err, &refused) && refused.Code == duplicateKey {
			return fmt.Errorf("%w: point %s", ErrExists, point)
		}
		if err != nil {
			return err
		}
		return insertKey(ctx, tx, point, first, sealed)
	})
	return first, err
}

func insertKey(ctx context.Context, tx *Tx, point string, id uint32, sealed []byte) error {
	_, err := tx.Exec(ctx, "INSERT INTO sync_point_key (point_no, key_id, wrapped) VALUES (?, ?, ?)", point, id, sealed)
	return err
}

// RotatePoint gives a point another key. Its newest key so far stays valid, older ones are revoked. ErrNotFound: no
// such point, or it is revoked. ErrKeyInUse: the point uses a key that would be revoked, and has never used the newer one.
func (s *Store) RotatePoint(
	ctx context.Context, point string, wrap func(keyID uint32) ([]byte, error),
) (keyID uint32, err error) {
	err = s.inTx(ctx, func(tx *Tx) error {
		err := tx.One(ctx, "SELECT 1 FROM sync_point WHERE point_no = ? AND revoked_at IS NULL FOR UPDATE",
			[]any{point}, new(int))
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("%w: point %s", ErrNotFound, point)
		}
		if err != nil {
			return err
		}
		var newest uint32
		err = tx.One(ctx, "SELECT COALESCE(MAX(key_id), 0) FROM sync_point_key WHERE point_no = ?",
			[]any{point}, &newest)
		if err != nil {
			return err
		}
		keyID = newest + 1
		sealed, err := wrap(keyID)
		if err != nil {
			return err
		}
		if err := insertKey(ctx, tx, point, keyID, sealed); err != nil {
			return err
		}
		return retire(ctx, tx, point)
	})
	return keyID, err
}

// retire revokes all live keys of a point but the newest two.
func retire(ctx context.Context, tx *Tx, point string) error {
	var oldest uint32
	err := tx.One(ctx, `SELECT key_id FROM sync_point_key WHERE point_no = ? AND revoked_at IS NULL
		ORDER BY key_id DESC LIMIT 1 OFFSET ?`, []any{point, liveKeys - 1}, &oldest)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	var used, newer sql.NullFloat64
	err = tx.One(ctx, `SELECT MAX(IF(key_id < ?, UNIX_TIMESTAMP(last_used_at), NULL)),
		MAX(IF(key_id >= ?, UNIX_TIMESTAMP(last_used_at), NULL)) FROM sync_point_key
		WHERE point_no = ? AND revoked_at IS NULL`, []any{oldest, oldest, point}, &used, &newer)
	if err != nil {
		return err
	}
	if used.Valid && !newer.Valid {
		return fmt.Errorf("%w: point %s has not used key %d yet", ErrKeyInUse, point, oldest)
	}
	_, err = tx.Exec(ctx, `UPDATE sync_point_key SET revoked_at = CURRENT_TIMESTAMP(6)
		WHERE point_no = ? AND key_id < ? AND revoked_at IS NULL`, point, oldest)
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
			_, err := tx.Exec(ctx, "UPDATE sync_point_key SET wrapped = ? WHERE point_no = ? AND key_id = ? AND wrapped = ?",
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
		return err
	})
}

// Keys are the live keys of the points that are not revoked.
func (s *Store) Keys(ctx context.Context) ([]WrappedKey, error) {
	var all []WrappedKey
	err := s.each(ctx, `SELECT k.point_no, k.key_id, k.wrapped FROM sync_point_key k JOIN sync_point p USING (point_no)
		WHERE k.revoked_at IS NULL AND p.revoked_at IS NULL ORDER BY k.point_no, k.key_id`,
		func(scan scanner) error {
			var k WrappedKey
			err := scan(&k.Point, &k.ID, &k.Wrapped)
			all = append(all, k)
			return err
		})
	return all, public(err)
}

// Points are all points ever enrolled, in the order of their names, with all their keys.
func (s *Store) Points(ctx context.Context) ([]Point, error) {
	var all []Point
	err := s.each(ctx, `SELECT p.point_no, COALESCE(p.note, ''), p.allow_legacy, UNIX_TIMESTAMP(p.created_at),
		UNIX_TIMESTAMP(p.revoked_at), UNIX_TIMESTAMP(p.modern_seen_at), UNIX_TIMESTAMP(p.legacy_seen_at), k.key_id,
		UNIX_TIMESTAMP(k.created_at), UNIX_TIMESTAMP(k.revoked_at), UNIX_TIMESTAMP(k.last_used_at)
		FROM sync_point p LEFT JOIN sync_point_key k USING (point_no) ORDER BY p.point_no, k.key_id`,
		func(scan scanner) error {
			var p Point
			var id sql.NullInt64
			var at [7]sql.NullFloat64
			err := scan(&p.Point, &p.Note, &p.AllowLegacy, &at[0], &at[1], &at[2], &at[3], &id, &at[4], &at[5], &at[6])
			if err != nil {
				return err
			}
			p.CreatedAt, p.RevokedAt = unix(at[0]), unix(at[1])
			p.ModernSeenAt, p.LegacySeenAt = unix(at[2]), unix(at[3])
			if n := len(all); n == 0 || all[n-1].Point != p.Point {
				all = append(all, p)
			}
			if id.Valid {
				last := &all[len(all)-1]
				last.Keys = append(last.Keys, PointKey{ID: uint32(id.Int64),
					CreatedAt: unix(at[4]), RevokedAt: unix(at[5]), LastUsedAt: unix(at[6])})
			}
			return nil
		})
	return all, public(err)
}

func unix(t sql.NullFloat64) time.Time {
	if !t.Valid {
		return time.Time{}
	}
	return time.UnixMicro(int64(t.Float64*1e6 + 0.5)).UTC()
}

// TouchPoint records that a point opened a session, with its key and its wire. The v1 wire has no key: its id is 0.
func (s *Store) TouchPoint(ctx context.Context, point string, keyID uint32, wire Wire, at time.Time) error {
	column := "modern_seen_at"
	if wire == Legacy {
		column = "legacy_seen_at"
	}
	return s.inTx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, `UPDATE sync_point p
			LEFT JOIN sync_point_key k ON k.point_no = p.point_no AND k.key_id = ?
			SET p.`+column+` = ?, k.last_used_at = ? WHERE p.point_no = ?`, keyID, stamp(at), stamp(at), point)
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
	return s.inTx(ctx, func(tx *Tx) error {
		n, err := tx.Exec(ctx, q, args...)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: %s", ErrNotFound, name)
		}
		return err
	})
}
