// Command sync measures the whole path of syncgate, agent's socket to committed row and back, beside what the plain
// driver does with the same rows on the same durable MariaDB in the same run. Both sides take turns; what is reported
// is the median of the rounds and the ratio.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.server, "server", "../bin/syncgate", "the syncgate executable")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the median counts")
	flag.DurationVar(&o.length, "length", 2*time.Second, "length of one measurement")
	flag.IntVar(&o.rows, "rows", 200_000, "rows of the table that is downloaded")
	flag.IntVar(&o.idle, "idle", 8000, "idle sessions whose memory is weighed; 0: not weighed")
	flag.StringVar(&o.only, "only", "", "measure only the work whose name contains this")
	alive := flag.Bool("live", false, "measure instead how soon others have a row, and what subscribed points cost")
	originals := flag.Bool("original", false, "compare instead the v1 wire with a model of the original server")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	measure := run
	switch {
	case *alive:
		measure = live
	case *originals:
		measure = original
	}
	if err := measure(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench/sync:", err)
		os.Exit(1)
	}
}

type options struct {
	server string
	rounds int
	length time.Duration
	rows   int
	idle   int
	only   string
	points int      // more than usual
	env    []string // of the server
}

// contest is one kind of work, done by syncgate and by ways of using the plain driver.
type contest struct {
	name   string
	goal   float64
	before string // run before each measurement
	sides  []side // the first is syncgate
}

type side struct {
	name string
	run  func(ctx context.Context) (rows int, took time.Duration, err error)
}

func run(ctx context.Context, o options) (err error) {
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	field, err := newField(ctx, b)
	if err != nil {
		return err
	}
	contests := []contest{
		{"agent, upload of 500,000 rows", 0.85, "", field.sides(true)},
		{"agent, download of 500,000 rows", 1.0, "", field.sides(false)},
		{"1,000-row uploads, 1 connection", 0.7, "TRUNCATE up_rows", []side{{"syncgate", b.uploads(1, 1000)},
			{"driver, prepared", b.inserts(1, 1000, prepared)},
			{"driver, interpolated", b.inserts(1, 1000, interpolated)}}},
		{"1,000-row uploads, 4 connections", 0.7, "TRUNCATE up_rows", []side{{"syncgate", b.uploads(4, 1000)},
			{"driver, prepared", b.inserts(4, 1000, prepared)},
			{"driver, interpolated", b.inserts(4, 1000, interpolated)}}},
		{"one-row uploads, 64 points", 1.5, "TRUNCATE up_rows", []side{{"syncgate", b.uploads(64, 1)},
			{"driver, BEGIN … COMMIT", b.inserts(64, 1, explicit)},
			{"driver, autocommit", b.inserts(64, 1, prepared)}}},
		{"download", 0.5, "", []side{{"syncgate", b.downloads},
			{"driver, prepared", b.selects(false)}, {"driver, text", b.selects(true)}}},
	}
	fmt.Println("| work | side | rows/s | syncgate's share of it | goal |\n|---|---|---|---|---|")
	for _, c := range contests {
		if !strings.Contains(c.name, o.only) {
			continue
		}
		if err := c.hold(ctx, b.db, o.rounds); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if o.only != "" {
		return nil
	}
	fmt.Printf("\nFirst row of a download: median %v, worst %v of %d (goal 5ms).\n",
		median(b.first).Round(time.Microsecond), slices.Max(b.first).Round(time.Microsecond), len(b.first))
	if o.idle == 0 {
		return nil
	}
	bytes, err := b.idle(ctx, o.idle)
	if err == nil {
		fmt.Printf("Resident bytes of the server for each of %d idle authenticated sessions: %.0f (goal 2,500).\n",
			o.idle, bytes)
	}
	return err
}

// hold lets the sides take turns and prints their medians.
func (c *contest) hold(ctx context.Context, db *sql.DB, rounds int) error {
	rates := make([][]float64, len(c.sides))
	for range rounds {
		for i, s := range c.sides {
			if c.before != "" {
				if _, err := db.ExecContext(ctx, c.before); err != nil {
					return err
				}
			}
			rows, took, err := s.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			rates[i] = append(rates[i], float64(rows)/took.Seconds())
		}
	}
	ours := median(rates[0])
	fmt.Printf("| %s | %s | %.0f | | %.2f |\n", c.name, c.sides[0].name, ours, c.goal)
	for i, s := range c.sides[1:] {
		rate := median(rates[i+1])
		fmt.Printf("| | %s | %.0f | %.2f | |\n", s.name, rate, ours/rate)
	}
	return nil
}

func median[T interface{ ~int64 | ~float64 }](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
