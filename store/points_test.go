package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func sealed(point string) WrapKey {
	return func(id uint32) []byte { return fmt.Appendf(nil, "%s/%d", point, id) }
}

func keys(t *testing.T, s *Store) string {
	t.Helper()
	all, err := s.Keys(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, k := range all {
		if want := fmt.Sprintf("%s/%d", k.Point, k.ID); string(k.Wrapped) != want {
			t.Errorf("the key %s is %s", want, k.Wrapped)
		}
		text += fmt.Sprintf("%s%d ", k.Point, k.ID)
	}
	return text
}

func TestPointsAndKeys(t *testing.T) {
	s := open(t)
	ctx := testContext(t)
	for _, point := range []string{"b", "a"} {
		if id, err := s.AddPoint(ctx, point, "note of "+point, sealed(point)); err != nil || id != 1 {
			t.Fatal(id, err)
		}
	}
	if _, err := s.AddPoint(ctx, "a", "", sealed("a")); !errors.Is(err, ErrExists) {
		t.Errorf("enrolled twice: %v", err)
	}
	if _, err := s.AddPoint(ctx, "A", "", sealed("A")); !errors.Is(err, ErrExists) ||
		!strings.Contains(err.Error(), "point a") {
		t.Errorf("a name that differs by case: %v", err)
	}
	for _, name := range []string{"", "*"} {
		if _, err := s.AddPoint(ctx, name, "", sealed("")); err == nil {
			t.Errorf("the name %q was taken", name)
		}
	}
	equal(t, "keys", keys(t, s), "a1 b1 ")

	for want := uint32(2); want <= 3; want++ {
		if id, err := s.RotatePoint(ctx, "a", sealed("a")); err != nil || id != want {
			t.Error(id, err)
		}
	}
	equal(t, "two live at once", keys(t, s), "a2 a3 b1 ")
	if err := s.RevokePoint(ctx, "a", 3); err != nil {
		t.Error(err)
	}
	equal(t, "one revoked", keys(t, s), "a2 b1 ")
	if id, err := s.RotatePoint(ctx, "a", sealed("a")); err != nil || id != 4 {
		t.Error("an id was given twice:", id, err)
	}
	equal(t, "rotated after that", keys(t, s), "a2 a4 b1 ")
	if err := s.RevokePoint(ctx, "b", 0); err != nil {
		t.Error(err)
	}
	equal(t, "a point revoked", keys(t, s), "a2 a4 ")
	for _, err := range []error{s.RevokePoint(ctx, "b", 0), s.RevokePoint(ctx, "a", 3), s.RevokePoint(ctx, "x", 0),
		s.AllowLegacy(ctx, "x", true)} {
		if !errors.Is(err, ErrNotFound) {
			t.Error("nothing there:", err)
		}
	}
	for _, point := range []string{"b", "x"} {
		if _, err := s.RotatePoint(ctx, point, sealed(point)); !errors.Is(err, ErrNotFound) {
			t.Error("rotated:", err)
		}
	}

	at := time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.FixedZone("", 3600))
	if err := errors.Join(s.TouchPoints(ctx, PointUse{"a", 4, Modern, at}),
		s.TouchPoints(ctx, PointUse{"a", 0, Legacy, at.Add(time.Hour)}), s.AllowLegacy(ctx, "a", true)); err != nil {
		t.Fatal(err)
	}
	all, err := s.Points(ctx)
	if err != nil || len(all) != 2 || len(all[0].Keys) != 4 || len(all[1].Keys) != 1 {
		t.Fatalf("%+v %v", all, err)
	}
	a, b := all[0], all[1]
	if a.Point != "a" || a.Note != "note of a" || !a.AllowLegacy || !a.RevokedAt.IsZero() || a.CreatedAt.IsZero() ||
		!a.ModernSeenAt.Equal(at) || !a.LegacySeenAt.Equal(at.Add(time.Hour)) {
		t.Errorf("%+v", a)
	}
	if k := a.Keys[3]; k.ID != 4 || !k.LastUsedAt.Equal(at) || !k.RevokedAt.IsZero() ||
		!a.Keys[2].LastUsedAt.IsZero() || a.Keys[2].RevokedAt.IsZero() {
		t.Errorf("%+v", a.Keys)
	}
	if b.RevokedAt.IsZero() || b.Keys[0].RevokedAt.IsZero() || b.AllowLegacy {
		t.Errorf("%+v", b)
	}
}
