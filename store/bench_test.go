package store

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/internal/rowset"
	"syncgate/rule"
	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

// The benchmarks stand beside what the plain driver does with the same rows on the same durable server. Set
// SYNCGATE_BENCH_DSN to measure another one.

const benchTable = `CREATE TABLE bench_log (
	id BIGINT UNSIGNED NOT NULL PRIMARY KEY, url VARCHAR(200) NOT NULL, ip VARCHAR(64) NOT NULL, title VARCHAR(200),
	hits INT NOT NULL, score DOUBLE NOT NULL, update_time DATETIME(6) NOT NULL, KEY (update_time, id)) ENGINE = InnoDB`

const benchInsert = "INSERT INTO bench_log (id, url, ip, title, hits, score, update_time) VALUES "

func benchStore(b *testing.B) *Store {
	b.Helper()
	dsn := os.Getenv("SYNCGATE_BENCH_DSN")
	if dsn == "" {
		server := localdbtest.Server(b, localdb.Options{Durable: true})
		if err := server.CreateDatabase(b.Context(), "bench"); err != nil {
			b.Fatal(err)
		}
		dsn = server.DSN("bench")
	}
	s := openDSN(b, dsn, func(o *Options) { o.MaxConns = 64 })
	exec(b, s, "DROP TABLE IF EXISTS bench_log")
	exec(b, s, benchTable)
	exec(b, s, "DELETE FROM sync_request")
	return s
}

func benchPlan(b *testing.B, s *Store) *rule.Plan {
	b.Helper()
	return planOf(b, s, uploadRule("bench_log", "", "",
		"-- downside: insert\n"+benchInsert+"(:id, :url, :ip, :title, :hits, :score, :update_time)\n"))
}

var benchID atomic.Uint64

func benchRow(dst []any) []any {
	id := benchID.Add(1)
	return append(dst, int64(id), fmt.Sprintf("http://example.com/path/%d/index.html", id), "192.0.2.17",
		"A title of some length for a page", int64(id%1000), float64(id)/7, "2026-01-02 03:04:05.123456")
}

func BenchmarkApply1000(b *testing.B) {
	s := benchStore(b)
	p := benchPlan(b, s)
	seq := uint64(0)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		seq++
		u := &Upload{Point: "p1", Epoch: 1, Seq: seq, Plan: p}
		for range 1000 {
			u.Rows.Values = benchRow(u.Rows.Values)
		}
		b.StartTimer()
		if o := s.Apply(b.Context(), []*Upload{u})[0]; o.Err != nil {
			b.Fatal(o.Err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}

func benchDriver1000(b *testing.B, interpolate bool) {
	s := benchStore(b)
	cfg, err := mysql.ParseDSN(s.o.DSN)
	if err != nil {
		b.Fatal(err)
	}
	cfg.InterpolateParams = interpolate
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	q := rule.InsertParts{Head: benchInsert, Tuple: marks(7)}.Rows(1000)
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		var args []any
		for range 1000 {
			args = benchRow(args)
		}
		b.StartTimer()
		tx, err := db.BeginTx(b.Context(), nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tx.ExecContext(b.Context(), q, args...); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkDriver1000Prepared(b *testing.B)     { benchDriver1000(b, false) }
func BenchmarkDriver1000Interpolated(b *testing.B) { benchDriver1000(b, true) }

// BenchmarkApplyOneRow64 is 64 points with one row each in flight; workers take what waits, as the pool does.
func BenchmarkApplyOneRow64(b *testing.B) {
	s := benchStore(b)
	p := benchPlan(b, s)
	type job struct {
		u    *Upload
		done chan error
	}
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			queue := make(chan job, 64)
			var pool, points sync.WaitGroup
			for range workers {
				pool.Go(func() {
					for j := range queue {
						jobs := []job{j}
						for more := true; more && len(jobs) < 64; {
							select {
							case j, ok := <-queue:
								if more = ok; ok {
									jobs = append(jobs, j)
								}
							default:
								more = false
							}
						}
						us := make([]*Upload, len(jobs))
						for i := range jobs {
							us[i] = jobs[i].u
						}
						for i, o := range s.Apply(context.Background(), us) {
							jobs[i].done <- o.Err
						}
					}
				})
			}
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			for point := range 64 {
				points.Go(func() {
					done := make(chan error, 1)
					for left.Add(-1) >= 0 {
						u := &Upload{Point: fmt.Sprint("p", point), Epoch: 1, Seq: benchID.Add(1), Plan: p}
						u.Rows.Values = benchRow(nil)
						queue <- job{u, done}
						if err := <-done; err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			points.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			close(queue)
			pool.Wait()
		})
	}
}

func BenchmarkDriverOneRow64(b *testing.B) {
	s := benchStore(b)
	db, err := sql.Open("mysql", s.o.DSN)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(64)
	db.SetMaxIdleConns(64)
	q := benchInsert + "(?, ?, ?, ?, ?, ?, ?)"
	for _, mode := range []string{"prepared-tx", "prepared-autocommit"} {
		b.Run(mode, func(b *testing.B) {
			st, err := db.Prepare(q)
			if err != nil {
				b.Fatal(err)
			}
			defer st.Close()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			var points sync.WaitGroup
			for range 64 {
				points.Go(func() {
					for left.Add(-1) >= 0 {
						args := benchRow(nil)
						if mode == "prepared-autocommit" {
							if _, err := st.Exec(args...); err != nil {
								b.Error(err)
							}
							continue
						}
						tx, err := db.Begin()
						if err != nil {
							b.Error(err)
							return
						}
						if _, err := tx.Stmt(st).Exec(args...); err != nil {
							b.Error(err)
						}
						if err := tx.Commit(); err != nil {
							b.Error(err)
						}
					}
				})
			}
			points.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

const readRows = 100000

func benchFill(b *testing.B, s *Store) {
	p := benchPlan(b, s)
	for seq := range uint64(readRows / 1000) {
		u := &Upload{Point: "fill", Epoch: 1, Seq: seq + 1, Plan: p}
		for range 1000 {
			u.Rows.Values = benchRow(u.Rows.Values)
		}
		if o := s.Apply(b.Context(), []*Upload{u})[0]; o.Err != nil {
			b.Fatal(o.Err)
		}
	}
}

type countSink struct {
	rows, bytes int
	first       func()
}

func (c *countSink) Begin(int, []rowset.Column) error { return nil }
func (c *countSink) Row(values []any) error {
	if c.rows++; c.rows == 1 {
		c.first()
	}
	for _, v := range values {
		if text, ok := v.(string); ok {
			c.bytes += len(text)
		}
	}
	return nil
}

func BenchmarkRead(b *testing.B) {
	s := benchStore(b)
	benchFill(b, s)
	read := func(b *testing.B, p *rule.Plan, limit int) {
		b.ReportAllocs()
		var wait time.Duration
		for range b.N {
			began := time.Now()
			sink := countSink{first: func() { wait += time.Since(began) }}
			if _, err := s.Read(b.Context(), p, rule.Env{Limit: limit}, &sink); err != nil {
				b.Fatal(err)
			}
			if sink.rows != readRows {
				b.Fatal(sink.rows)
			}
		}
		b.ReportMetric(wait.Seconds()*1000/float64(b.N), "ms-to-first-row")
		b.ReportMetric(float64(b.N)*readRows/b.Elapsed().Seconds(), "rows/s")
	}
	whole := planOf(b, s, rule.Row{ID: 8, Table: "bench_log", Type: rule.Download, User: rule.Server,
		SQL: "-- upside\nSELECT * FROM bench_log\n"})
	b.Run("whole", func(b *testing.B) { read(b, whole, 0) })
	paged := *whole
	paged.Cursor = []string{"id"}
	paged.Upside = []rule.Statement{{SQL: "SELECT * FROM bench_log WHERE id > ? ORDER BY id LIMIT ?",
		Args: []rule.Arg{{Source: rule.State, Name: "id", Value: int64(0)}, {Source: rule.Limit}}}}
	for _, limit := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("paged%d", limit), func(b *testing.B) { read(b, &paged, limit) })
	}
}

func BenchmarkDriverRead(b *testing.B) {
	s := benchStore(b)
	benchFill(b, s)
	db, err := sql.Open("mysql", s.o.DSN)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	for _, mode := range []string{"prepared", "text"} {
		b.Run(mode, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				q := "SELECT * FROM bench_log"
				var args []any
				if mode == "prepared" {
					q += " WHERE id > ?"
					args = append(args, 0)
				}
				rows, err := db.Query(q, args...)
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				var raw [7]sql.RawBytes
				for rows.Next() {
					if err := rows.Scan(&raw[0], &raw[1], &raw[2], &raw[3], &raw[4], &raw[5], &raw[6]); err != nil {
						b.Fatal(err)
					}
					n++
				}
				if err := rows.Close(); err != nil || n != readRows {
					b.Fatal(n, err)
				}
			}
			b.ReportMetric(float64(b.N)*readRows/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
