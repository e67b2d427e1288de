package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log"
	"os"

	"syncgate/internal/rowset"
	"syncgate/rule"
	"syncgate/store"
	"syncgate/store/localdb"
)

// An upload is applied once, however often it is sent; what a point has is read back row by row.
func Example() {
	ctx := context.Background()
	s, stop := privateStore(ctx)
	defer stop()

	up := compile(ctx, s, rule.Row{ID: 1, Table: "black_list", Type: rule.Upload, User: rule.Server, SQL: `
-- downside: insert
INSERT INTO black_list (domain, hits) VALUES (:domain, :hits)
-- downside: update
UPDATE black_list SET hits = :hits WHERE domain = :domain`})
	u := &store.Upload{Point: "point-01", Epoch: 4711, Seq: 1, Hash: sha256.Sum256([]byte("the request")), Plan: up,
		Rows: rowset.Rows{Values: []any{"a.example", int64(3), "b.example", int64(5), "a.example", int64(4),
			"c.example", "many"}}}
	for range 2 {
		o := s.Apply(ctx, []*store.Upload{u})[0]
		fmt.Println("applied", o.Applied, o.ByOp, "put aside", len(o.Quarantined), "duplicate", o.Duplicate, o.Err)
	}

	down := compile(ctx, s, rule.Row{ID: 2, Table: "black_list", Type: rule.Download, User: rule.Server,
		SQL: "SELECT domain, hits FROM black_list ORDER BY domain"})
	page, err := s.Read(ctx, down, rule.Env{Point: "point-01"}, printer{})
	fmt.Println(page.Rows, "rows", err)
	// Output:
	// applied 3 map[insert:2 update:1] put aside 1 duplicate false <nil>
	// applied 3 map[insert:2 update:1] put aside 1 duplicate true <nil>
	// [a.example 4]
	// [b.example 5]
	// 2 rows <nil>
}

type printer struct{}

func (printer) Begin(int, []rowset.Column) error { return nil }

func (printer) Row(values []any) error {
	_, err := fmt.Println(values)
	return err
}

func compile(ctx context.Context, s *store.Store, r rule.Row) *rule.Plan {
	table, err := s.Table(ctx, r.Table)
	if err != nil {
		log.Panic(err)
	}
	r.PointNo, r.Enabled = rule.AnyPoint, true
	plan, found := rule.Compile(r, table)
	if plan == nil {
		log.Panic(found)
	}
	return plan
}

// privateStore is a store with the table black_list on a database server of its own.
func privateStore(ctx context.Context) (s *store.Store, stop func()) {
	dir, err := os.MkdirTemp("", "syncgate-example-")
	if err != nil {
		log.Panic(err)
	}
	server, err := localdb.Start(ctx, localdb.Options{Dir: dir})
	if err != nil {
		log.Panic(err)
	}
	if err := server.CreateDatabase(ctx, "centre"); err != nil {
		log.Panic(err)
	}
	// This server is made for tests and not durable, which Open refuses unless it is told.
	s, err = store.Open(ctx, store.Options{DSN: server.DSN("centre"), AcceptUnsafe: true})
	if err != nil {
		log.Panic(err)
	}
	if err := s.Migrate(ctx, nil); err != nil {
		log.Panic(err)
	}
	tx, err := s.Begin(ctx)
	if err != nil {
		log.Panic(err)
	}
	if _, err := tx.Exec(ctx, "CREATE TABLE black_list (domain VARCHAR(100) PRIMARY KEY, hits INT NOT NULL) "+
		"ENGINE = InnoDB"); err != nil {
		log.Panic(err)
	}
	if err := tx.Commit(ctx); err != nil {
		log.Panic(err)
	}
	return s, func() {
		if err := errors.Join(s.Close(), server.Stop(), os.RemoveAll(dir)); err != nil {
			log.Panic(err)
		}
	}
}
