package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"syncgate/rule"
	"syncgate/store/localdb/localdbtest"
)

func TestMain(m *testing.M) { localdbtest.Main(m) }

// open is a migrated store on a database of its own.
func open(t testing.TB, change ...func(*Options)) *Store {
	t.Helper()
	return openDSN(t, localdbtest.New(t), change...)
}

func openDSN(t testing.TB, dsn string, change ...func(*Options)) *Store {
	t.Helper()
	o := Options{DSN: dsn, AcceptUnsafe: true}
	for _, f := range change {
		f(&o)
	}
	s, err := Open(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(testContext(t), nil); err != nil {
		t.Fatal(err)
	}
	return s
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func exec(t testing.TB, s *Store, q string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(testContext(t), q, args...); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// one is the text of a query's only value.
func one(t testing.TB, s *Store, q string, args ...any) string {
	t.Helper()
	var v sql.NullString
	if err := s.db.QueryRowContext(testContext(t), q, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return v.String
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// planOf compiles a rule against the real table.
func planOf(t testing.TB, s *Store, r rule.Row) *rule.Plan {
	t.Helper()
	table, err := s.Table(testContext(t), r.Table)
	if err != nil {
		t.Fatal(err)
	}
	r.Enabled = true
	if r.PointNo == "" {
		r.PointNo = rule.AnyPoint
	}
	p, found := rule.Compile(r, table)
	if p == nil {
		t.Fatalf("%v", found)
	}
	return p
}

func uploadRule(table, field, chain, sql string) rule.Row {
	return rule.Row{ID: 7, Table: table, Type: rule.Upload, User: rule.Server, Field: field, OperationType: chain,
		SQL: sql}
}

// upload is request seq of a point.
func upload(p *rule.Plan, point string, seq uint64, rows ...[]any) *Upload {
	u := &Upload{Point: point, Epoch: 1, Seq: seq, Plan: p,
		Env: rule.Env{Point: point, Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	for _, row := range rows {
		u.Rows.Values = append(u.Rows.Values, row...)
	}
	h := sha256.New()
	_ = binary.Write(h, binary.BigEndian, seq) // a hash takes anything
	fmt.Fprint(h, u.Rows.Values...)
	h.Sum(u.Hash[:0])
	return u
}

func applied(t testing.TB, s *Store, u *Upload) Outcome {
	t.Helper()
	o := s.Apply(testContext(t), []*Upload{u})[0]
	if o.Err != nil {
		t.Fatalf("upload %d of %s: %v", u.Seq, u.Point, o.Err)
	}
	return o
}
